"""Projects of synthetic photographs of the retina, and of faults planted among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sightx.builtin.datasets.synthetic_fundus.render import grade_of, render

PATIENTS, SIZE = 16, 64
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def eyes() -> dict[str, tuple[Array, int]]:
    """Pixels and grade of both eyes of some patients, by name."""
    return {
        f"{patient}_{side}": (render(0, patient, side, grade, SIZE), grade)
        for patient in range(PATIENTS)
        for side, grade in zip(("left", "right"), grade_of(0, patient), strict=True)
    }


class Project:
    """Images and their table, which grow until the spec is written."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, list[tuple[str, int, str, str]]()
        (folder / "images").mkdir(parents=True)

    def add(
        self, name: str, image: Array | bytes, label: int, group: str, split: str = "train",
        **options: Any,
    ) -> None:  # fmt: skip
        file = self.folder / "images" / name
        if isinstance(image, bytes):
            file.write_bytes(image)
        else:
            Image.fromarray(image).save(file, **{"quality": 95, **options})
        self.rows.append((name, label, group, split))

    def spec(self, **dataset: Any) -> Path:
        """Write the table and the spec, and return its path."""
        columns = ["image", "label", "patient", "split"]
        pd.DataFrame(self.rows, columns=columns).to_csv(self.folder / "labels.csv", index=False)
        settings = {"group": '"patient"', "split": '"split"', **dataset}
        lines = "".join(f"{key} = {value}\n" for key, value in settings.items() if value)
        file = self.folder / "spec.toml"
        file.write_text(
            f'name = "audited"\n[dataset]\nuse = "csv"\nroot = "."\nimages = "images"\n'
            f'classes = ["0", "1", "2"]\nordered = true\n{lines}'
            '[[preprocess]]\nuse = "resize"\nsize = 8\n[model]\nuse = "simplenet"\nhidden = [4]\n'
            "[training]\nepochs = 1\nbatch_size = 8\n"
        )
        return file


@pytest.fixture
def project(tmp_path: Path, eyes: dict[str, tuple[Array, int]]) -> Project:
    """A project without a fault: ten patients to train, three to validate, three to test."""
    project = Project(tmp_path / "project")
    for number, (name, (pixels, _)) in enumerate(eyes.items()):
        patient = number // 2
        split = "train" if patient < 10 else "validation" if patient < 13 else "test"
        project.add(f"{name}.jpg", pixels, patient % 3, str(patient), split)
    return project


@pytest.fixture
def codes() -> Callable[[Any], dict[str, Any]]:
    """Return the findings of a report by their code."""

    def by_code(report: Any) -> dict[str, Any]:
        return {finding.code: finding for finding in report.findings}

    return by_code
