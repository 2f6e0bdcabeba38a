"""The mean and the deviation per channel that pixels are freed of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveFloat, model_validator

from sightx.plugin import Normalize, Problem, SpecError

if TYPE_CHECKING:
    from typing import Self

    from sightx.plugin import Model, PixelRows

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

_IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CHUNK = 2**24  # pixel values summed at a time; their squares take 64 MiB


class FromModel(Normalize):
    """Use what the model's weights expect, else the training side's own.

    A model that declares nothing gets what `dataset` computes. Colour statistics become their
    average where images have another number of channels.
    """

    name = "model"

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return the model's statistics, or those of the training side."""
        declared = model.normalization()
        return _fitted(declared, training_rows) if declared else _measured(training_rows)


class ImageNet(Normalize):
    """Use the mean and deviation of ImageNet.

    Where images have another number of channels than three: the average of its three.
    """

    name = "imagenet"

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return ImageNet's statistics."""
        return _fitted(_IMAGENET, training_rows)


class OverDataset(Normalize):
    """Measure the mean and deviation of the training side.

    Over every pixel of every training row, in whole numbers, so that neither order nor device
    matters. The deviation is that of the population; a channel that never varies gets 1.
    """

    name = "dataset"

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return the statistics of the training side."""
        return _measured(training_rows)


class Values(Normalize):
    """Use the numbers given here."""

    name = "values"

    mean: Annotated[tuple[float, ...], Field(min_length=1)]
    """The mean of each channel, for pixels in [0, 1]; one number stands for all channels."""
    deviation: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """The deviation of each channel, for pixels in [0, 1]; as many numbers as `mean`."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.mean) != len(self.deviation):
            raise ValueError(
                f"mean has {len(self.mean)} numbers and deviation {len(self.deviation)}; "
                "give both one for each channel"
            )
        return self

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return the numbers. Raises SpecError where images have other channels."""
        channels = training_rows.shape[0]
        if len(self.mean) not in (1, channels):
            message = f"{len(self.mean)} numbers for images of {channels} channels"
            hint = f"give 1 or {channels}"
            raise SpecError(Problem("normalize-channels", message, hint, path="normalize.mean"))
        return _fitted((self.mean, self.deviation), training_rows)


def _fitted(statistics: Statistics, rows: PixelRows) -> Statistics:
    """Return statistics for the channels that the rows have, averaged where these differ."""
    mean, deviation = statistics
    channels = rows.shape[0]
    if len(mean) == channels:
        return statistics
    return (math.fsum(mean) / len(mean),) * channels, (
        math.fsum(deviation) / len(deviation),
    ) * channels


def _measured(rows: PixelRows) -> Statistics:
    """Return mean and deviation per channel of all pixels, rounded only at the end."""
    import numpy as np

    total = squares = np.zeros(rows.shape[0], dtype=np.int64)
    step = max(1, _CHUNK // math.prod(rows.shape))
    for start in range(0, len(rows), step):
        values = rows.gather(np.arange(start, min(start + step, len(rows)))).int()
        total = total + values.sum(dim=(0, 2, 3)).cpu().numpy()
        squares = squares + values.square().sum(dim=(0, 2, 3)).cpu().numpy()
    count = len(rows) * math.prod(rows.shape[1:])
    pairs = [(int(one), int(two)) for one, two in zip(total, squares, strict=True)]
    spreads = [math.sqrt(count * square - one * one) for one, square in pairs]
    mean = tuple(one / (255 * count) for one, _ in pairs)
    return mean, tuple(spread / (255 * count) or 1.0 for spread in spreads)
