"""The kinds of component that lead from images to batches: see the manual in `kinds`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from sightx.registry.components import Component, File, Shape, Traits

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from sightx.errors import Problem
    from sightx.records.pixels import PixelRows
    from sightx.records.table import ImageTable
    from sightx.registry.kinds.training import Model

    Array = np.ndarray[Any, Any]

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
Params = Mapping[str, "np.ndarray[Any, Any]"]


class Dataset(Component):
    """Images with labels, as a table with one row per image."""

    kind = "dataset"

    exclude: File | None = None
    """CSV file with the columns path and reason: these images are left out and reported."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    """What to do with an unreadable image: `fail` before training starts, or `skip` the image."""
    bad_images_at_most: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Largest fraction of the images that `skip` may leave out, 0 to 1."""
    decode: Literal["scaled", "exact"] = "scaled"
    """Whether a large JPEG may be decoded at a reduced size (`scaled`) or never (`exact`)."""

    def traits(self) -> Traits:
        """Return what is known from the settings alone, without reading data.

        Checks use it before any file is opened. It must agree with `table`.
        """
        return Traits()

    def check_headers(self) -> Iterable[Problem]:
        """Return what is wrong with the files that list the samples; by default nothing.

        `sightx validate` shows it without --deep: read no more than the names of files and the
        headers of tables, and do not import pandas. The `path` of a problem is the key of the
        setting to change, such as `dataset.labels`.
        """
        return ()

    def table(self) -> ImageTable:
        """Return the samples, in the same order each time.

        The table's frame has the columns `path` (unique strings), `label` (int64, positions in the
        table's classes) and `group` (strings, "" for no group), and may have `split`.
        `sightx.plugin.table_from_csv` and `table_from_torch` build tables.

        Raises DataError, which names the file and the row.
        """
        raise NotImplementedError


class Split(Component):
    """An assignment of samples to the splits train, validation and test."""

    kind = "split"
    uses_dataset_split: ClassVar[bool] = False  # whether it needs a split in the dataset's table
    ignores_groups: ClassVar[bool] = False  # whether it may divide a group between splits

    def empty(self) -> Collection[str]:
        """Return the names of the splits that will have no samples, judging by the settings."""
        return ()

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return "train", "validation", "test" or "" (leave out) for each row, in order. Pure.

        Samples of one group (`table.groups`, for example a patient) belong in the same split. The
        split of a sample must not depend on the order of the rows.
        """
        raise NotImplementedError


class Preprocess(Component):
    """A deterministic transformation of one image; the results are cached."""

    kind = "preprocess"

    def apply(self, image: Tensor) -> Tensor:
        """Transform an image, uint8 (C, H, W) with values 0 to 255, on the CPU. Pure.

        The result is uint8 (C, H, W) too; its size and number of channels may differ. Several
        threads call `apply` at once. Pixels may be stored channels last: use `reshape`, not `view`.
        """
        raise NotImplementedError

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of the result, by default the same; None: known only from the image."""
        return shape

    def required_input_size(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return the smallest input size from which an output of `size` has full quality.

        The decoder may then reduce a large JPEG, to no less than 1.75 times this height and width.
        Sizes are (height, width) in pixels. Return None, as the default does, if the input must not
        be reduced. `size` is None if the next step needs full resolution.
        """
        return None


class Normalize(Component):
    """Per-channel mean and standard deviation: networks get (x - mean) / std, with x in [0, 1]."""

    kind = "normalize"

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return (mean, std) for pixels in [0, 1]: two tuples of C finite floats, each std above 0.

        `model.normalization()` may declare statistics. `training_rows.gather(positions)` returns
        preprocessed images of the train split, uint8 (len(positions), C, H, W).
        """
        raise NotImplementedError


class Augment(Component):
    """A random transformation of training batches that keeps height and width.

    Implement `draw`, and `matrix` for a geometric transformation or `apply` for any other.
    """

    kind = "augment"
    mixes: ClassVar[bool] = False  # whether `apply` mixes classes: targets become probabilities

    def mirrors(self) -> bool:
        """Return whether the transformation may mirror an image, left to right."""
        return False

    def draw(self, n: int, rng: np.random.Generator, *, progress: float = 0.0) -> Params:
        """Draw the parameters of n samples, on the CPU: named arrays of shape (n, ...).

        Take all random numbers from `rng`, and draw independently for each sample. `progress` is
        the part of all steps of the run that is done, from 0 to below 1.
        """
        raise NotImplementedError

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor | None:
        """Return affine maps, float (n, 2, 3) on the CPU; None if not geometric (the default).

        Each maps output coordinates [x, y, 1] to input coordinates, in pixels from the image's
        centre, x to the right and y down; it must be invertible. `size` is (height, width). The
        matrices of all augmentations are multiplied, and pixels are resampled once.
        """
        return None

    def apply(
        self, images: Tensor, targets: Tensor, params: Params, *, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Transform a batch; unchanged by default.

        Args:
            images: float32 (n, C, H, W) in [0, 1], not normalised, on the device of the run.
            targets: int64 (n,) classes, or float (n, classes) probabilities once they are mixed.
            params: The result of `draw`, on the CPU; `sightx.plugin.to_device` moves it.
            classes: The number of classes.

        Return images of the same shape and dtype in [0, 1], and targets in one of the two forms: a
        class with `mixes = True` may make probabilities of classes.
        """
        return images, targets


class Sampler(Component):
    """The order in which an epoch visits the training samples."""

    kind = "sampler"
    balances: ClassVar[bool] = False  # whether rare classes are sampled more often

    def order(
        self,
        labels: Array,
        *,
        epoch: int,
        epochs: int,
        seed: int,
        groups: Array,
        columns: Mapping[str, Array],
    ) -> Array:
        """Map the labels, int64 (N,), to the order of one epoch: int64 (M,) positions. Pure.

        Positions are 0 to N - 1 and may repeat or be missing; M is the same in every epoch. `epoch`
        counts from 0 to `epochs` - 1. Draw from `sightx.plugin.generator(seed, "order", epoch)`.
        `groups` (N,) are texts, unique for samples without a group; `columns` has the texts (N,) of
        each extra column of the dataset.
        """
        raise NotImplementedError
