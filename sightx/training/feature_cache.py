"""Cache the features of a frozen prefix, so that they are computed only once per image.

This applies to a model with `stages` whose first ones are frozen, if images are not augmented.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from sightx.data.cache.store import cache_folder
from sightx.data.dataset import PreparedDataset
from sightx.data.loader.loader import BatchLoader
from sightx.errors import PluginError, Problem
from sightx.io import system
from sightx.records.events import FeatureBlock
from sightx.records.pixels import InMemoryPixels, PixelRows, Positions
from sightx.registry import results
from sightx.spec.experiment import Experiment
from sightx.training import setup
from sightx.training.step import autocast

if TYPE_CHECKING:
    from torch import Tensor

DEVICE, MEMORY, FILE = "on the device", "in memory", "in a scratch file"

_log = logging.getLogger("sightx")
# Images per forward pass; it is not the batch size, so that the bits depend only on the table.
_BLOCK = 32
_SPLITS = ("train", "validation")
_TOLERANCE = 1e-2  # of a chain of stages against its network, as a fraction of the largest output
# Floating-point operations per byte of features from which caching pays: at least twice what a
# machine computes while it moves a byte. A count and not a timing decides, so that a resumed run
# decides alike.
_MIN_FLOPS_PER_BYTE = {
    ("cuda", DEVICE): 300, ("cuda", MEMORY): 20_000, ("cuda", FILE): 20_000,
    ("mps", MEMORY): 1_000, ("mps", FILE): 5_000,
    ("cpu", MEMORY): 100, ("cpu", FILE): 500,
}  # fmt: skip
_MEMORY_SHARE = 3  # features and pixels together may take one part in this many of a memory
_WRITE_SIZE = 1 << 20  # bytes


@dataclass(frozen=True)
class FeatureLoader(BatchLoader):
    """Batches of features, which are stored as uint8 rows like pixels.

    `shape` is that of one image's features in memory; with `channels_last` it is (H, W, C).
    """

    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return features (B, ...) from rows, as the prefix computed them."""
        features = pixels.view(len(pixels), -1).view(self.dtype).view(len(pixels), *self.shape)
        return features.movedim(-1, 1) if self.channels_last else features


class FeatureCache:
    """Compute and keep the features of the images that training and validation see.

    `loader` loads all images. Without a frozen prefix, or if computing the features anew in every
    epoch is cheaper than moving them, nothing is cached.
    """

    def __init__(
        self,
        experiment: Experiment,
        module: nn.Module,
        dataset: PreparedDataset,
        loader: BatchLoader,
    ) -> None:
        self._experiment, self._module, self._loader = experiment, module, loader
        self._positions = {split: np.unique(dataset.splits[split]) for split in _SPLITS}
        self._precision = autocast(loader.device, experiment.training.precision)
        self._stages = _stages(experiment, module)
        self._prefix, self._suffix = nn.Sequential(), module  # frozen stages, and all others
        self._features: FeatureLoader | None = None
        self._weights: list[Tensor] = []  # of the prefix, when the features were computed
        self._splits: tuple[str, ...] = ()  # whose features are cached

    def route(self, split: str, module: nn.Module | None = None) -> tuple[nn.Module, BatchLoader]:
        """Return the network and the loader for a split: behind the prefix if it is cached.

        `module` is a copy of the network with other weights behind the prefix, None the network.
        """
        if not self._features or split not in self._splits:
            return module or self._module, self._loader
        if module is None:
            return self._suffix, self._features
        stages = results.network_stages(self._experiment.model, module)
        return nn.Sequential(*stages[len(self._prefix) :]), self._features

    def compute(self, *splits: str) -> Iterator[FeatureBlock]:
        """Compute the features of splits if that pays, once; yield the progress.

        Raises PluginError if the model's stages, one after another, are not the network.
        """
        splits = tuple(split for split in splits if split in _SPLITS)
        blocks = [block for split in splits for block in _blocks(self._positions[split])]
        if not self._stages or not blocks or set(splits) <= set(self._splits):
            return
        total = sum(map(len, blocks))
        example, rows = self._plan(blocks[0], total)
        if example is None or rows is None:
            self._stages = ()  # the next decision would be the same
            return
        channels_last, done = _is_channels_last(example), 0
        buffer = rows.tensor[:, 0, 0]
        with closing(self._loader.iter_batches(blocks)) as batches:
            for positions, pixels, _ in batches:
                outputs = self._forward(self._prefix, self._loader.normalize(pixels))
                features = _contiguous(outputs, channels_last)
                start, done = done, done + len(positions)
                buffer[start:done] = features.view(len(positions), -1).view(torch.uint8)
                yield FeatureBlock(done, total)
        _log.info("features: those of %d images are cached", done)
        index = np.full(len(self._loader.labels), -1)
        index[np.concatenate(blocks)] = np.arange(total)
        self._weights = [value.clone() for value in _state(self._prefix)]
        self._splits = splits
        self._features = FeatureLoader(
            PixelRows(rows, index), self._loader.labels, self._loader.statistics,
            self._loader.device, seed=self._loader.seed, steps=self._loader.steps,
            shape=tuple(_contiguous(example, channels_last).shape[1:]),
            dtype=example.dtype, channels_last=channels_last,
        )  # fmt: skip

    def verify(self) -> None:
        """Forget the features if the weights of the prefix have changed since."""
        if self._features and not all(map(torch.equal, self._weights, _state(self._prefix))):
            self._features, self._splits = None, ()

    def _plan(self, block: Positions, total: int) -> tuple[Tensor | None, InMemoryPixels | None]:
        """Find the frozen prefix; return its outputs for a block, and room for `total` images.

        Either is None if nothing is to be cached.
        """
        pixels = self._loader.rows.gather(block).to(self._loader.device)
        devices = [pixels.device] if pixels.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            self._check_stages(pixels)
            outputs, stages, flops = self._loader.normalize(pixels), 0, 0
            while stages < len(self._stages) and _is_frozen(self._stages[stages]):
                if (result := self._try_stage(self._stages[stages], outputs)) is None:
                    break
                outputs, stages, flops = result[0], stages + 1, flops + result[1]
        self._prefix = nn.Sequential(*self._stages[:stages])
        self._suffix = nn.Sequential(*self._stages[stages:])
        if not any(True for _ in self._prefix.parameters()):
            return None, None
        return outputs, self._allocate(outputs, flops / len(block), stages, total)

    def _try_stage(self, stage: nn.Module, inputs: Tensor) -> tuple[Tensor, int] | None:
        """Return the outputs of a frozen stage for a block, and the operations they took.

        None if training would change the stage, or an image's outputs are not always the same.
        """
        from torch.utils.flop_counter import FlopCounterMode

        buffers = [buffer.clone() for buffer in stage.buffers()]
        with FlopCounterMode(display=False) as counter:
            outputs = self._forward(stage, inputs.clone())
        if not all(map(torch.equal, buffers, stage.buffers())):
            for buffer, before in zip(stage.buffers(), buffers, strict=True):
                buffer.copy_(before)
            return None
        if not isinstance(outputs, torch.Tensor) or outputs.shape[:1] != inputs.shape[:1]:
            return None
        few = inputs[: max(len(inputs) // 2, 1)]
        is_repeatable = torch.equal(outputs, self._forward(stage, inputs.clone()))
        is_per_image = _is_close(self._forward(stage, few.clone()), outputs[: len(few)])
        return (outputs, counter.get_total_flops()) if is_repeatable and is_per_image else None

    @torch.no_grad()
    def _forward(self, network: nn.Module, inputs: Tensor) -> Tensor:
        with self._precision:
            outputs: Tensor = network(inputs)
        return outputs

    def _check_stages(self, pixels: Tensor) -> None:
        """Raise PluginError if the stages, one after another, are not the network."""
        chain = nn.Sequential(*self._stages)
        expected = self._evaluate(self._module, pixels)
        try:
            outputs = self._evaluate(chain, pixels)
            reason = "" if _is_close(outputs, expected) else "give other outputs"
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of stages that do not fit together
            reason = f"raise {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        for network in (chain, self._module):
            setup.train_mode(network)
        if reason:
            name = self._experiment.model.name
            message = f"the stages of the model {name} are not its network: they {reason}"
            hint = 'fix its stages(), or set execution.cache_features = "off"'
            raise PluginError(Problem("broken-plugin", message, hint, "model"))

    def _evaluate(self, network: nn.Module, pixels: Tensor) -> Tensor:
        """Return a network's outputs in evaluation mode, with all its draws from one seed."""
        network.eval()
        torch.manual_seed(0)
        return self._forward(network, self._loader.normalize(pixels))

    def _allocate(
        self, example: Tensor, flops: float, stages: int, total: int
    ) -> InMemoryPixels | None:
        """Return room for the features of `total` images if caching pays, and log the decision.

        `flops` is the number of operations per image. The size counts both splits, whichever are
        asked for, so that a resumed run decides alike.
        """
        bytes_per_image = example[0].numel() * example.element_size()
        size = bytes_per_image * sum(map(len, self._positions.values()))
        folder = cache_folder(self._experiment.context.project)
        place = choose_place(size, example.device, self._loader.rows, folder)
        rows = None
        if not place:
            decision = "do not fit anywhere"
        elif flops < bytes_per_image * _MIN_FLOPS_PER_BYTE[example.device.type, place]:
            decision = "take less to compute than to move"
        elif rows := allocate_rows(place, (total, 1, 1, bytes_per_image), example.device, folder):
            decision = f"are computed once and kept {place}"
        else:
            decision = "do not fit anywhere"
        _log.info(
            "features: the outputs of %d frozen stages, %s, %s",
            stages, system.format_bytes(size), decision,
        )  # fmt: skip
        return rows


class ScratchPixels(InMemoryPixels):
    """Rows in a file without a name; reading them takes time, so it is worth prefetching."""

    is_in_memory = False


def choose_place(size: int, device: torch.device, rows: PixelRows, folder: Path) -> str:
    """Return where `size` bytes of features go, next to the pixels of `rows`; empty if nowhere.

    What is free at the moment counts only on a disk, so that a resumed run decides alike. Pixels
    count in both memories, because where they went depends on what was free.
    """
    pixels = rows.pixels.tensor.nbytes if isinstance(rows.pixels, InMemoryPixels) else 0
    is_cuda = device.type == "cuda"
    if is_cuda and size < _share(torch.cuda.get_device_properties(device).total_memory) - pixels:
        return DEVICE
    if size < _share(system.total_memory()) - pixels:
        return MEMORY
    return FILE if size < _share(system.free_space(folder)) else ""


def _share(memory: int) -> int:
    return memory // _MEMORY_SHARE


def allocate_rows(
    place: str, shape: tuple[int, ...], device: torch.device, folder: Path
) -> InMemoryPixels | None:
    """Return empty rows, uint8 of `shape`, in a place; None if it has become full."""
    with suppress(torch.OutOfMemoryError, MemoryError, OSError):
        if place != FILE:
            where = device if place == DEVICE else torch.device("cpu")
            return InMemoryPixels(torch.empty(shape, dtype=torch.uint8, device=where))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            _reserve(file, math.prod(shape))
            mapped = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=torch.uint8)
        return ScratchPixels(mapped.view(shape))
    return None


def _reserve(file: IO[bytes], size: int) -> None:
    """Reserve disk space: a disk that is full later would kill the process. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    zeros = bytes(_WRITE_SIZE)
    for start in range(0, size, _WRITE_SIZE):
        file.write(zeros[: size - start])
    file.flush()


def _stages(experiment: Experiment, module: nn.Module) -> Sequence[nn.Module]:
    """Return the stages of a network whose first one is frozen and sees the same in every epoch."""
    # A run of one epoch caches too: it may be resumed with more, and must then give the same bits.
    if experiment.augment or experiment.execution.cache_features == "off":
        return ()
    stages = results.network_stages(experiment.model, module)
    frozen = takewhile(_is_frozen, stages)
    return stages if any(True for stage in frozen for _ in stage.parameters()) else ()


def _is_frozen(stage: nn.Module) -> bool:
    return not any(weight.requires_grad for weight in stage.parameters())


def _blocks(positions: Positions) -> list[Positions]:
    """Return the rows of a split in blocks, none with rows of another split."""
    return [positions[start : start + _BLOCK] for start in range(0, len(positions), _BLOCK)]


def _is_close(one: Tensor, other: Tensor) -> bool:
    """Return whether two networks gave the same outputs, up to rounding."""
    if one.shape != other.shape:
        return False
    one, other = one.float(), other.float()
    absolute = _TOLERANCE * float(other.nan_to_num().abs().max())
    return torch.allclose(one, other, rtol=_TOLERANCE, atol=absolute, equal_nan=True)


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _is_channels_last(features: Tensor) -> bool:
    """Return whether features (B, C, H, W) are stored as (B, H, W, C)."""
    return (
        features.ndim == 4
        and not features.is_contiguous()
        and features.is_contiguous(memory_format=torch.channels_last)
    )


def _contiguous(features: Tensor, channels_last: bool) -> Tensor:
    """Return features as they are stored: (B, H, W, C) if they are channels last."""
    return (features.movedim(1, -1) if channels_last else features).contiguous()
