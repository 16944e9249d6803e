"""The package. Its parts are named one by one: `find_packages` skips the folder of the twistd plugin."""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def version() -> str:
    """The version is said once, in the package."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "oneshotd/__init__.py").read_text(), re.MULTILINE)
    assert found, "oneshotd/__init__.py has no __version__"
    return found[1]


def readme() -> str:
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


# The oldest that the tests have run with: Debian 13's. pyOpenSSL brings `cryptography`.
TLS = ["pyopenssl>=25.0", "service_identity"]
AUTH = [*TLS, "bcrypt>=4.2", "pyyaml>=6.0.2"]
# The oldest that the tests have run with: Debian 12's; the pipeline mode came with 3.1.
POSTGRESQL = ["psycopg>=3.1"]

setup(
    name="oneshotd",
    version=version(),
    description="Turns events into one-shot metrics: each goes once to every Prometheus-style scraper",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="the oneshotd developers",
    license="MIT",
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: System :: Monitoring",
    ],
    packages=[
        "oneshotd",
        "oneshotd.access",
        "oneshotd.core",
        "oneshotd.core.parsing",
        "oneshotd.core.sampling",
        "oneshotd.ctl",
        "oneshotd.daemon",
        "oneshotd.delivery",
        "oneshotd.delivery.remote_write",
        "oneshotd.emit",
        "oneshotd.emit.cli",
        "oneshotd.ingest",
        "oneshotd.ingest.dialects",
        "oneshotd.ingest.hooks",
        "oneshotd.logs",
        "oneshotd.metrics",
        "oneshotd.store",
        "oneshotd.store.postgresql",
        "oneshotd.store.sqlite",
        "oneshotd.udp",
        "oneshotd.web",
        "oneshotd.web.fastpath",
        "oneshotd.web.routes",
        "oneshotd.web.status",
        "oneshotd.web.status.assets",
        "oneshotd.web.transport",
        "twisted.plugins",
    ],
    package_data={
        "oneshotd": ["py.typed"],
        "oneshotd.store.postgresql": ["schema/*.sql"],
        "oneshotd.store.sqlite": ["schema/*.sql"],
        "oneshotd.web.status.assets": ["*.css", "*.js", "*.svg", "*.xml"],
    },
    entry_points={"console_scripts": ["oneshot-emit = oneshotd.emit:main", "oneshotctl = oneshotd.ctl:main"]},
    python_requires=">=3.11",
    # The oldest that the tests have run with: Debian 13's.
    install_requires=["twisted>=24.11", "klein>=24.8", "attrs>=25.3", "prometheus_client>=0.21"],
    extras_require={
        # For `--http ssl:…`.
        "tls": TLS,
        # For --web-config.
        "auth": AUTH,
        # For `--store postgresql://…`.
        "postgresql": POSTGRESQL,
        "test": [
            *AUTH,
            *POSTGRESQL,
            "ansible-core>=2.17",
            "build",
            "cloudevents>=2",
            "coverage>=7.2",
            "datadog>=0.50",
            "hypothesis",
            "mypy>=1.11",
            "mypy-zope",
            "pytest>=9",
            "pytest-twisted",
            "pytest-xdist",
            "ruff",
            "setuptools>=66",
            "treq",
            "types-pyyaml",
            "wheel",
        ],
    },
    zip_safe=False,
)
