"""The events that the trainer yields: frozen records that do not hold the live network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Step:
    """An optimizer step is done.

    `epoch` counts from 1, `step` from 1 over the whole run; `samples` is the size of the batch.
    `loss` is a scalar on the device: reading it waits for the device.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    samples: int
    loss: Tensor
    lr: float


@dataclass(frozen=True)
class FeatureBlock:
    """The features of some images are computed: `done` of `total` samples."""

    done: int
    total: int


@dataclass(frozen=True)
class ValidationBatch:
    """A batch of the validation split is predicted: `done` of `total` samples."""

    epoch: int
    done: int
    total: int


@dataclass(frozen=True)
class Epoch:
    """An epoch has ended; it is epoch `number` of `epochs`.

    `metrics` maps names such as `validation/loss` to numbers; `is_best` says whether the monitored
    metric is at its best so far; `stop_reason` is why training ends here, None if it goes on.
    `data_wait_fraction` is the fraction of the training time, 0 to 1, spent waiting for data.
    """

    number: int
    epochs: int
    step: int
    metrics: Mapping[str, float]
    seconds: float
    lr: float
    monitor: str
    is_best: bool
    stop_reason: str | None = None
    images_per_second: float = 0.0
    data_wait_fraction: float = 0.0


Event = FeatureBlock | Step | ValidationBatch | Epoch
