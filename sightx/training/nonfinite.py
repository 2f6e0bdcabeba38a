"""The gate before the optimizer: from the first loss on that is not finite, no weight moves."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import torch

from sightx.errors import NonFiniteError
from sightx.records.pixels import Positions

if TYPE_CHECKING:
    from torch import Tensor

_LATER = 2  # steps after which a flag is read: by then it has long arrived

Blame = Callable[[int, Positions], NonFiniteError]


class _Flag(NamedTuple):
    """Hold a step's flag on its way to the host."""

    value: Tensor
    arrived: torch.cuda.Event | None
    step: int
    positions: Positions


class NonFiniteGuard:
    """Refuse losses that are not finite.

    Where reading a number waits for the device, the optimizer is held back by a flag there, which
    is read some steps later; elsewhere the loss is read before the weights move. `blame` makes the
    report from a step and the rows of its batch.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        blame: Blame,
        *,
        deferred: bool | None = None,
    ) -> None:
        self._blame = blame
        self._failure: NonFiniteError | None = None
        self._pending: deque[_Flag] = deque()
        self.flag = torch.zeros((), device=device)
        self.deferred = deferred if deferred is not None else _heeds_flag(optimizer, device)
        if self.deferred:
            optimizer.found_inf = self.flag  # type: ignore[attr-defined]  # as a GradScaler does
        pinned = self.deferred and device.type == "cuda"
        self._hosts = cycle(
            [
                (
                    torch.zeros((), pin_memory=pinned),
                    torch.cuda.Event() if pinned else None,  # type: ignore[no-untyped-call]
                )
                for _ in range(_LATER + 1)
            ]
        )

    def admit(self, loss: Tensor, step: int, positions: Positions) -> None:
        """Let the weights move if the loss is finite.

        Raises NonFiniteError for it, or for that of a step before.
        """
        if self.deferred:
            self.mark(loss)
            self.watch(step, positions)
        elif not math.isfinite(loss.item()):
            raise self._failed(step, positions)

    def mark(self, loss: Tensor) -> None:
        """Set the flag if the loss is not finite; on the device alone. It stays set."""
        self.flag.masked_fill_((loss - loss) != 0, 1.0)  # what is not finite leaves NaN

    def watch(self, step: int, positions: Positions) -> None:
        """Send a step's flag to the host, and read one of some steps before."""
        host, arrived = next(self._hosts)
        host.copy_(self.flag, non_blocking=True)
        if arrived:
            arrived.record()
        self._pending.append(_Flag(host, arrived, step, positions))
        if len(self._pending) > _LATER:
            self._read(self._pending.popleft())

    def settle(self) -> None:
        """Read every flag. Raises NonFiniteError, again and again, once a loss was not finite."""
        while self._pending:
            self._read(self._pending.popleft())
        if self._failure:
            raise self._failure

    def _read(self, flag: _Flag) -> None:
        if flag.arrived:
            flag.arrived.synchronize()
        if flag.value.item():
            raise self._failed(flag.step, flag.positions)

    def _failed(self, step: int, positions: Positions) -> NonFiniteError:
        self._pending.clear()
        self._failure = self._blame(step, positions)
        return self._failure


def _heeds_flag(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Say whether reading is slow there, and the optimizer obeys `found_inf`.

    Torch's fused kernels do on CUDA; those of mps ignore it, and other optimizers do not look.
    """
    fused = type(optimizer).__module__.startswith("torch.optim") and all(
        group.get("fused") for group in optimizer.param_groups
    )
    return device.type == "cuda" and fused
