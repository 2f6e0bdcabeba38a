"""A dataset that is drawn, not read: for a first run, for tests, for teaching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from sightx.builtin.datasets.csv import GRADES
from sightx.plugin import Dataset, Traits

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import ImageTable

Eye = tuple[int, Literal["left", "right"], int]  # patient, side, grade

_THREE = ("none", "mild-moderate", "severe-proliferative")
_MERGED = (0, 1, 1, 2, 2)


class SyntheticFundus(Dataset):
    """Draw retina photographs in grades as rare as in EyePACS, two eyes a patient."""

    name = "synthetic-fundus"

    patients: Annotated[int, Field(ge=10)] = 1000
    """How many patients; each has two eyes."""
    size: Annotated[int, Field(ge=32, le=1024)] = 96
    """Height and width in pixels."""
    seed: NonNegativeInt = 0
    """Which patients."""
    grades: Literal[3, 5] = 5
    """Five, or three: none; mild and moderate; severe and proliferative."""

    @property
    def _classes(self) -> tuple[str, ...]:
        return GRADES if self.grades == 5 else _THREE

    def traits(self) -> Traits:
        """Return the grades; patients are groups."""
        return Traits(self._classes, ordered=True, has_groups=True, majority_share=0.73)

    def table(self) -> ImageTable:
        """Return a row for each eye; an image is drawn when it is read."""
        import pandas as pd

        from sightx.builtin.datasets.fundus import grade_of
        from sightx.plugin import ImageTable

        eyes: tuple[Literal["left", "right"], ...] = ("left", "right")
        rows: list[Eye] = [
            (patient, eye, grade)
            for patient in range(self.patients)
            for eye, grade in zip(eyes, grade_of(self.seed, patient), strict=True)
        ]
        frame = pd.DataFrame(
            {
                "path": [f"{patient:06}_{eye}" for patient, eye, _ in rows],
                "label": [grade if self.grades == 5 else _MERGED[grade] for _, _, grade in rows],
                "group": [f"{patient:06}" for patient, _, _ in rows],
            }
        )

        read = _Eyes(self.seed, self.size, rows)
        return ImageTable(frame, self._classes, read, ordered=True, source="synthetic-fundus")


@dataclass(frozen=True)
class _Eyes:
    """Draw the eye of a row."""

    seed: int
    size: int
    rows: list[Eye]

    def __call__(self, index: int) -> np.ndarray[Any, Any]:
        from sightx.builtin.datasets.fundus import render

        patient, side, grade = self.rows[index]
        return render(self.seed, patient, side, grade, self.size)
