"""The settings of datasets that `sightx prepare` exported."""

from __future__ import annotations

from sightx.builtin.datasets.csv import Classes
from sightx.plugin import Dataset, Traits


class ExportedDataset(Dataset):
    """Base of exported datasets, whose settings state what the data contain."""

    classes: Classes | None = None
    """The classes in their order; by default those of the data."""
    ordered: bool = False
    """Whether the classes are grades."""
    handed: bool = False
    """Whether classes distinguish left from right, so that a mirror image has another label."""
    groups: bool = False
    """Whether samples belong to groups, such as patients."""
    split: bool = False
    """Whether the data are split already."""
    extra_columns: tuple[str, ...] = ()
    """The extra columns, such as the camera or the site."""

    def traits(self) -> Traits:
        """Return what follows from the settings."""
        return Traits(
            self.classes, self.ordered, self.groups, self.split, handed=self.handed,
            columns=self.extra_columns,
        )  # fmt: skip
