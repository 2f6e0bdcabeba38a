"""Datasets that are described by a CSV file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from sightx.plugin import Dataset, Place, Traits

if TYPE_CHECKING:
    from sightx.plugin import ImageTable

GRADES = ("none", "mild", "moderate", "severe", "proliferative")
_HOW_TO_GET = (
    "kaggle competitions download -c diabetic-retinopathy-detection (88 GB), then "
    "--set dataset.root=FOLDER; or try --set dataset.use=synthetic-fundus"
)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    from sightx.plugin import class_name, class_positions

    positions = class_positions(names, names)
    for number, name in enumerate(names):
        if (other := positions[name]) != number:
            both = "" if names[other] == name else f": {name!r} and {names[other]!r}"
            raise ValueError(f"a class is listed twice{both}")
        if not class_name(name):
            raise ValueError("a class has no name")
    return tuple(map(class_name, names))


Classes = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=2),
    AfterValidator(_distinct),
]


class CsvDataset(Dataset):
    """Read images and labels that a CSV file lists."""

    name = "csv"

    root: Place
    """The folder that contains the CSV file and the images."""
    labels: str = "labels.csv"
    """The CSV file, relative to the root."""
    images: str = "."
    """The folder of the images, relative to the root."""
    image: str = "image"
    """The column of the image's file name."""
    label: str = "label"
    """The column of the class."""
    group: str = ""
    """The column of the group, such as the patient, that belongs in one split; empty for none."""
    split: str = ""
    """The column of the split: train, validation, test; empty for none."""
    suffix: str = ""
    """The end of every file name that the column lacks, such as `.jpeg`."""
    classes: Classes | None = None
    """The classes in their order; by default all that occur, sorted by name or number."""
    ordered: bool = False
    """Whether the classes are grades. Needs `classes`, unless they are numbers."""
    handed: bool = False
    """Whether classes distinguish left from right, so that a mirror image has another label."""

    def traits(self) -> Traits:
        """Return what follows from the settings."""
        return Traits(
            self.classes, self.ordered, bool(self.group), bool(self.split), handed=self.handed
        )

    def table(self) -> ImageTable:
        """Return one row per row of the file."""
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
    """Read EyePACS: photographs of the retina in five grades, two eyes per patient.

    The CSV file has the columns `image` and `level`; the file of an image is `<image>.jpeg`, and
    `<id>_left` and `<id>_right` belong to one patient.
    """

    name = "eyepacs"

    root: Place
    """The folder that contains the CSV file and the images."""
    labels: str = "trainLabels.csv"
    """The CSV file, relative to the root."""
    images: str = "train"
    """The folder of the images, relative to the root."""

    def traits(self) -> Traits:
        """Return the five grades, with patients as groups."""
        return Traits(GRADES, ordered=True, has_groups=True, majority_share=0.735)

    def table(self) -> ImageTable:
        """Return one row per photograph."""
        from sightx.plugin import require_folder, table_from_csv

        root = require_folder(self.root, "dataset.root", _HOW_TO_GET)
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
    """Return the patient of an image: 10 for `10_left` and `10_right`."""
    head, _, eye = image.rpartition("_")
    return head if eye in {"left", "right"} else image
