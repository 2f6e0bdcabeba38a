"""What datasets that `sightx prepare` has written share."""

from __future__ import annotations

from sightx.builtin.datasets.csv import Classes
from sightx.plugin import Dataset, Traits


class Written(Dataset):
    """A dataset whose spec says what was written, so that nothing need be read to know it."""

    classes: Classes | None = None
    """The classes in their order; left out, those that were written."""
    ordered: bool = False
    """Whether the classes are grades."""
    handed: bool = False
    """Whether the classes tell left from right, so that a mirror image has another label."""
    groups: bool = False
    """Whether samples belong to groups, such as patients."""
    split: bool = False
    """Whether samples have sides of their own."""

    def traits(self) -> Traits:
        """Return what the settings say."""
        return Traits(self.classes, self.ordered, self.groups, self.split, handed=self.handed)
