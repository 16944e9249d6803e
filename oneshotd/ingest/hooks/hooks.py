"""All hooks of a daemon, by name; `POST /hook/NAME` asks it for the events of a request.

A hook is a preset (`ingest/dialects/registry.py`) or a file of the folder of ``--hooks``; a file wins over
the preset of its name. A file that was never good has a hook, too, which refuses all messages: the preset of
its name, which verifies nothing, must not take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field, frozen

from oneshotd.access.reload import InThread
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.mapping import Outgrown
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.registry import HANDSHAKES, PRESETS
from oneshotd.ingest.dialects.translation import Answer, Context, Handshake, Message, Translate, Translation
from oneshotd.ingest.hooks.large_bodies import LARGE, SMALL_WORK, LargeBodies, is_large
from oneshotd.ingest.hooks.trial import Trial, tried


def _accept(message: Message) -> None:
    """Verify nothing: the access rules decide who may send."""


@frozen(kw_only=True)
class Hook:
    """A door for the messages of one kind of sender.

    :param verify: raises `Refused` (401) if the message is not signed as this hook expects.
    :param recipe: what `translate` does, in a form that another process can read; None: it has none.
    :param handshake: answers OPTIONS; None: as every path does.
    """

    name: str
    translate: Translate
    verify: Callable[[Message], None] = _accept
    recipe: Recipe | None = None
    handshake: Handshake | None = None

    @classmethod
    def of(cls, recipe: Recipe, verify: Callable[[Message], None] | None = None) -> Hook:
        """Return the hook of a recipe."""
        return cls(
            name=recipe.name,
            translate=recipe.translate,
            verify=verify or _accept,
            recipe=recipe,
            handshake=HANDSHAKES.get(recipe.form),
        )


def _presets() -> dict[str, Hook]:
    return {name: Hook.of(Recipe.parse(name, {"preset": name})) for name in PRESETS}


@define
class Hooks:
    """The hooks by name.

    :param large: translates large bodies; None: this process does.
    :param in_thread: for the signatures of large bodies; None: no thread.
    """

    _hooks: Mapping[str, Hook] = field(factory=_presets)
    _large: LargeBodies | None = None
    _in_thread: InThread | None = None
    _files: Mapping[str, Hook] = field(factory=dict, init=False)
    _unusable: frozenset[str] = field(default=frozenset(), init=False)

    @property
    def names(self) -> Sequence[str]:
        """The names of all hooks, sorted."""
        return sorted({*self._hooks, *self._files, *self._unusable})

    def replace(self, files: Mapping[str, Hook], unusable: frozenset[str] = frozenset()) -> None:
        """Put the hooks of files in force, in place of the earlier ones.

        :param unusable: the names of files that were never good.
        """
        self._files = files
        self._unusable = unusable

    def _hook(self, name: str) -> Hook:
        if name in self._unusable:
            text = f"the file of the hook {name!r} cannot be used; the log of the daemon has the reason"
            raise Refused(text, reason="hook", status=503, retry_after=60)
        hook = self._files.get(name) or self._hooks.get(name)
        if hook is None:
            raise Refused(f"there is no hook {name!r}", reason="name", status=404)
        return hook

    def handshake(self, name: str, message: Message) -> Answer | None:
        """Answer OPTIONS as this hook does; None: as every path does.

        :raises Refused: there is no such hook, or the sender asks for what cannot be.
        """
        hook = self._hook(name)
        return None if hook.handshake is None else hook.handshake(message)

    async def translate(self, name: str, message: Message, context: Context) -> Translation:
        """Return the events of a message.

        :raises Refused: there is no such hook (404), the message is not verified (401), or cannot be read.
        """
        hook = self._hook(name)
        if self._in_thread is not None and len(message.raw) > LARGE:
            await self._in_thread(hook.verify, message)
        else:
            hook.verify(message)
        if self._large is None or hook.recipe is None:
            return hook.translate(message, context)
        if not is_large(message.body, hook.recipe):
            try:
                return hook.recipe.translate(message, context, work=SMALL_WORK)
            except Outgrown:
                pass  # as if it were large
        return await self._large.translate(hook.recipe, message, context)

    def trial(self, name: str, message: Message, context: Context) -> Trial:
        """Return what a message would become; nothing is stored, and its sender is not verified.

        :raises Refused: there is no such hook, or the message would hold up the daemon (413).
        """
        hook = self._hook(name)
        if hook.recipe is None:
            raise Refused(f"the hook {name!r} cannot be tried", reason="name", status=404)
        if not is_large(message.body, hook.recipe):
            try:
                return tried(hook.recipe, message, context, work=SMALL_WORK)
            except Outgrown:
                pass
        text = f"body: expected at most {LARGE} bytes, and fewer elements; oneshotctl try-hook takes more"
        raise Refused(text, reason="limit", status=413)
