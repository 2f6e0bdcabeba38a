"""Checkpoints written in the background, so that training goes on."""

from __future__ import annotations

import logging
import os
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
from sightx.training.state import State

if TYPE_CHECKING:
    from torch import Tensor

Done = Callable[[Path], None]
_log = logging.getLogger("sightx")


class AsyncCheckpointer:
    """Save states under a folder in one thread, one state at a time.

    Training is held up while tensors are copied, and while the state before is not written yet.
    Whatever a write raises is raised by the next call here. A process that ends in the usual way
    waits for the write; one that is killed leaves the checkpoints of before. To be used from one
    thread, in the process that made it; in a forked child `close` does nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: tuple[Future[Path], Done | None] | None = None

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the write; beside an error that is under way, its failure is a warning."""
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
        done: Done | None = None,
    ) -> None:
        """Copy a state and write it as `checkpoints.save` does, behind the caller's back.

        Once it is safe, the next call here tells `done` its directory.
        """
        self.wait()
        copy = State(_copied(state.weights), _copied(state.optimizer), deepcopy(state.record))
        arguments = (self._folder, copy, deepcopy(recipe), tuple(names))
        self._writing = self._thread.submit(checkpoints.save, *arguments), done

    def poll(self) -> None:
        """Tell or raise what has come of a write, without waiting for it."""
        if self._writing and self._writing[0].done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._writing:
            (future, done), self._writing = self._writing, None
            path = future.result()
            if done:
                done(path)

    def close(self) -> None:
        """Wait for the write and end the thread."""
        if os.getpid() != self._process:
            return  # the thread stayed with the parent
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of their own on the CPU: training changes the others in place."""
    return {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor.detach())
        for name, tensor in tensors.items()
    }
