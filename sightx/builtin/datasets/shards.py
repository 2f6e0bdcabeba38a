"""Tar shards with an index, in a folder or at a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightx.builtin.datasets.written import Written
from sightx.plugin import Location

if TYPE_CHECKING:
    from sightx.plugin import ImageTable


class Shards(Written):
    """Read tar shards of the WebDataset form that `sightx prepare --shards` wrote.

    Images are read one by one, by their offset: from disk, by HTTP Range, or from an object store
    (s3://, gs://) whose fsspec package is installed; each is compared with its hash.
    """

    name = "shards"

    root: Location
    """The folder that was written, or a URL of it."""

    def table(self) -> ImageTable:
        """Return a row for each image, from the index alone."""
        from sightx.plugin import table_from_shards

        return table_from_shards(self.root, self.traits())
