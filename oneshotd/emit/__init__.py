"""Report events from a Python program; and the command ``oneshot-emit``.

    from oneshotd.emit import EmitError, emit

    emit(type="deploy", version="1.2")
    emit({"type": "backup", "task": "nightly"}, value=37.5, retry=60)

Twisted programs use `oneshotd.emit.deferred`. Needs nothing but the standard library, and starts
quickly: `tests/emit/cli/test_start.py` counts what it imports.
"""

from oneshotd.emit.answers import EmitDenied, EmitError, EmitRefused, EmitUnavailable
from oneshotd.emit.api import emit, main

__all__ = ["EmitDenied", "EmitError", "EmitRefused", "EmitUnavailable", "emit", "main"]
