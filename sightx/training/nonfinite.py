"""Stop training at the first loss that is not finite, before a parameter moves."""

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

_DELAY = 2  # steps after which a flag is read: its copy has arrived by then


class _PendingFlag(NamedTuple):
    """The flag of a step, on its way to the host."""

    value: Tensor
    arrived: torch.cuda.Event | None
    step: int
    positions: Positions


class NonFiniteGuard:
    """Check every loss; `to_error` makes the error from a step and the samples of its batch.

    The check is immediate, before the update, unless reading a number would wait for the device
    (`deferred`). Then a flag on the device, which torch's fused optimizers obey as they do for a
    GradScaler, holds back this update and all later ones, and the host reads it some steps later.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        to_error: Callable[[int, Positions], NonFiniteError],
        *,
        deferred: bool | None = None,
    ) -> None:
        self._to_error = to_error
        self._error: NonFiniteError | None = None
        self._pending: deque[_PendingFlag] = deque()
        self.flag = torch.zeros((), device=device)
        self.deferred = deferred if deferred is not None else _obeys_flag(optimizer, device)
        if self.deferred:
            optimizer.found_inf = self.flag  # type: ignore[attr-defined]
        pinned = self.deferred and device.type == "cuda"
        self._host_flags = cycle(
            [
                (
                    torch.zeros((), pin_memory=pinned),
                    torch.cuda.Event() if pinned else None,  # type: ignore[no-untyped-call]
                )
                for _ in range(_DELAY + 1)
            ]
        )

    def check(self, loss: Tensor, step: int, positions: Positions) -> None:
        """Allow the update if the loss is finite.

        Raises NonFiniteError for this loss, or if deferred for that of an earlier step.
        """
        if self.deferred:
            self.set_flag(loss)
            self.read_later(step, positions)
        elif not math.isfinite(loss.item()):
            raise self._fail(step, positions)

    def set_flag(self, loss: Tensor) -> None:
        """Set the flag if the loss is not finite, on the device alone; it stays set."""
        self.flag.masked_fill_((loss - loss) != 0, 1.0)  # inf - inf and nan - nan are nan

    def read_later(self, step: int, positions: Positions) -> None:
        """Copy the flag of a step to the host, and read that of an earlier step."""
        value, arrived = next(self._host_flags)
        value.copy_(self.flag, non_blocking=True)
        if arrived:
            arrived.record()
        self._pending.append(_PendingFlag(value, arrived, step, positions))
        if len(self._pending) > _DELAY:
            self._read(self._pending.popleft())

    def flush(self) -> None:
        """Read all flags. Raises NonFiniteError if any loss so far was not finite."""
        while self._pending:
            self._read(self._pending.popleft())
        if self._error:
            raise self._error

    def _read(self, flag: _PendingFlag) -> None:
        if flag.arrived:
            flag.arrived.synchronize()
        if flag.value.item():
            raise self._fail(flag.step, flag.positions)

    def _fail(self, step: int, positions: Positions) -> NonFiniteError:
        self._pending.clear()
        self._error = self._to_error(step, positions)
        return self._error


def _obeys_flag(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Return whether reading a number is slow on the device, and the optimizer obeys `found_inf`.

    Torch's fused kernels obey it on CUDA; those for mps and other optimizers ignore it.
    """
    is_fused = type(optimizer).__module__.startswith("torch.optim") and all(
        group.get("fused") for group in optimizer.param_groups
    )
    return device.type == "cuda" and is_fused
