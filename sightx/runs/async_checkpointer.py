"""Checkpoints saved in a background thread, and the decision when to save one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch

from sightx.errors import SightXError
from sightx.runs import checkpoints
from sightx.spec.experiment import Execution
from sightx.training.state import State

if TYPE_CHECKING:
    from torch import Tensor

OnSaved = Callable[[Path], None]
_log = logging.getLogger("sightx")


class AsyncCheckpointer:
    """Save checkpoints below a folder in one thread, one at a time.

    The caller waits while tensors are copied, and while the previous checkpoint is still being
    written. An error of a write is raised by the next call. A process that exits normally finishes
    the write; one that is killed leaves the earlier checkpoints. Use it from one thread of the
    process that created it; in a forked child `close` does nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: tuple[Future[Path], OnSaved | None] | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the write. If the body failed, a failure of the write is only a warning."""
        try:
            self.close()
        except SightXError as failure:
            if error is None:
                raise
            _log.warning("%s", replace(failure.problems[0], severity="warning"))

    def save(
        self,
        state: State,
        recipe: Mapping[str, Any],
        names: Collection[str],
        on_saved: OnSaved | None = None,
    ) -> None:
        """Copy a state, and write it with `checkpoints.save` in the background.

        The next call after it is safe on disk calls `on_saved` with its directory.
        """
        self.wait()
        copy = replace(state.map_tensors(_to_cpu), record=deepcopy(state.record))
        arguments = (self._folder, copy, deepcopy(recipe), tuple(names))
        self._pending = self._thread.submit(checkpoints.save, *arguments), on_saved

    def poll(self) -> None:
        """Call `on_saved` or raise the error of a finished write, without waiting."""
        if self._pending and self._pending[0].done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._pending:
            (future, on_saved), self._pending = self._pending, None
            path = future.result()
            if on_saved:
                on_saved(path)

    def close(self) -> None:
        """Wait for the write and end the thread."""
        if os.getpid() != self._process:
            return  # a forked child has no copy of the thread
        try:
            self.wait()
        finally:
            self._thread.shutdown()


class CheckpointManager(AsyncCheckpointer):
    """Save the state of a run whenever it is due.

    `get_recipe` returns what a prediction needs in addition to the weights; `on_saved` gets the
    directory name of each checkpoint that is safe on disk. Raises ResourceError if the disk has no
    room for two states, PluginError if a component keeps a value that a checkpoint cannot hold.
    """

    def __init__(
        self,
        folder: Path,
        execution: Execution,
        get_state: Callable[[], State],
        get_recipe: Callable[[], Mapping[str, Any]],
        on_saved: Callable[[str], None],
    ) -> None:
        super().__init__(folder)
        self._execution = execution
        self._get_state, self._get_recipe, self._on_saved = get_state, get_recipe, on_saved
        self._last_save = time.monotonic()
        state = get_state()
        # An optimizer has no state before its first step; Adam will keep two values per weight.
        checkpoints.require_space(folder.parent, state, times=2 if state.optimizer else 6)

    def step_finished(self, step: int) -> None:
        """Save the state after step number `step` if it is due; raise errors of earlier saves."""
        self.poll()
        every_steps, minutes = self._execution.save_every_steps, self._execution.save_every_minutes
        is_late = minutes and time.monotonic() - self._last_save >= minutes * 60
        if is_late or (every_steps and step % every_steps == 0):
            self.save_current({checkpoints.LAST})

    def save_current(self, names: Collection[str]) -> None:
        """Start to save the current state under some names."""
        state, recipe = self._get_state(), self._get_recipe()
        self.save(state, recipe, sorted(names), lambda path: self._on_saved(path.name))
        self._last_save = time.monotonic()


class NullCheckpointManager(CheckpointManager):
    """The checkpoint manager of ranks other than 0: it saves nothing."""

    def __init__(self) -> None:
        """Do nothing."""

    def step_finished(self, step: int) -> None:
        """Do nothing."""

    def save_current(self, names: Collection[str]) -> None:
        """Do nothing."""

    def wait(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU, because training changes the tensors in place."""
    return {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor.detach())
        for name, tensor in tensors.items()
    }
