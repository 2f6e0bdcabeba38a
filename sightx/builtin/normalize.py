"""Per-channel mean and standard deviation: images become (x - mean) / std, with x in [0, 1]."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveFloat, model_validator

from sightx.builtin.models.pretrained import IMAGENET
from sightx.plugin import Normalize, Problem, SpecError, Statistics

if TYPE_CHECKING:
    from typing import Self

    from sightx.plugin import Model, PixelRows

_CHUNK = 2**24  # Pixel values per block; their squares take 64 MiB.


class FromModel(Normalize):
    """Use the statistics that the model's weights expect, or else those of the train split.

    If the images do not have as many channels as the weights expect, all channels get the average
    of the statistics. A model that declares none gets what `dataset` computes.
    """

    name = "model"

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return the model's statistics, or those of the train split."""
        declared = model.normalization()
        return _match_channels(declared, training_rows) if declared else _compute(training_rows)


class ImageNet(Normalize):
    """Use the mean and standard deviation of ImageNet.

    If images do not have three channels, all channels get the average of the three.
    """

    name = "imagenet"

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return ImageNet's statistics."""
        return _match_channels(IMAGENET, training_rows)


class OverDataset(Normalize):
    """Compute the mean and standard deviation of the train split.

    They are computed over all pixels in integers, so that the order of the samples and the device
    do not matter. The standard deviation is that of the population (divisor N); a constant channel
    gets 1.
    """

    name = "dataset"
    other_names = ("standardize", "standard", "zscore", "mean-std")

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return the statistics of the train split."""
        return _compute(training_rows)


class Values(Normalize):
    """Use the given mean and standard deviation."""

    name = "values"
    other_names = ("Normalize", "normalise")

    mean: Annotated[tuple[float, ...], Field(min_length=1)]
    """Mean of each channel, for pixels in [0, 1]; a single number applies to all channels."""
    deviation: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """Standard deviation of each channel, for pixels in [0, 1]; as many numbers as `mean`."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if len(self.mean) != len(self.deviation):
            raise ValueError(
                f"mean has {len(self.mean)} numbers and deviation {len(self.deviation)}; "
                "give both one for each channel"
            )
        return self

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return the given numbers. Raise SpecError if images have another number of channels."""
        channels = training_rows.shape[0]
        if len(self.mean) not in (1, channels):
            message = f"{len(self.mean)} numbers for images of {channels} channels"
            hint = f"give 1 or {channels}"
            raise SpecError(Problem("normalize-channels", message, hint, path="normalize.mean"))
        return _match_channels((self.mean, self.deviation), training_rows)


def _match_channels(statistics: Statistics, rows: PixelRows) -> Statistics:
    """Return the statistics; their average for each channel if the number of channels differs."""
    channels = rows.shape[0]
    if len(statistics[0]) == channels:
        return statistics
    mean, std = ((math.fsum(values) / len(values),) * channels for values in statistics)
    return mean, std


def _compute(rows: PixelRows) -> Statistics:
    """Return mean and standard deviation per channel of all pixels, rounded only at the end."""
    import numpy as np

    sums = square_sums = np.zeros(rows.shape[0], dtype=np.int64)
    step = max(1, _CHUNK // math.prod(rows.shape))
    for start in range(0, len(rows), step):
        values = rows.gather(np.arange(start, min(start + step, len(rows)))).int()
        sums = sums + values.sum(dim=(0, 2, 3)).cpu().numpy()
        square_sums = square_sums + values.square().sum(dim=(0, 2, 3)).cpu().numpy()
    n = len(rows) * math.prod(rows.shape[1:])
    # Python integers do not overflow: n * sum(x^2) - sum(x)^2 is n^2 times the variance.
    pairs = list(zip(map(int, sums), map(int, square_sums), strict=True))
    mean = tuple(total / (255 * n) for total, _ in pairs)
    std = (math.sqrt(n * squares - total * total) / (255 * n) for total, squares in pairs)
    return mean, tuple(value or 1.0 for value in std)
