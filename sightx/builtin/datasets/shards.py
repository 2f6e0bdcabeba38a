"""A dataset of tar shards, in a folder or at a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightx.builtin.datasets.exported import ExportedDataset
from sightx.plugin import Location

if TYPE_CHECKING:
    from sightx.plugin import ImageTable


class Shards(ExportedDataset):
    """Read tar shards in WebDataset's format that `sightx prepare --shards` wrote.

    Each image is read by its offset and compared with its hash: from a disk, with HTTP Range, or
    from an object store (s3://, gs://) whose fsspec package is installed.
    """

    name = "shards"
    other_names = ("webdataset", "wds", "tar")

    root: Location
    """The folder of the shards, or its URL."""

    def table(self) -> ImageTable:
        """Return one row per image, from the index alone."""
        from sightx.plugin import table_from_shards

        return table_from_shards(self.root, self.traits())
