"""Tell observers what happens in a run, one by one, so that none can hurt the run or another."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pluggy

from sightx.errors import PluginError, Problem
from sightx.registry import hooks


class Observers:
    """Call run hooks on objects; one that fails is reported to `warn` and dropped.

    Raises PluginError for one with a misspelt hook, or with none.
    """

    def __init__(self, observers: Mapping[str, object], warn: Callable[[str], None]) -> None:
        self._manager = pluggy.PluginManager("sightx")
        self._manager.add_hookspecs(hooks.RunHooks)
        self._warn = warn
        for name, observer in observers.items():
            self._register(name, observer)

    def _register(self, name: str, observer: object) -> None:
        try:
            self._manager.register(observer, name=name)
            self._manager.check_pending()
            if not self._manager.get_hookcallers(observer):
                raise TypeError("it has no hook; is @hookimpl missing?")
        except Exception as error:
            cause = " ".join(str(error).split())
            raise PluginError(Problem("broken-observer", f"observer {name!r}: {cause}")) from error

    def listens(self, hook: str) -> bool:
        """Say whether any observer hears a hook."""
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    def tell(self, hook: str, **records: object) -> None:
        """Call one hook on every observer that has it."""
        everyone = [plugin for _, plugin in self._manager.list_name_plugin()]
        for name, plugin in self._manager.list_name_plugin():
            others = [other for other in everyone if other is not plugin]
            caller = self._manager.subset_hook_caller(hook, others)
            try:
                caller(**records)
            except (Exception, SystemExit) as error:
                self._warn(
                    f"observer {name} failed and is dropped: {type(error).__name__}: {error}"
                )
                self._manager.unregister(plugin)
