"""How a CUDA graph is made of what a function does on the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

_WARM_UP = 3  # calls before the capture: libraries allocate and choose their algorithms


class Capture(Protocol):
    """Make graphs of functions, and ask the device what that needs."""

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        """Return what does on the device again what `body`, called some times, does there."""

    def settle(self) -> None:
        """Wait until the device has done what it was given."""

    def recover(self) -> None:
        """Mend what a capture that failed has left behind."""


class OnCuda:
    """Capture on a CUDA device.

    Torch's rules for whole networks: https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA
    Graphs". Seeds set before a replay count, for a graph reads them from the device's generator.
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self._device = torch.device("cuda", index)
        self._generator = torch.cuda.default_generators[index]

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        """Return the replay of what `body` launches. Raises RuntimeError where it cannot be."""
        with torch.cuda.device(self._device):
            here, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(here)
            with torch.cuda.stream(side), _no_waiting():
                for _ in range(_WARM_UP):
                    body()
            here.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # The thread that reads ahead may go on: only this one must not wait for the device.
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                body()
        return graph.replay

    def settle(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize(self._device)

    def recover(self) -> None:
        """Give the device's generator a new state: a broken capture leaves it refusing to draw."""
        self.settle()
        fresh = torch.Generator(self._device)
        self._generator.graphsafe_set_state(fresh.graphsafe_get_state())


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Raise RuntimeError for what waits for the device: said here, it does not break a capture."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(action="ignore"):  # an optimizer is capturable, and not captured
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
