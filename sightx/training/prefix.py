"""The frozen prefix of a network: what it makes of each image is computed once, and kept."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from sightx.data import machine
from sightx.data.batches import Batches
from sightx.data.rows import Held, Positions, Rows
from sightx.data.samples import Samples
from sightx.registry.components import call
from sightx.spec.experiment import Experiment
from sightx.training import build
from sightx.training.events import FeatureBlock
from sightx.training.step import autocast

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger("sightx")
_BLOCK = 32  # images at once, whatever the batch: so the bits depend on the table alone
_SIDES = ("train", "validation")
_SHARE = 3  # one part in so many of a memory is for features
_DEVICE, _MEMORY, _FILE = "on the device", "in memory", "in a scratch file"
# How many floating-point operations a byte must stand for to be moved, not computed: at least
# twice what a machine computes while a byte travels. A count, not a timing, decides: a resumed run
# must decide alike.
_WORTH = {
    ("cuda", _DEVICE): 300, ("cuda", _MEMORY): 20_000, ("cuda", _FILE): 20_000,
    ("mps", _MEMORY): 1_000, ("mps", _FILE): 5_000,
    ("cpu", _MEMORY): 100, ("cpu", _FILE): 500,
}  # fmt: skip
# Modules of torch without weights that do the same in training and in evaluation mode.
_STEADY = ("activation", "container", "flatten", "linear", "padding", "pooling")
_UNSTEADY = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


class Split(NamedTuple):
    """Hold a network in two: the stages that cannot change, and the rest."""

    fixed: nn.Sequential
    rest: nn.Sequential


def split(experiment: Experiment, module: nn.Module) -> Split | None:
    """Return a network in two, where its first stages see and do the same in every epoch."""
    once = experiment.training.epochs == 1
    if once or experiment.augment or experiment.execution.features == "off":
        return None
    build.train_mode(module)
    stages: Sequence[nn.Module] = call(experiment.model.stages, module) or ()
    fixed = list(takewhile(_is_fixed, stages))
    if not any(True for stage in fixed for _ in stage.parameters()):
        return None
    return Split(nn.Sequential(*fixed), nn.Sequential(*stages[len(fixed) :]))


def _is_fixed(stage: nn.Module) -> bool:
    """Say whether nothing in a stage learns, and training mode changes nothing there."""
    learns = any(weight.requires_grad for weight in stage.parameters())
    return not learns and all(_is_steady(part) for part in stage.modules() if part.training)


def _is_steady(part: nn.Module) -> bool:
    package, _, name = type(part).__module__.rpartition(".")
    return package == "torch.nn.modules" and name in _STEADY and not isinstance(part, _UNSTEADY)


@dataclass(frozen=True)
class FeatureBatches(Batches):
    """Make batches of features, which travel as bytes where pixels would.

    `form` is the shape of one feature in memory; with `channels_last` it is (H, W, C).
    """

    form: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return features (B, ...), as the prefix made them."""
        features = pixels.view(len(pixels), -1).view(self.dtype).view(len(pixels), *self.form)
        return features.movedim(-1, 1) if self.channels_last else features


class _Scratch(Held):
    """Hold rows in a file that has no name: reading them takes its time."""

    instant = False


class Features:
    """Compute what the fixed stages make of the images that training and validation see.

    `batches` are then those of the features. They are None before, and where no stage is fixed or
    computing them anew in every epoch is better.
    """

    def __init__(
        self, experiment: Experiment, module: nn.Module, samples: Samples, batches: Batches
    ) -> None:
        self.batches: FeatureBatches | None = None
        self._halves = split(experiment, module)
        self._module, self._images = module, batches
        self._positions = np.unique(np.concatenate([samples.sides[side] for side in _SIDES]))
        self._precision = autocast(batches.device, experiment.training.precision)
        self._weights: list[Tensor] = []

    def route(self, side: str) -> tuple[nn.Module, Batches]:
        """Return what samples of a side go through: all of the network, or behind its prefix."""
        if self._halves and self.batches and side in _SIDES:
            return self._halves.rest, self.batches
        return self._module, self._images

    def compute(self) -> Iterator[FeatureBlock]:
        """Compute all features that are worth it, in the table's order; yield how far it came."""
        if self.batches or not self._halves or not len(self._positions):
            return
        fixed = self._halves.fixed
        first, work = self._tried(fixed, self._positions[:_BLOCK])
        held = None if first is None else self._room(first, work, len(fixed))
        if first is None or held is None:
            return
        made, last, done = held.tensor[:, 0, 0], _is_channels_last(first), 0
        parts = np.split(self._positions, range(_BLOCK, len(self._positions), _BLOCK))
        with closing(self._images.stream(parts)) as blocks:
            for positions, pixels, _ in blocks:
                block = _in_order(self._features(fixed, pixels), channels_last=last)
                start, done = done, done + len(positions)
                made[start:done] = block.view(len(positions), -1).view(torch.uint8)
                yield FeatureBlock(done, len(self._positions))
        index = np.full(len(self._images.labels), -1)
        index[self._positions] = np.arange(len(self._positions))
        self._weights = [value.clone() for value in _state(fixed)]
        self.batches = FeatureBatches(
            Rows(held, index), self._images.labels, self._images.statistics, self._images.device,
            seed=self._images.seed, form=tuple(_in_order(first, channels_last=last).shape[1:]),
            dtype=first.dtype, channels_last=last,
        )  # fmt: skip

    def verify(self) -> None:
        """Forget the features where the weights that made them are not those of the network."""
        if self._halves and not all(map(torch.equal, self._weights, _state(self._halves.fixed))):
            self.batches = None

    @torch.no_grad()
    def _features(self, fixed: nn.Module, pixels: Tensor) -> Tensor:
        with self._precision:
            features: Tensor = fixed(self._images.normalised(pixels))
        return features

    def _tried(self, fixed: nn.Module, positions: Positions) -> tuple[Tensor | None, float]:
        """Return the features of some images, and the operations that each took.

        None where the stages give something else than a row an image, or never the same twice.
        """
        from torch.utils.flop_counter import FlopCounterMode

        pixels = self._images.rows.gather(positions).to(self._images.device)
        with FlopCounterMode(display=False) as counter:
            once = self._features(fixed, pixels)
        work = counter.get_total_flops() / len(positions)
        if not isinstance(once, torch.Tensor) or once.shape[:1] != positions.shape:
            return None, work
        again = self._features(fixed, pixels)
        steady = torch.allclose(once.float(), again.float(), rtol=1e-2, atol=1e-3)
        return once if steady else None, work

    def _room(self, first: Tensor, work: float, stages: int) -> Held | None:
        """Return room for all features, where keeping them pays; say so, or why not."""
        each = first[0].numel() * first.element_size()
        shape = (len(self._positions), 1, 1, each)
        place, held = _place(math.prod(shape), first.device), None
        if place and work < each * _WORTH[first.device.type, place]:
            reason = "takes less to compute than to move"
        elif place and (held := _hold(place, shape, first.device)):
            reason = f"is computed once and kept {place}"
        else:
            reason = "has no room"
        what = f"what {stages} frozen stages give, {machine.size(math.prod(shape))},"
        _log.info("features: %s %s", what, reason)
        return held


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _place(size: int, device: torch.device) -> str:
    """Return where so many bytes have room; nowhere is empty."""
    cuda = device.type == "cuda"
    if cuda and size < torch.cuda.get_device_properties(device).total_memory // _SHARE:
        return _DEVICE
    if size < machine.memory() // _SHARE:
        return _MEMORY
    return _FILE if size < machine.free(Path(tempfile.gettempdir())) // _SHARE else ""


def _hold(place: str, shape: tuple[int, ...], device: torch.device) -> Held | None:
    """Return empty rows in a place; None where it is full after all."""
    with suppress(torch.OutOfMemoryError, MemoryError, OSError):
        if place != _FILE:
            where = device if place == _DEVICE else torch.device("cpu")
            return Held(torch.empty(shape, dtype=torch.uint8, device=where))
        with tempfile.NamedTemporaryFile(prefix="sightx-") as file:
            size = math.prod(shape)
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # a disk that is full later would end the process
                os.posix_fallocate(file.fileno(), 0, size)
            mapped = torch.from_file(file.name, shared=True, size=size, dtype=torch.uint8)
        return _Scratch(mapped.view(shape))
    return None


def _is_channels_last(features: Tensor) -> bool:
    """Say whether (B, C, H, W) lie in memory as (B, H, W, C)."""
    last = torch.channels_last
    four = features.ndim == 4 and not features.is_contiguous()
    return four and features.is_contiguous(memory_format=last)


def _in_order(features: Tensor, *, channels_last: bool) -> Tensor:
    """Return features as they are to lie in memory."""
    return (features.movedim(1, -1) if channels_last else features).contiguous()
