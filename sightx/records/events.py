"""What the loop says while it runs: frozen records, none of which holds the live network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Step:
    """Say that the optimizer has moved.

    `epoch` counts from 1, `step` from 1 over the whole run, `of` is the number of steps of an
    epoch, `samples` are those of the step. `loss` is a number on the device: reading it waits.
    """

    epoch: int
    step: int
    of: int
    samples: int
    loss: Tensor
    rate: float


@dataclass(frozen=True)
class FeatureBlock:
    """Say that what a frozen prefix makes of some images is computed; `done` of `of` samples."""

    done: int
    of: int


@dataclass(frozen=True)
class ValidationBatch:
    """Say that a batch of the validation side has been predicted; `done` of `of` samples."""

    epoch: int
    done: int
    of: int


@dataclass(frozen=True)
class Epoch:
    """Say that an epoch has ended.

    `metrics` maps names such as `validation/loss` to numbers; `best` says whether the monitored
    figure is now at its best; `stop` is the reason why training ends here, if it does. `waiting` is
    the share of training's time, 0 to 1, that it waited for data.
    """

    number: int
    of: int
    step: int
    metrics: Mapping[str, float]
    seconds: float
    rate: float
    monitor: str
    best: bool
    stop: str | None = None
    images_per_second: float = 0.0
    waiting: float = 0.0


Event = FeatureBlock | Step | ValidationBatch | Epoch
