"""Prepared pixels as a dataset of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from sightx.builtin.datasets.written import Written
from sightx.plugin import Place, Traits

if TYPE_CHECKING:
    from sightx.plugin import ImageTable


class Packed(Written):
    """Read pixels that `sightx prepare --pack` wrote; the original images are not needed.

    A chain of `preprocess` goes on from these pixels; left out, they are used as they are.
    """

    name = "packed"

    root: Place
    """The folder that was written."""
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    """The channels, height and width of the pixels."""

    def traits(self) -> Traits:
        """Return what the settings say."""
        return replace(super().traits(), shape=self.shape)

    def table(self) -> ImageTable:
        """Return a row for each image that was packed."""
        from sightx.plugin import table_from_pack

        return table_from_pack(self.root, self.traits())
