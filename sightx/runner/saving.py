"""When a state is saved, and under what names."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from sightx.inference.recipe import Recipe, earlier_preprocess
from sightx.runs import checkpoints
from sightx.runs.async_checkpointer import AsyncCheckpointer
from sightx.runs.directory import Run
from sightx.training.trainer import Trainer

Told = Callable[[str], None]


class CheckpointSaver:
    """Save a trainer's states behind its back; `told` hears the name of each that is safe.

    Raises ResourceError where the disk has no room for two states, or refuses a former one, and
    PluginError where a component keeps what a state cannot hold.
    """

    def __init__(self, run: Run, trainer: Trainer, writer: AsyncCheckpointer, told: Told) -> None:
        self._trainer, self._writer, self._told = trainer, writer, told
        execution = trainer.experiment.execution
        self._steps, self._seconds = execution.save_every_steps, execution.save_every_minutes * 60
        self._saved = time.monotonic()
        registry = trainer.experiment.context.registry
        self._before = earlier_preprocess(trainer.dataset.table, registry)
        state = trainer.state()
        # Before the first step an optimizer holds nothing; Adam will hold two numbers a weight.
        checkpoints.require_space(run.directory, state, times=2 if state.optimizer else 6)

    def names(self) -> set[str]:
        """Return the names that the policies give to the state after the last epoch."""
        policies = self._trainer.experiment.checkpoint
        return {name for policy in policies for name in policy.keep(self._trainer.history)}

    def step(self, step: int) -> None:
        """Save the state after a step, if it is time to; hear what has come of former saves."""
        self._writer.poll()
        late = self._seconds and time.monotonic() - self._saved >= self._seconds
        if late or (self._steps and step % self._steps == 0):
            self.save({"last"})

    def save(self, names: Collection[str]) -> None:
        """Begin to save the state as it is now, if there is a name for it."""
        if names:
            state, recipe = self._trainer.state(), self._recipe().tables()
            self._writer.save(state, recipe, sorted(names), lambda path: self._told(path.name))
            self._saved = time.monotonic()

    def wait(self) -> None:
        """Wait until everything is safe."""
        self._writer.wait()

    def _recipe(self) -> Recipe:
        trainer = self._trainer
        return Recipe.of(
            trainer.experiment,
            table=trainer.dataset.table,
            before=self._before,
            shape=trainer.dataset.rows.shape,
            statistics=trainer.statistics,
            decisions=trainer.postprocess_states,
        )
