"""Import the packages of the extra `auth`, which the daemon can do without."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from oneshotd.errors import ConfigError

#: Module -> its name on PyPI, and Debian's package.
PACKAGES: Mapping[str, tuple[str, str]] = {
    "bcrypt": ("bcrypt", "python3-bcrypt"),
    "OpenSSL": ("pyOpenSSL", "python3-openssl"),
    "yaml": ("PyYAML", "python3-yaml"),
}


def require(module: str) -> ModuleType:
    """Return an optional module.

    :raises ConfigError: it is not installed; the text says what to install.
    """
    try:
        return import_module(module)
    except ImportError:
        package, debian = PACKAGES[module]
        raise ConfigError(
            f"web-config needs the package {package}: pip install 'oneshotd[auth]', or Debian's {debian}"
        ) from None
