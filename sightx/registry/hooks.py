"""The hooks: the whole contract between SightX and a plugin, beside the kinds of component."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from sightx.registry.checks import Check
from sightx.registry.components import Component

if TYPE_CHECKING:
    import click

    from sightx.records.events import Epoch, Step
    from sightx.runs.directory import Run
    from sightx.spec.experiment import Experiment

hookspec = pluggy.HookspecMarker("sightx")
hookimpl = pluggy.HookimplMarker("sightx")


class PluginHooks:
    """What a plugin may bring."""

    @hookspec
    def sightx_components(self) -> Iterable[type[Component]]:  # type: ignore[empty-body]
        """When the registry is filled: return the component classes that the plugin brings."""

    @hookspec
    def sightx_checks(self) -> Iterable[Check]:  # type: ignore[empty-body]
        """When the registry is filled: return the rules between components that it brings."""

    @hookspec
    def sightx_commands(self) -> Iterable[click.Command]:  # type: ignore[empty-body]
        """When a command is unknown, or help lists all: return the commands that it brings."""


class RunHooks:
    """What an observer may hear, on the first process only; it watches and changes nothing."""

    @hookspec
    def sightx_run_started(self, experiment: Experiment, run: Run) -> None:
        """When the data are ready, before the first step; `run.data` tells what was found."""

    @hookspec
    def sightx_epoch_started(self, run: Run, epoch: int) -> None:
        """When an epoch, counted from 1, begins."""

    @hookspec
    def sightx_step_finished(self, run: Run, step: Step) -> None:
        """When the optimizer has moved; called only if someone listens."""

    @hookspec
    def sightx_epoch_finished(self, run: Run, epoch: Epoch) -> None:
        """When an epoch's metrics are on disk."""

    @hookspec
    def sightx_checkpoint_written(self, run: Run, checkpoint: str) -> None:
        """When a checkpoint is durable; `checkpoint` is the name of its directory."""

    @hookspec
    def sightx_run_finished(self, run: Run, result: dict[str, object]) -> None:
        """When the run has ended: finished, stopped, interrupted or failed, says its status."""
