"""Orders in which training sees its samples, each a pure function of labels, epoch and seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt

from sightx.plugin import Sampler

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


class Shuffle(Sampler):
    """See every sample once an epoch, in a new order each time."""

    name = "shuffle"

    def order(self, labels: Array, *, epoch: int, seed: int) -> Array:
        """Return a permutation."""
        from sightx.plugin import generator

        return generator(seed, "order", epoch).permutation(len(labels))


class Sequential(Sampler):
    """See every sample once an epoch, in the order of the table."""

    name = "sequential"

    def order(self, labels: Array, *, epoch: int, seed: int) -> Array:
        """Return 0, 1, 2 and so on."""
        import numpy as np

        return np.arange(len(labels))


class Balanced(Sampler):
    """See all classes equally often: rare ones repeat, common ones take several epochs.

    Classes differ by one sample an epoch at most. Each class goes on, from epoch to epoch, through
    one shuffled pass of its samples after another; so none is seen again before all others of its
    class were seen, and none is left out for long, as happens with independent draws. Repeats make
    it easy to learn a small class by heart: augment.
    """

    name = "balanced"
    balances = True

    samples: PositiveInt | None = None
    """Samples an epoch; left out, as many as there are."""

    def order(self, labels: Array, *, epoch: int, seed: int) -> Array:
        """Return as many positions as an epoch has samples."""
        import numpy as np

        from sightx.plugin import generator

        drawn = self.samples or len(labels)
        classes = np.unique(labels)
        parts = []
        for turn, label in enumerate(classes.tolist()):
            # Draw i of the whole run belongs to class i mod K: these are the class's own, so far.
            first, last = (
                -((turn - draws) // len(classes)) for draws in (epoch * drawn, (epoch + 1) * drawn)
            )
            parts.append(_pass_through(np.flatnonzero(labels == label), first, last, label, seed))
        return generator(seed, "order", epoch).permutation(np.concatenate(parts))


def _pass_through(members: Array, first: int, last: int, label: int, seed: int) -> Array:
    """Return draws first to last of the endless passes through the members of a class."""
    import numpy as np

    from sightx.plugin import generator

    size = len(members)
    passes = [
        generator(seed, "pass", label, number).permutation(members)
        for number in range(first // size, last // size + 1)
    ]
    begun = first // size * size
    return np.concatenate(passes)[first - begun : last - begun]
