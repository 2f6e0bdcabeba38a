"""Follow hints: small data, specs of one table, and the commands that a line proposes."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

from support.commands import sightx_main


def draw(folder: Path, names: str, count: int = 6) -> None:
    """Draw small images, each class in its own brightness; other folders get other images."""
    rng = np.random.default_rng([*os.fsencode(folder.name), *os.fsencode(names)])
    for number, name in enumerate(names.split()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            pixels = rng.normal(60 + 120 * number % 200, 20, (8, 8, 3)).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{k}.png")


FLAT = 'use = "image-folder"\nroot = "F"\nlayout = "flat"\n'
HEAD = 'name = "a"\n[dataset]\n'
REST = (
    '\n[[preprocess]]\nuse = "resize"\nsize = 8\n[model]\nuse = "simplenet"\nhidden = [4]\n'
    "[training]\nepochs = 1\nbatch_size = 4\n"
)


def write_dataset(folder: Path, dataset: str = 'use = "image-folder"\nroot = "F"\n') -> None:
    """Write `spec.toml` with a table [dataset] and a network that trains in a moment."""
    (folder / "spec.toml").write_text(HEAD + dataset + REST)


def deep(*sets: str) -> int:
    """Validate the data and the network of `spec.toml` with other settings."""
    words = [word for change in sets for word in ("--set", change)]
    return sightx_main("validate", "--deep", "--strict", "spec.toml", *words)


def follow(line: str, end: str) -> None:
    """Run the command in the last hint of a line."""
    command = line.rpartition("; ")[2].removesuffix(end).removeprefix("sightx ")
    assert sightx_main(*shlex.split(command)) == 0
