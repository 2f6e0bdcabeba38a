"""A dataset of preprocessed pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from sightx.builtin.datasets.exported import ExportedDataset
from sightx.plugin import Place, Traits

if TYPE_CHECKING:
    from sightx.plugin import ImageTable


class Packed(ExportedDataset):
    """Read a pack that `sightx prepare --pack` wrote; the original images are not needed.

    A chain of `preprocess` is applied to its pixels; without one they are used as they are.
    """

    name = "packed"

    root: Place
    """The folder of the pack."""
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    """Channels, height and width of the images."""

    def traits(self) -> Traits:
        """Return what follows from the settings."""
        return replace(super().traits(), shape=self.shape)

    def table(self) -> ImageTable:
        """Return one row per image."""
        from sightx.plugin import table_from_pack

        return table_from_pack(self.root, self.traits())
