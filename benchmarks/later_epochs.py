"""Time the epochs after the first, with pixels from the cache, against ImageFolder, DataLoader.

    python benchmarks/later_epochs.py [--rounds 5] [--case disk|simplenet] [--threads 0]

disk: 512 px rows read from the cache on disk, shuffled, in batches of 32, each row's checksum
verified. The peer reads JPEGs that were resized to 512 px before (quality 90), by torchvision's
ImageFolder and a DataLoader with two persistent workers. Nothing is trained. Target: 8 times.

simplenet: whole epochs of training SimpleNet (12288-84-50-2, Adam, batches of 64) on 64x64 PNG
files, from the place that `execution.cache = "auto"` chooses. The peer is a plain loop over
ImageFolder and a DataLoader with two persistent workers. Target: 3.5 times the images per second.

All files are in the operating system's cache, as after a first epoch. By default torch uses one
thread per core, and the peer's workers compete with them; `--threads 1` gives it one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from rounds import medians, table
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

import sightx
from sightx.data.cache.row_file import RowFile
from sightx.data.dataset import prepare_dataset
from sightx.data.loader.loader import BatchLoader
from sightx.records.hashes import Hashes
from sightx.records.pixels import PixelRows
from sightx.training.setup import build_module
from sightx.training.trainer import Trainer

CPU = torch.device("cpu")
PEER = "ImageFolder, DataLoader"
SPEC = """
name = "later"
[dataset]
use = "image-folder"
root = "{root}"
[[preprocess]]
use = "resize"
size = 64
[normalize]
use = "imagenet"
[model]
use = "simplenet"
[training]
epochs = 10000
batch_size = 64
"""


def photograph(rng: np.random.Generator, size: int) -> Image.Image:
    """Return smooth colours with some noise, which are as large as a photograph as a JPEG."""
    coarse = rng.integers(0, 256, (size // 16, size // 16, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth, np.float32) + rng.normal(0, 2, (size, size, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write(folder: Path, count: int, size: int, suffix: str, seed: int = 0) -> list[Path]:
    """Write images of two classes into folders `a` and `b`."""
    rng, paths = np.random.default_rng(seed), []
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:05}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(rng, size).save(path, **({"quality": 90} if suffix == ".jpg" else {}))
        paths.append(path)
    return paths


def data_loader(folder: Path, batch: int, *steps: object) -> DataLoader:
    """Return the data loader of the peer."""
    images = ImageFolder(folder, transforms.Compose(list(steps)))
    return DataLoader(images, batch, shuffle=True, num_workers=2, persistent_workers=True)


def rate(count: int, epochs: Iterator[object]) -> float:
    """Return the images per second of one more epoch."""
    started = perf_counter()
    next(epochs)
    return count / (perf_counter() - started)


def disk(folder: Path, rounds: int) -> dict[str, float]:
    """Return the images/s of reading shuffled 512 px images."""
    count = 1024
    paths = write(folder / "jpeg", count, 512, ".jpg")
    row_file = RowFile.create(folder / "rows", {"shape": [3, 512, 512]})
    digests = Hashes.from_bytes(hashlib.sha256(path.read_bytes()).digest() for path in paths)
    with row_file.writer() as writer:
        for digest, path in zip(digests, paths, strict=True):
            pixels = np.asarray(Image.open(path)).transpose(2, 0, 1)
            writer.append(bytes.fromhex(digest), pixels)
    row_file = RowFile.open(row_file.folder)
    rows = PixelRows(row_file.reader(), row_file.find(digests))
    batches = BatchLoader(rows, np.zeros(count, int), ((0.0,) * 3, (1.0,) * 3), CPU)
    jpegs = data_loader(folder / "jpeg", 32, transforms.PILToTensor())

    def peer() -> Iterator[int]:
        while True:
            yield sum(len(images) for images, _ in jpegs)

    def from_cache() -> Iterator[int]:
        rng = np.random.default_rng(0)
        while True:
            parts = np.split(rng.permutation(count), count // 32)
            yield sum(len(batch.pixels) for batch in batches.iter_batches(parts))

    cases = {PEER: peer(), "SightX, disk, checksums": from_cache()}
    return medians({name: partial(rate, count, epochs) for name, epochs in cases.items()}, rounds)


def simplenet(folder: Path, rounds: int) -> dict[str, float]:
    """Return the images/s of training a small network."""
    count = 2048
    write(folder / "files" / "train", count, 64, ".png")
    write(folder / "files" / "val", 8, 64, ".png", seed=1)
    os.environ["SIGHTX_CACHE"] = str(folder / "cache")
    (folder / "spec.toml").write_text(SPEC.format(root=folder / "files"))
    experiment = sightx.load(folder / "spec.toml")
    data = prepare_dataset(
        experiment, sightx.table(experiment), device=CPU, bad_images_csv=folder / "bad-images.csv"
    )

    def network() -> nn.Module:
        return build_module(experiment.model, experiment.loss, 2, (3, 64, 64), 0)

    def peer() -> Iterator[float]:
        mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        steps = [transforms.ToTensor(), transforms.Normalize(mean, deviation)]
        files, net = data_loader(folder / "files" / "train", 64, *steps), network()
        criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters())
        while True:
            total = 0.0
            for images, targets in files:
                optimizer.zero_grad()
                loss = criterion(net(images), targets)
                loss.backward()
                optimizer.step()
                total += loss.item()
            yield total

    trainer = Trainer(experiment, data, network(), CPU)
    cases = {PEER: peer(), f"SightX, {data.placement}": trainer.epochs()}
    return medians({name: partial(rate, count, epochs) for name, epochs in cases.items()}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", choices=["disk", "simplenet"])
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 for its default")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for name, case in {"disk": disk, "simplenet": simplenet}.items():
        if arguments.case in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                results = case(Path(folder), arguments.rounds)
            print(f"{name}\n{table(results, PEER, 'images/s', more_is_better=True)}\n")


if __name__ == "__main__":
    main()
