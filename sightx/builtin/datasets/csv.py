"""Datasets that are described by a CSV file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sightx.plugin import OWN_COLUMNS, Dataset, Place, Traits

if TYPE_CHECKING:
    from sightx.plugin import ImageTable, Problem

GRADES = ("none", "mild", "moderate", "severe", "proliferative")
_HOW_TO_GET = (
    "--set dataset.root=FOLDER if you have it; otherwise kaggle competitions download -c "
    "diabetic-retinopathy-detection (88 GB), or try --set dataset.use=synthetic-fundus"
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


def _text_encoding(name: str) -> str:
    import codecs

    try:
        "".encode(name)
        return codecs.lookup(name).name
    except LookupError:  # unknown, or not an encoding of text
        hint = "utf-8, utf-16, cp1252 and latin-1 are usual"
        raise ValueError(f"there is no encoding {name!r}; {hint}") from None


Encoding = Annotated[str, AfterValidator(_text_encoding)]
Separator = Literal[",", ";", "\t", "|"]


class CsvDataset(Dataset):
    """Read images and labels that a CSV file, or one per split, lists.

    File names are relative to the folder of images, or absolute paths below it.
    """

    name = "csv"
    other_names = ("dataframe", "table", "annotations")

    root: Place
    """The folder that contains the CSV file and the images."""
    labels: str = "labels.csv"
    """The CSV file, relative to the root."""
    validation_labels: str = ""
    """A CSV file of the validation split; `labels` is then that of the train split."""
    test_labels: str = ""
    """A CSV file of the test split; `labels` is then that of the train split."""
    columns: tuple[str, ...] = ()
    """The names of all columns, if the file has no header."""
    images: str = "."
    """The folder of the images, relative to the root."""
    validation_images: str = ""
    """The folder of the images of `validation_labels`, if it is another one."""
    test_images: str = ""
    """The folder of the images of `test_labels`, if it is another one."""
    search_subfolders: bool = False
    """Whether file names may lack folders below `images`, and their endings."""
    image: str = "image"
    """The column of the image's file name."""
    label: str = "label"
    """The column of the class."""
    one_hot: tuple[str, ...] = ()
    """The columns of the classes, instead of `label`, if each class has one, of 0 and 1."""
    group: str = ""
    """The column of the group, such as the patient, that belongs in one split; empty for none."""
    split: str = ""
    """The column of the split: train, validation, test; empty for none."""
    extra_columns: tuple[str, ...] = ()
    """Other columns that metrics and samplers may use, such as the camera or the site."""
    suffix: str = ""
    """The end of every file name that the column lacks, such as `.jpeg`."""
    strip_prefix: str = ""
    """The start of file names that is left out, such as a folder on another machine."""
    separator: Separator = ","
    """What separates the cells: a comma, `;`, `|` or a tab, written `\\t`."""
    encoding: Encoding = "utf-8"
    """The encoding of the file, such as `utf-16`, or `cp1252` of Excel on Windows."""
    classes: Classes | None = None
    """The classes in their order; by default all that occur, sorted by name or number."""
    others: Literal["fail", "drop"] = "fail"
    """What to do with rows of classes that `classes` does not name."""
    follow_links: bool = False
    """Whether links may lead out of the folder of images."""
    ordered: bool = False
    """Whether the classes are grades. Needs `classes`, unless they are numbers."""
    handed: bool = False
    """Whether classes distinguish left from right, so that a mirror image has another label."""

    @model_validator(mode="after")
    def _has_one_source_of_splits(self) -> CsvDataset:
        if self.split and (self.validation_labels or self.test_labels):
            raise ValueError("give a column of splits or a file per split, not both")
        for split in ("validation", "test"):
            if getattr(self, f"{split}_images") and not getattr(self, f"{split}_labels"):
                raise ValueError(f"{split}_images needs {split}_labels")
        return self

    @model_validator(mode="after")
    def _has_one_source_of_labels(self) -> CsvDataset:
        if self.one_hot and "label" in self.model_fields_set:
            raise ValueError("give the column of the class or those of all classes, not both")
        if len(self.one_hot) == 1:
            raise ValueError("one_hot needs a column for each of two classes or more")
        return self

    @model_validator(mode="after")
    def _extra_columns_have_their_own_names(self) -> CsvDataset:
        for number, name in enumerate(self.extra_columns):
            if name in OWN_COLUMNS or name in self.extra_columns[:number]:
                message = f"extra_columns: {name!r} is the name of another column of a table"
                raise ValueError(message)
        return self

    def traits(self) -> Traits:
        """Return what follows from the settings."""
        has_split = bool(self.split or self.validation_labels or self.test_labels)
        classes = self.classes or self.one_hot or None
        return Traits(
            classes, self.ordered, bool(self.group), has_split, handed=self.handed,
            columns=self.extra_columns,
        )  # fmt: skip

    def check_headers(self) -> Iterator[Problem]:
        """Yield what is wrong with the headers of the files, if there is a root."""
        from sightx.plugin import header_problems

        columns = {self.image: "dataset.image", self.group: "dataset.group"}
        columns[self.split] = "dataset.split"
        columns |= dict.fromkeys(self.one_hot, "dataset.one_hot") or {self.label: "dataset.label"}
        columns |= dict.fromkeys(self.extra_columns, "dataset.extra_columns")
        columns.pop("", None)
        for key in ("labels", "validation_labels", "test_labels"):
            if self.root.is_dir() and (name := getattr(self, key)):
                yield from header_problems(
                    self.root / name, f"dataset.{key}", columns, self.columns,
                    separator=self.separator, encoding=self.encoding,
                )  # fmt: skip

    def table(self) -> ImageTable:
        """Return one row per row of the files."""
        from sightx.plugin import require_folder, table_from_csv

        root = require_folder(self.root, "dataset.root")
        more = {"validation": self.validation_labels, "test": self.test_labels}
        roots = {"validation": self.validation_images, "test": self.test_images}
        return table_from_csv(
            root / self.labels,
            root=root / self.images,
            image=self.image,
            label=self.label,
            one_hot=self.one_hot,
            group=self.group,
            split=self.split,
            suffix=self.suffix,
            strip_prefix=self.strip_prefix,
            classes=self.classes,
            ordered=self.ordered,
            columns=self.columns,
            drop_others=self.others == "drop",
            more={split: root / name for split, name in more.items() if name},
            roots={split: root / name for split, name in roots.items() if name},
            follow_links=self.follow_links,
            separator=self.separator,
            encoding=self.encoding,
            search_subfolders=self.search_subfolders,
            extra=self.extra_columns,
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
    follow_links: bool = False
    """Whether links may lead out of the folder of images."""

    def traits(self) -> Traits:
        """Return the five grades, with patients as groups."""
        return Traits(GRADES, ordered=True, has_groups=True, majority_share=0.735)

    def check_headers(self) -> tuple[Problem, ...]:
        """Return what is wrong with the header of the file, if there is a root."""
        from sightx.plugin import header_problems

        if not self.root.is_dir():
            return ()
        return header_problems(
            self.root / self.labels, "dataset.labels", {"image": "", "level": ""}
        )

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
            follow_links=self.follow_links,
        )


def patient(image: str) -> str:
    """Return the patient of an image: 10 for `10_left` and `10_right`."""
    head, _, eye = image.rpartition("_")
    return head if eye in {"left", "right"} else image
