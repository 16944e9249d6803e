"""Large bodies are read in a process of their own, which has bounds and ends with the daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.hook_messages import CI, CONTEXT, build, message
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from oneshotd.core.events import Count, End, Group, NewEvent, Start
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.mapping import Outgrown
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.registry import PRESETS
from oneshotd.ingest.dialects.translation import Translation
from oneshotd.ingest.hooks import large_bodies
from oneshotd.ingest.hooks.hooks import Hook, Hooks
from oneshotd.ingest.hooks.large_bodies import LARGE, MAX_WAITING, LargeBodies
from oneshotd.ingest.hooks.wire import Head, Job, ResultReader, refusal_line, result_lines

reactor: Any = _reactor

RECIPE = Recipe.parse("ci", tomllib.loads(CI))


def body(builds: int, filler: int = 0) -> bytes:
    """A body of `CI`."""
    whole = {"ref": "main", "filler": "x" * filler, "builds": [build(number) for number in range(builds)]}
    return json.dumps(whole).encode()


@pytest.fixture
def large() -> Iterator[LargeBodies]:
    made = LargeBodies(reactor)
    yield made
    made.stop()


def failure_of(done: Deferred[Translation]) -> Deferred[Exception]:
    """The exception of a translation."""
    return done.addCallbacks(lambda found: AssertionError(f"{found} came"), lambda failure: failure.value)


@pytest_twisted.ensureDeferred
async def test_a_large_body_becomes_the_same_events(large: LargeBodies) -> None:
    """A hook would have other events, or none, above a size that its sender does not know."""
    sent = message(body(3000, LARGE), {"x": "1"}, principal="token 1")
    there = await Hooks(hooks={"ci": Hook.of(RECIPE)}, large=large).translate("ci", sent, CONTEXT)
    assert there == RECIPE.translate(sent, CONTEXT)
    assert there.group is not None and len(there.group.events) == 3000


@pytest_twisted.ensureDeferred
async def test_a_large_body_of_a_preset(large: LargeBodies) -> None:
    """The alerts of a large installation would be other events, or none."""
    alerts = [
        {
            "status": "firing",
            "labels": {"alertname": "DiskFull", "instance": f"host-{number}:9100", "severity": "page"},
            "annotations": {"summary": "ä" * 40},
            "startsAt": "2026-01-02T03:04:05.678Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example.org/",
            "fingerprint": f"{number:016x}",
        }
        for number in range(1500)
    ]
    whole = {
        "version": "4",
        "status": "firing",
        "receiver": "oneshotd",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "",
        "groupKey": "{}:{}",
        "alerts": alerts,
    }
    sent = message(whole)
    assert len(sent.body) > LARGE
    there = await Hooks(large=large).translate("alertmanager", sent, CONTEXT)
    assert there.group is not None and len(there.group.events) == 1500
    assert there == Recipe.parse("alertmanager", {"preset": "alertmanager"}).translate(sent, CONTEXT)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_job_of_each_preset_goes_over_the_wire(preset: str) -> None:
    recipe = Recipe.parse("x", {"preset": preset, "labels": {"team": "=shop"}})
    job = Job(recipe=recipe, message=message(b"{}"), context=CONTEXT)
    assert Head.parse(job.head()).job(b"{}") == job


@pytest_twisted.ensureDeferred
async def test_a_refusal_comes_back(large: LargeBodies) -> None:
    for sent, why in ((b"[1, 2", "not JSON"), (body(10_001), "more than 10000 events")):
        refused = await failure_of(large.translate(RECIPE, message(sent), CONTEXT))
        assert isinstance(refused, Refused) and why in refused.text
        with pytest.raises(Refused) as here:
            RECIPE.translate(message(sent), CONTEXT)
        assert (refused.text, refused.status) == (here.value.text, here.value.status)


@pytest_twisted.ensureDeferred
async def test_memory_is_bounded(large: LargeBodies) -> None:
    """A body of 25 MB would take a gigabyte, and the kernel would end the daemon."""
    empty = b'{"builds": [' + b"[]," * 8_300_000 + b"[]]}"
    refused = await failure_of(large.translate(RECIPE, message(empty), CONTEXT))
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason) == (413, "limit")
    assert "more than 512 MiB of memory" in refused.text


@pytest_twisted.ensureDeferred
async def test_one_at_a_time_and_few_wait(large: LargeBodies, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst of large bodies would fill memory and processors."""
    spawned = recorded_spawns(monkeypatch)
    first = [large.translate(RECIPE, message(body(1)), CONTEXT) for _ in range(1 + MAX_WAITING)]
    refused = await failure_of(large.translate(RECIPE, message(body(1)), CONTEXT))
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason) == (503, "busy")
    assert len(spawned) == 1
    assert len(await gatherResults(first)) == 1 + MAX_WAITING
    assert await large.translate(RECIPE, message(body(1)), CONTEXT)


def recorded_spawns(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Record the processes that are started."""
    spawned: list[object] = []
    spawn = reactor.spawnProcess

    def recorded(*arguments: Any, **named: Any) -> Any:
        spawned.append(arguments[0])
        return spawn(*arguments, **named)

    monkeypatch.setattr(reactor, "spawnProcess", recorded)
    return spawned


@pytest_twisted.ensureDeferred
async def test_a_client_that_hangs_up_ends_its_process(large: LargeBodies) -> None:
    """A client that repeats and hangs up would keep a processor busy."""
    running = large.translate(RECIPE, message(body(1)), CONTEXT)
    waiting = large.translate(RECIPE, message(body(1)), CONTEXT)
    last = large.translate(RECIPE, message(body(1)), CONTEXT)
    for done in (running, waiting):
        done.cancel()
        assert isinstance(await failure_of(done), CancelledError)
    assert await last


@pytest_twisted.ensureDeferred
async def test_the_stop_ends_the_process(large: LargeBodies) -> None:
    done = [large.translate(RECIPE, message(body(1)), CONTEXT) for _ in range(2)]
    large.stop()
    for each in done:
        refused = await failure_of(each)
        assert isinstance(refused, Refused) and refused.status == 503
    refused = await failure_of(large.translate(RECIPE, message(body(1)), CONTEXT))
    assert isinstance(refused, Refused) and refused.text == "the daemon stops"


#: The process with something else that it does.
CHANGED = """
import sys, time; sys.path[:] = sys.argv[1:]
from oneshotd.ingest.hooks import child
def spin(line):
    while True: pass
%s
child.main()
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit('no module')", "hook"),
        ("import os; os.kill(os.getpid(), 9)", "hook"),
        ("print('no JSON')", "hook"),
        ("print('{}', flush=True)", "hook"),
        ("import os, sys\nwhile True: sys.stdout.buffer.write(b'[]' * 100000)", "hook"),
        (CHANGED % "child.MAX_CPU_SECONDS = 1; child.Head.parse = spin", "limit"),
        (CHANGED % "child.MAX_SECONDS = 1; child.Head.parse = lambda line: time.sleep(60)", "limit"),
        (CHANGED % "child.Head.parse = lambda line: 1 / 0", "hook"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_process_that_fails_is_a_refusal(
    large: LargeBodies, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    """The request would hang, or the next large body would never have its turn."""
    monkeypatch.setattr(large_bodies, "_CODE", code)
    refused = await failure_of(large.translate(RECIPE, message(body(1)), CONTEXT))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.status) == (reason, 413 if reason == "limit" else 503)
    monkeypatch.undo()
    assert await large.translate(RECIPE, message(body(1)), CONTEXT)


def test_a_process_ends_with_the_daemon() -> None:
    """After `kill -9` of the daemon a process would go on, beside that of the next one."""
    read, write = os.pipe()
    os.set_inheritable(read, True)
    job = Job(recipe=RECIPE, message=message(body(1)), context=CONTEXT)
    code = f"import os; os.dup2({read}, 3); " + large_bodies._CODE
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        close_fds=False,
    ) as process:
        assert process.stdin is not None
        os.close(read)
        process.stdin.write(job.head())  # and it waits for the body
        process.stdin.flush()
        until = time.monotonic() + 30
        while not _is_async(process.pid):
            assert time.monotonic() < until
            time.sleep(0.01)  # its descriptors tell no one when they change
        os.close(write)
        assert process.wait(30) == -signal.SIGIO


def _is_async(pid: int) -> bool:
    try:
        flags = Path(f"/proc/{pid}/fdinfo/3").read_text().split()[3]
    except OSError:
        return False
    return bool(int(flags, 8) & os.O_ASYNC)


def test_the_process_starts_without_twisted() -> None:
    """Each large body would wait for imports that it does not need."""
    code = (
        "import sys, oneshotd.ingest.hooks.child; print([n for n in sys.modules if n.startswith('twisted')])"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert found.stdout.strip() == b"[]"


def test_all_of_a_translation_goes_over_the_wire() -> None:
    """A preset's pairs of start and end would be lost in large bodies."""
    events = [
        NewEvent(f'e{{n="{number}"}}', str(number), f"k{number}", '{"a":"\\u00e4"}') for number in range(250)
    ]
    states = (
        Start(event=0, key="a", seconds=1.5),
        End(event=1, key="b"),
        Count(event=2, key="c", count=7, unknown=1, seconds=3600.0),
    )
    for found in (
        Translation(group=Group(events=events, states=states, keys_decide=True), ignored=3),
        Translation(group=Group(events=events[:1], key="all")),
        Translation(ignored=2),
    ):
        reader = ResultReader()
        for line in result_lines(found):
            assert not reader.is_whole
            assert len(line) < 100_000
            reader.take(line)
        assert reader.is_whole
        assert reader.translation() == found


def test_all_of_a_job_goes_over_the_wire() -> None:
    job = Job(recipe=RECIPE, message=message(b"\xff\x00", {"a": "\xe4"}, principal="ä"), context=CONTEXT)
    line = job.head()
    assert line.count(b"\n") == 1
    head = Head.parse(line)
    assert head.size == 2
    assert head.job(b"\xff\x00") == job


def test_a_refusal_goes_over_the_wire() -> None:
    reader = ResultReader()
    reader.take(refusal_line(Refused("why", reason="limit", status=413)))
    assert reader.is_whole
    with pytest.raises(Refused, match="why") as refused:
        reader.translation()
    assert (refused.value.reason, refused.value.status) == ("limit", 413)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ('each = "/b"\nlabels.a = "=b"\ndetail = {x = "^/t"}', {"t": "\1" * 40_000, "b": [{}] * 1000}),
        ('each = "/b"\nlabels.a = "^/t"', {"t": "x" * 4000, "b": [0] * 1000}),
        (
            'format = "cloudevents"\neach = "/data"\nlabels.a = "=b"\nkey = "{#}"',
            {
                **{"specversion": "1.0", "id": "1", "source": "a", "type": "b"},
                "datacontenttype": "application/json",
                "data_base64": b64encode(b"[%b1]" % (b"1," * 9999)).decode(),
            },
        ),
    ],
    ids=["details", "labels", "base64"],
)
@pytest_twisted.ensureDeferred
async def test_a_small_body_that_becomes_much_is_read_there(
    large: LargeBodies, text: str, sent: dict[str, Any]
) -> None:
    """A body of 40 KB would hold up scrapes for seconds."""
    recipe = Recipe.parse("ci", tomllib.loads(text))
    asked = message(sent, {"content-type": "application/cloudevents+json"})
    assert not large_bodies.is_large(asked.body, recipe)
    with pytest.raises(Outgrown):
        recipe.translate(asked, CONTEXT, work=large_bodies.SMALL_WORK)
    hooks = Hooks(hooks={"ci": Hook.of(recipe)}, large=large)
    there = await hooks.translate("ci", asked, CONTEXT)
    assert there == recipe.translate(asked, CONTEXT)
    with pytest.raises(Refused, match="fewer elements") as refused:
        hooks.trial("ci", asked, CONTEXT)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("tables", "elements"),
    [
        ({"each": "/b", "labels": {"a": "/x"}}, 5000),
        ({"each": "/b", "labels": {f"a{number}": "/x" for number in range(20)}}, 1041),
        ({"labels": {"a": "/x"}}, 25_000),
        ({"preset": "kubernetes"}, 1250),
        ({"preset": "github"}, 25_000),
    ],
)
def test_a_body_is_large_by_what_its_elements_cost(tables: dict[str, Any], elements: int) -> None:
    recipe = Recipe.parse("x", tables)
    assert not large_bodies.is_large(b"," * elements, recipe)
    assert large_bodies.is_large(b"," * (elements + 1), recipe)
