"""The frozen prefix of a network: what it makes of each image is computed once, and kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import BatchLoader
from sightx.data.preparation import CacheConfig
from sightx.errors import PluginError, Problem
from sightx.io import system
from sightx.records.events import FeatureBlock
from sightx.records.pixels import InMemoryPixels, PixelRows, Positions
from sightx.registry.components import call_declared
from sightx.spec.experiment import Experiment
from sightx.training import room, setup
from sightx.training.step import autocast

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger("sightx")
_BLOCK = 32  # images at once, whatever the batch: so the bits depend on the table alone
_SIDES = ("train", "validation")
_ROUNDING = 1e-2  # how far stages may be from the network, as a share of its outputs
# How many floating-point operations a byte must stand for to be moved, not computed: at least
# twice what a machine computes while a byte travels. A count, not a timing, decides: a resumed run
# must decide alike.
_WORTH = {
    ("cuda", room.DEVICE): 300, ("cuda", room.MEMORY): 20_000, ("cuda", room.FILE): 20_000,
    ("mps", room.MEMORY): 1_000, ("mps", room.FILE): 5_000,
    ("cpu", room.MEMORY): 100, ("cpu", room.FILE): 500,
}  # fmt: skip
# Modules of torch without weights that do the same in training and in evaluation mode.
_STEADY = ("activation", "container", "flatten", "linear", "padding", "pooling")
_UNSTEADY = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


class FrozenPrefix(NamedTuple):
    """Hold a network in two: the stages that cannot change, and the rest."""

    fixed: nn.Sequential
    rest: nn.Sequential


def split_frozen_prefix(experiment: Experiment, module: nn.Module) -> FrozenPrefix | None:
    """Return a network in two, where its first stages see and do the same in every epoch."""
    # One epoch alone keeps them as well: it may become the first of several, to the same bits.
    if experiment.augment or experiment.execution.cache_features == "off":
        return None
    setup.train_mode(module)
    stages: Sequence[nn.Module] = call_declared(experiment.model.stages, module) or ()
    fixed = list(takewhile(_is_fixed, stages))
    if not any(True for stage in fixed for _ in stage.parameters()):
        return None
    return FrozenPrefix(nn.Sequential(*fixed), nn.Sequential(*stages[len(fixed) :]))


def _is_fixed(stage: nn.Module) -> bool:
    """Say whether nothing in a stage learns, and training mode changes nothing there."""
    learns = any(weight.requires_grad for weight in stage.parameters())
    return not learns and all(_is_steady(part) for part in stage.modules() if part.training)


def _is_steady(part: nn.Module) -> bool:
    package, _, name = type(part).__module__.rpartition(".")
    return package == "torch.nn.modules" and name in _STEADY and not isinstance(part, _UNSTEADY)


@dataclass(frozen=True)
class FeatureLoader(BatchLoader):
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


class FeatureCache:
    """Compute what the fixed stages make of the images that training and validation see.

    `batches` are then those of the features. They are None before, and where no stage is fixed or
    computing them anew in every epoch is better.
    """

    def __init__(
        self,
        experiment: Experiment,
        module: nn.Module,
        samples: PreparedDataset,
        batches: BatchLoader,
    ) -> None:
        self.batches: FeatureLoader | None = None
        self._experiment = experiment
        self._halves = split_frozen_prefix(experiment, module)
        self._module, self._images = module, batches
        self._positions = {side: np.unique(samples.splits[side]) for side in _SIDES}
        self._computed: list[str] = []  # sides
        self._precision = autocast(batches.device, experiment.training.precision)
        self._weights: list[Tensor] = []

    def route(self, side: str) -> tuple[nn.Module, BatchLoader]:
        """Return what samples of a side go through: all of the network, or behind its prefix."""
        if self._halves and self.batches and side in self._computed:
            return self._halves.rest, self.batches
        return self._module, self._images

    def compute(self, *sides: str) -> Iterator[FeatureBlock]:
        """Compute the features of sides where that pays, once; yield how far it came.

        Raises PluginError where the stages, one after another, are not the network.
        """
        sides = tuple(side for side in sides if side in _SIDES)
        parts = [part for side in sides for part in _blocks(self._positions[side])]
        if not self._halves or not parts or set(sides) <= set(self._computed):
            return
        fixed, positions = self._halves.fixed, np.concatenate(parts)
        first, work = self._tried(self._halves, parts[0])
        held = None if first is None else self._room(first, work, len(fixed), len(positions))
        if first is None or held is None:
            self._halves = None  # asked again, it would be the same
            return
        made, last, done = held.tensor[:, 0, 0], _is_channels_last(first), 0
        with closing(self._images.stream(parts)) as blocks:
            for part, pixels, _ in blocks:
                block = _in_order(self._features(fixed, pixels), channels_last=last)
                start, done = done, done + len(part)
                made[start:done] = block.view(len(part), -1).view(torch.uint8)
                yield FeatureBlock(done, len(positions))
        _log.info("features: those of %d images are there", done)
        index = np.full(len(self._images.labels), -1)
        index[positions] = np.arange(len(positions))
        self._weights, self._computed = [value.clone() for value in _state(fixed)], list(sides)
        self.batches = FeatureLoader(
            PixelRows(held, index), self._images.labels, self._images.statistics,
            self._images.device, seed=self._images.seed,
            form=tuple(_in_order(first, channels_last=last).shape[1:]),
            dtype=first.dtype, channels_last=last,
        )  # fmt: skip

    def verify(self) -> None:
        """Forget the features where the weights that made them are not those of the network."""
        if self._halves and not all(map(torch.equal, self._weights, _state(self._halves.fixed))):
            self.batches, self._computed = None, []

    @torch.no_grad()
    def _features(self, fixed: nn.Module, pixels: Tensor) -> Tensor:
        with self._precision:
            features: Tensor = fixed(self._images.normalised(pixels))
        return features

    def _tried(self, halves: FrozenPrefix, positions: Positions) -> tuple[Tensor | None, float]:
        """Return the features of some images, and the operations that each took.

        None where the stages give something else than a row an image, or never the same twice.
        """
        from torch.utils.flop_counter import FlopCounterMode

        pixels = self._images.rows.gather(positions).to(self._images.device)
        self._refuse_others(halves, pixels)
        with FlopCounterMode(display=False) as counter:
            once = self._features(halves.fixed, pixels)
        work = counter.get_total_flops() / len(positions)
        if not isinstance(once, torch.Tensor) or once.shape[:1] != positions.shape:
            return None, work
        again = self._features(halves.fixed, pixels)
        steady = torch.allclose(once.float(), again.float(), rtol=1e-2, atol=1e-3)
        return once if steady else None, work

    def _refuse_others(self, halves: FrozenPrefix, pixels: Tensor) -> None:
        """Raise PluginError where the stages, one after another, are not the network."""
        chain = nn.Sequential(*halves)
        expected = self._answers(self._module, pixels)
        try:
            reason = "" if _alike(self._answers(chain, pixels), expected) else "give other outputs"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of stages that do not fit together
            reason = f"raise {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        for network in (chain, self._module):
            setup.train_mode(network)
        if reason:
            name = self._experiment.model.name
            message = f"the stages of the model {name} are not its network: they {reason}"
            hint = 'mend its stages(), or let execution.cache_features be "off"'
            raise PluginError(Problem("broken-plugin", message, hint, "model"))

    @torch.no_grad()
    def _answers(self, network: nn.Module, pixels: Tensor) -> Tensor:
        """Return a network's outputs in evaluation mode, all its draws from one seed."""
        network.eval()
        devices = [pixels.device] if pixels.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self._precision:
            torch.manual_seed(0)
            outputs: Tensor = network(self._images.normalised(pixels))
        return outputs

    def _room(self, first: Tensor, work: float, stages: int, count: int) -> InMemoryPixels | None:
        """Return room for the features of some images, where keeping all pays; say what is done.

        Whatever the sides that are asked for, both are counted: so all sessions decide alike.
        """
        each = first[0].numel() * first.element_size()
        size = each * sum(map(len, self._positions.values()))
        folder = CacheConfig.of(self._experiment).store.root
        place, held = room.choose_place(size, first.device, self._images.rows, folder), None
        if place and work < each * _WORTH[first.device.type, place]:
            reason = "takes less to compute than to move"
        elif place and (
            held := room.allocate_rows(place, (count, 1, 1, each), first.device, folder)
        ):
            reason = f"is computed once and kept {place}"
        else:
            reason = "has no room"
        what = f"what {stages} frozen stages give, {system.format_bytes(size)},"
        _log.info("features: %s %s", what, reason)
        return held


def _blocks(positions: Positions) -> list[Positions]:
    """Return a side's rows in blocks, none with another side's: so its bits are its own."""
    return [positions[start : start + _BLOCK] for start in range(0, len(positions), _BLOCK)]


def _alike(one: Tensor, other: Tensor) -> bool:
    """Say whether two networks gave the same, but for rounding."""
    if one.shape != other.shape:
        return False
    one, other = one.float(), other.float()
    near = _ROUNDING * float(other.nan_to_num().abs().max())
    return torch.allclose(one, other, rtol=_ROUNDING, atol=near, equal_nan=True)


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _is_channels_last(features: Tensor) -> bool:
    """Say whether (B, C, H, W) lie in memory as (B, H, W, C)."""
    last = torch.channels_last
    four = features.ndim == 4 and not features.is_contiguous()
    return four and features.is_contiguous(memory_format=last)


def _in_order(features: Tensor, *, channels_last: bool) -> Tensor:
    """Return features as they are to lie in memory."""
    return (features.movedim(1, -1) if channels_last else features).contiguous()
