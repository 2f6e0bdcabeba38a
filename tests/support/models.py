"""A small trained model for tests of prediction and export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import sightx
from sightx import Run

SPEC = """
name = "tiny"
observer = []
[dataset]
use = "image-folder"
root = "data"
classes = ["dark", "light"]
ordered = true
[[preprocess]]
use = "resize"
size = 16
[normalize]
use = "dataset"
[model]
use = "simple-cnn"
widths = [4]
hidden = [6]
[[postprocess]]
use = "temperature"
[[postprocess]]
use = "cut-points"
[evaluation]
positive = ["light"]
[training]
epochs = 1
batch_size = 1
[optimizer]
use = "adam"
lr = 0.01
"""


def train_tiny_model(folder: Path) -> Run:
    """Train on images of two grades, which are below `folder / "data"`, and return the run."""
    return sightx.run(sightx.load(write_tiny_spec(folder)), runs=folder / "runs")


def write_tiny_spec(folder: Path) -> Path:
    """Draw images of two grades below `folder / "data"`, and return a spec that trains on them."""
    rng = np.random.default_rng(0)
    for split, count in {"train": 12, "val": 6, "test": 6}.items():
        for name, base in {"dark": 60, "light": 190}.items():
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(base, 30, (20, 24, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{number}.png")
    spec = folder / "spec.toml"
    spec.write_text(SPEC)
    return spec
