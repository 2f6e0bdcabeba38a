"""A run with patients, cameras and a binary decision, for tests of its report."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import sightx
from sightx import Run

SPEC = """
name = "grades <of> eyes"
observer = []
[about]
purpose = "Test <reports>."
[dataset]
use = "csv"
root = "data"
group = "patient"
split = "split"
extra_columns = ["camera"]
classes = ["none", "mild", "severe"]
ordered = true
[[preprocess]]
use = "resize"
size = 16
[model]
use = "simple-cnn"
widths = [4]
hidden = []
[[postprocess]]
use = "temperature"
[evaluation]
positive = ["severe"]
[training]
epochs = 2
batch_size = 8
"""


@pytest.fixture(scope="session")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three grades: 48 eyes of 24 patients to test on; tests do not change it."""
    folder = tmp_path_factory.mktemp("graded")
    rng, lines = np.random.default_rng(0), ["image,label,patient,split,camera"]
    (folder / "data").mkdir()
    names = ("none", "mild", "severe")
    for split, patients in {"train": 12, "validation": 12, "test": 24}.items():
        for patient in range(patients):
            grade = patient % 3
            for eye in ("left", "right"):
                name = f"{split}-{patient}-{eye}.png"
                pixels = rng.normal(60 + 60 * grade, 50, (16, 16, 3)).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / "data" / name)
                camera = "old" if patient % 8 == 0 else "new"
                lines.append(f"{name},{names[grade]},{split}{patient},{split},{camera}")
    (folder / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "spec.toml").write_text(SPEC.replace("grades <of> eyes", "grades"))
    return sightx.run(sightx.load(folder / "spec.toml"), runs=folder / "runs")
