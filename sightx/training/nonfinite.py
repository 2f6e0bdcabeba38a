"""Stop training at the first loss that is not finite, before a parameter is updated by it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from sightx.errors import NonFiniteError
from sightx.records.pixels import Positions

if TYPE_CHECKING:
    from torch import Tensor

_READ_EVERY = 20  # steps


class NonFiniteGuard:
    """Check every loss; `to_error` makes the error from a step and the samples of its batch.

    The check is immediate, unless reading a number would wait for the device (`deferred`). Then a
    flag on the device, which torch's fused optimizers obey as they do for a GradScaler, holds back
    this update and all later ones, and the host reads it every few steps.
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
        self._unread: list[tuple[int, Positions]] = []  # steps, and the samples of their batches
        # Whether a loss was not finite, and how many unread steps came before it.
        self.flag, self.num_finite = (torch.zeros((), device=device) for _ in range(2))
        self.deferred = deferred if deferred is not None else _obeys_flag(optimizer, device)
        if self.deferred:
            optimizer.found_inf = self.flag  # type: ignore[attr-defined]

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
        self.num_finite.add_(1 - self.flag)

    def read_later(self, step: int, positions: Positions) -> None:
        """Remember a step whose flag is set on the device; read the flag every few steps."""
        self._unread.append((step, positions))
        if len(self._unread) == _READ_EVERY:
            self.flush()

    def flush(self) -> None:
        """Read the flag. Raises NonFiniteError if any loss so far was not finite."""
        if self._unread and self.flag.item():
            self._fail(*self._unread[int(self.num_finite)])
        self._unread.clear()
        self.num_finite.zero_()
        if self._error:
            raise self._error

    def _fail(self, step: int, positions: Positions) -> NonFiniteError:
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
