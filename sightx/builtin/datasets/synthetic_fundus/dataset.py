"""The dataset `synthetic-fundus`, whose images are rendered when they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from sightx.builtin.datasets.csv import GRADES
from sightx.plugin import Dataset, Traits

if TYPE_CHECKING:
    import numpy as np

    from sightx.plugin import ImageTable

_Row = tuple[int, Literal["left", "right"], int]  # patient, eye, grade

_THREE_GRADES = ("none", "mild-moderate", "severe-proliferative")
_MERGED = (0, 1, 1, 2, 2)  # each of five grades as one of three


class SyntheticFundus(Dataset):
    """Render photographs of the retina, with the grades of EyePACS and two eyes per patient."""

    name = "synthetic-fundus"

    patients: Annotated[int, Field(ge=10)] = 1000
    """Number of patients; each has two eyes."""
    size: Annotated[int, Field(ge=32, le=1024)] = 96
    """Height and width in pixels."""
    seed: NonNegativeInt = 0
    """Seed of the patients."""
    grades: Literal[3, 5] = 5
    """Number of grades: five, or three (none; mild to moderate; severe to proliferative)."""

    @property
    def _classes(self) -> tuple[str, ...]:
        return GRADES if self.grades == 5 else _THREE_GRADES

    def traits(self) -> Traits:
        """Return the grades; patients are groups."""
        return Traits(self._classes, ordered=True, has_groups=True, majority_share=0.73)

    def table(self) -> ImageTable:
        """Return one row per eye; an image is rendered when it is read."""
        import pandas as pd

        from sightx.plugin import ImageTable

        from .render import grade_of

        eyes: tuple[Literal["left", "right"], ...] = ("left", "right")
        rows: list[_Row] = [
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

        renderer = _Renderer(self.seed, self.size, rows)
        return ImageTable(frame, self._classes, renderer, ordered=True, source="synthetic-fundus")


@dataclass(frozen=True)
class _Renderer:
    """Render the eye of a row."""

    seed: int
    size: int
    rows: list[_Row]

    def __call__(self, index: int) -> np.ndarray[Any, Any]:
        from .render import render

        patient, eye, grade = self.rows[index]
        return render(self.seed, patient, eye, grade, self.size)
