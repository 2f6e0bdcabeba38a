"""Datasets that a CSV file describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from sightx.plugin import Dataset, Place, Traits

if TYPE_CHECKING:
    from sightx.plugin import ImageTable

GRADES = ("none", "mild", "moderate", "severe", "proliferative")
_WAY = (
    "kaggle competitions download -c diabetic-retinopathy-detection (88 GB), then "
    "--set dataset.root=FOLDER; or try --set dataset.use=synthetic-fundus"
)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a class stands twice")
    return names


Classes = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=2),
    AfterValidator(_distinct),
]


class CsvDataset(Dataset):
    """Read a CSV file of images and labels, with any columns."""

    name = "csv"

    root: Place
    """The folder that everything else is below."""
    labels: str = "labels.csv"
    """The CSV file, below the root."""
    images: str = "."
    """The folder of images, below the root."""
    image: str = "image"
    """The column that names the image."""
    label: str = "label"
    """The column of the class, by name."""
    group: str = ""
    """The column of what must stay on one side, such as the patient."""
    split: str = ""
    """The column of the side: train, validation, test."""
    suffix: str = ""
    """What ends every file name, such as `.jpeg`."""
    classes: Classes | None = None
    """The classes in their order; left out, all that occur, sorted."""
    ordered: bool = False
    """Whether the classes are grades."""
    handed: bool = False
    """Whether the classes tell left from right, so that a mirror image has another label."""

    def traits(self) -> Traits:
        """Return what the settings say."""
        return Traits(
            self.classes, self.ordered, bool(self.group), bool(self.split), handed=self.handed
        )

    def table(self) -> ImageTable:
        """Return a row for each line of the file."""
        from sightx.plugin import require_folder, table_from_csv

        root = require_folder(self.root, "dataset.root")
        return table_from_csv(
            root / self.labels,
            root=root / self.images,
            image=self.image,
            label=self.label,
            group=self.group,
            split=self.split,
            suffix=self.suffix,
            classes=self.classes,
            ordered=self.ordered,
        )


class EyePacs(Dataset):
    """Read EyePACS: retina photographs in five grades, two eyes a patient.

    The CSV file has the columns `image` and `level`; the file of an image is `<image>.jpeg`, and
    `<id>_left` and `<id>_right` are one patient's.
    """

    name = "eyepacs"

    root: Place
    """The folder that everything else is below."""
    labels: str = "trainLabels.csv"
    """The CSV file, below the root."""
    images: str = "train"
    """The folder of images, below the root."""

    def traits(self) -> Traits:
        """Return the five grades; patients are groups."""
        return Traits(GRADES, ordered=True, has_groups=True, majority_share=0.735)

    def table(self) -> ImageTable:
        """Return a row for each photograph."""
        from sightx.plugin import require_folder, table_from_csv

        root = require_folder(self.root, "dataset.root", _WAY)
        return table_from_csv(
            root / self.labels,
            root=root / self.images,
            image="image",
            label="level",
            group=patient,
            suffix=".jpeg",
            classes=GRADES,
            ordered=True,
            numbers=True,
        )


def patient(image: str) -> str:
    """Return whose eye an image shows: `10_left` and `10_right` are patient 10's."""
    head, _, eye = image.rpartition("_")
    return head if eye in {"left", "right"} else image
