"""Samplers: the order of an epoch as a pure function of labels, epoch and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveInt

from sightx.plugin import Sampler

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Fraction = Annotated[float, Field(ge=0, le=1)]


class Shuffle(Sampler):
    """Visit every sample once per epoch, in a new random order each time."""

    name = "shuffle"
    other_names = ("random", "RandomSampler")

    def order(self, labels: Array, *, epoch: int, seed: int) -> Array:
        """Return a permutation of the positions."""
        from sightx.plugin import generator

        return generator(seed, "order", epoch).permutation(len(labels))


class Sequential(Sampler):
    """Visit every sample once per epoch, in the order of the table."""

    name = "sequential"

    def order(self, labels: Array, *, epoch: int, seed: int) -> Array:
        """Return 0, 1, 2, ..., N - 1."""
        import numpy as np

        return np.arange(len(labels))


class Balanced(Sampler):
    """Visit all classes equally often: rare classes repeat, common ones take several epochs.

    In an epoch, the numbers of samples of two classes differ by at most 1. Each class continues,
    from epoch to epoch, through shuffled passes over its samples: no sample repeats before all
    others of its class were visited. (Independent draws would leave some out for a long time.)
    Repeats make overfitting on small classes likely: use augmentation.
    """

    name = "balanced"
    other_names = (
        "WeightedRandomSampler", "weighted", "class-balanced", "oversample", "oversampling",
        "ImbalancedDatasetSampler",
    )  # fmt: skip
    balances = True

    samples: PositiveInt | None = None
    """Number of samples per epoch; by default the number of training samples."""

    def order(self, labels: Array, *, epoch: int, seed: int) -> Array:
        """Return `samples` positions in random order."""
        return _balanced(labels, self.samples or len(labels), epoch=epoch, seed=seed)


class BalancedByColumn(Sampler):
    """Visit all values of a column equally often, for example all cameras.

    As `balanced` does with classes: samples of rare values repeat, those of common ones take
    several epochs.
    """

    name = "balanced-by-column"

    column: str
    """The extra column of the dataset."""
    samples: PositiveInt | None = None
    """Number of samples per epoch; by default the number of training samples."""

    def order(
        self, labels: Array, *, epoch: int, seed: int, groups: Array, columns: Mapping[str, Array]
    ) -> Array:
        """Return `samples` positions in random order."""
        import numpy as np

        _, values = np.unique(columns[self.column].astype(str), return_inverse=True)
        return _balanced(values, self.samples or len(labels), epoch=epoch, seed=seed)


def _balanced(values: Array, size: int, *, epoch: int, seed: int) -> Array:
    """Return `size` positions in random order; the counts of two values differ by at most 1."""
    import numpy as np

    from sightx.plugin import generator

    distinct = np.unique(values)
    parts = []
    for offset, value in enumerate(distinct.tolist()):
        # Draw i of the run belongs to value i mod K; the value has had ceil((i - offset) / K).
        start, stop = (
            -((offset - draws) // len(distinct)) for draws in (epoch * size, (epoch + 1) * size)
        )
        parts.append(_slice_passes(np.flatnonzero(values == value), start, stop, value, seed))
    return generator(seed, "order", epoch).permutation(np.concatenate(parts))


class DecayingBalance(Sampler):
    """Visit all classes equally often at first, and as often as they are by the end.

    In an epoch a class with the share s of the N samples has the share b / C + (1 - b) s, for C
    classes. The balance b goes in equal steps from `start` to `end`. The other way round, from 0 to
    1, this is progressively balanced sampling (B. Kang et al., ICLR 2020). As in `balanced`, each
    class continues, from epoch to epoch, through shuffled passes over its samples.
    """

    name = "decaying-balance"
    balances = True

    start: Fraction = 1.0
    """Balance of the first epoch: 1 visits all classes equally often, 0 as often as they are."""
    end: Fraction = 0.0
    """Balance of the last epoch, likewise."""

    def order(self, labels: Array, *, epoch: int, epochs: int, seed: int) -> Array:
        """Return N positions in random order."""
        import numpy as np

        from sightx.plugin import generator

        classes, sizes = np.unique(labels, return_counts=True)
        stops = np.zeros(len(classes), dtype=int)
        for number in range(epoch + 1):
            starts, stops = stops, stops + self._counts(sizes, number, epochs)
        limits = zip(classes.tolist(), starts.tolist(), stops.tolist(), strict=True)
        parts = [
            _slice_passes(np.flatnonzero(labels == label), start, stop, label, seed)
            for label, start, stop in limits
        ]
        return generator(seed, "order", epoch).permutation(np.concatenate(parts))

    def _counts(self, sizes: Array, epoch: int, epochs: int) -> Array:
        """Return how many samples of each class an epoch has; together as many as there are."""
        import numpy as np

        done = epoch / (epochs - 1) if epochs > 1 else 0.0
        balance, total = self.start + (self.end - self.start) * done, sizes.sum()
        exact = balance * total / len(sizes) + (1 - balance) * sizes
        counts: Array = np.floor(exact).astype(int)
        missing = total - counts.sum()  # the classes with the largest remainders get them
        counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
        return counts


def _slice_passes(members: Array, start: int, stop: int, label: int, seed: int) -> Array:
    """Return items start to stop of the infinite sequence of shuffled passes over a class."""
    import numpy as np

    from sightx.plugin import generator

    size = len(members)
    passes = [
        generator(seed, "pass", label, number).permutation(members)
        for number in range(start // size, stop // size + 1)
    ]
    skipped = start // size * size
    return np.concatenate(passes)[start - skipped : stop - skipped]
