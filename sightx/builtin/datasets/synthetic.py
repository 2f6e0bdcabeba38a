"""A dataset that is drawn, not read: for a first run, for tests, for teaching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from sightx import Dataset, Traits
from sightx.builtin.datasets.csv import GRADES

if TYPE_CHECKING:
    import numpy as np

    from sightx import ImageTable


class SyntheticFundus(Dataset):
    """Draw retina photographs in five grades, two eyes a patient, as rare as in EyePACS."""

    name = "synthetic-fundus"

    patients: Annotated[int, Field(ge=10)] = 1000
    """How many patients; each has two eyes."""
    size: Annotated[int, Field(ge=32, le=1024)] = 96
    """Height and width in pixels."""
    seed: NonNegativeInt = 0
    """Which patients."""

    def traits(self) -> Traits:
        """Return the five grades; patients are groups."""
        return Traits(GRADES, ordered=True, has_groups=True)

    def table(self) -> ImageTable:
        """Return a row for each eye; an image is drawn when it is read."""
        import pandas as pd

        from sightx import ImageTable
        from sightx.builtin.datasets.fundus import grade_of, render

        eyes: tuple[Literal["left", "right"], ...] = ("left", "right")
        rows = [
            (patient, eye, grade)
            for patient in range(self.patients)
            for eye, grade in zip(eyes, grade_of(self.seed, patient), strict=True)
        ]
        frame = pd.DataFrame(
            {
                "path": [f"{patient:06}_{eye}" for patient, eye, _ in rows],
                "label": [grade for _, _, grade in rows],
                "group": [f"{patient:06}" for patient, _, _ in rows],
            }
        )

        def read(index: int) -> np.ndarray[Any, Any]:
            patient, eye, grade = rows[index]
            return render(self.seed, patient, eye, grade, self.size)

        return ImageTable(frame, GRADES, read, ordered=True, source="synthetic-fundus")
