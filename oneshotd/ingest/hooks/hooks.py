"""All hooks of a daemon, by name; `POST /hook/NAME` asks it for the events of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field, frozen

from oneshotd.errors import Refused
from oneshotd.ingest.dialects.registry import PRESETS
from oneshotd.ingest.dialects.translation import Context, Message, Translate, Translation


def _accept(message: Message) -> None:
    """Verify nothing: the access rules decide who may send."""


@frozen(kw_only=True)
class Hook:
    """A door for the messages of one kind of sender.

    :param verify: raises `Refused` (401) if the message is not signed as this hook expects.
    """

    name: str
    translate: Translate
    verify: Callable[[Message], None] = _accept


def _presets() -> dict[str, Hook]:
    return {name: Hook(name=name, translate=translate) for name, translate in PRESETS.items()}


@define
class Hooks:
    """The hooks by name."""

    _hooks: Mapping[str, Hook] = field(factory=_presets)

    @property
    def names(self) -> Sequence[str]:
        """The names of all hooks, sorted."""
        return sorted(self._hooks)

    async def translate(self, name: str, message: Message, context: Context) -> Translation:
        """Return the events of a message.

        :raises Refused: there is no such hook (404), the message is not verified (401), or cannot be read.
        """
        hook = self._hooks.get(name)
        if hook is None:
            raise Refused(f"there is no hook {name!r}", reason="name", status=404)
        hook.verify(message)
        return hook.translate(message, context)
