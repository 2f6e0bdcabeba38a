"""The kinds of component that judge predictions and follow a run: see the manual in `kinds`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from sightx.records.history import Direction
from sightx.registry import components
from sightx.registry.components import Component

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sightx.records.history import History
    from sightx.records.predictions import Predictions
    from sightx.records.run import RunInfo

    Array = np.ndarray[Any, Any]

Tail = Annotated[float, Field(ge=0, le=0.5)]


class Postprocess(Component):
    """A change of probabilities or decisions that is fitted on the validation split."""

    kind = "postprocess"
    combines_groups: ClassVar[bool] = False  # whether images of one group change each other's

    def fit(self, validation: Predictions) -> Mapping[str, Any]:
        """Return the fitted state, as JSON can hold it. A label of -1 is unknown. Pure."""
        raise NotImplementedError

    def apply(self, predictions: Predictions, state: Mapping[str, Any]) -> Predictions:
        """Return the same samples with other decisions or probabilities. Pure.

        Use `predictions.with_decisions`, int (N,), or `predictions.with_probabilities`, float
        (N, classes) with rows of sum 1. It is called for every split, and for unlabelled images.
        """
        raise NotImplementedError

    def calibrate(self, probabilities: Tensor, state: Mapping[str, Any]) -> Tensor:
        """Return what `apply` makes of probabilities, float32 (B, classes), computed with torch.

        It becomes a part of exported networks. By default they are unchanged, which is right for a
        component that only changes decisions. Pure.
        """
        return probabilities


class Quality(Component):
    """A judgement of whether an image is good enough for a grade.

    Limits are quantiles of the measures of the training split. An image beyond the limit of a
    measure is poor or ungradable: predictions of poor images have the reasons, and ungradable
    images get no grade. Training and evaluation use all images.
    """

    kind = "quality"

    poor: Tail = 0.005
    """Share of training images beyond the limit from which an image is poor, for each measure."""
    ungradable: Tail = 0.0005
    """The same for the limit from which it gets no grade; of few images, the worst is the limit."""

    def values(self) -> Mapping[str, Direction]:
        """Return the names of the measures; "max" or "min" says which direction is better."""
        raise NotImplementedError

    def measure(self, image: Array) -> Mapping[str, float]:
        """Return a finite float for each name of `values`. Pure.

        `image` is what the network sees before normalisation, uint8 (H, W, C). Several threads call
        it.
        """
        raise NotImplementedError


class Metric(Component):
    """One or more numbers computed from predictions.

    Implement `sums` and `of` if the numbers are functions of sums over samples, as most are:
    intervals then need no loop over resampled predictions. Otherwise implement `compute`.
    """

    kind = "metric"
    rewards_majority: ClassVar[bool] = False  # whether always predicting one class can score well

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return the names of the numbers; "max" or "min" says which direction is better."""
        raise NotImplementedError

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return a float for each name of `values`, NaN where it is undefined. Pure.

        There may be no samples, and labels may be -1, which means unknown. By default the numbers
        are those `of` the sums over all samples.
        """
        sums = components.call_declared(self.sums, predictions)
        if sums is None:
            raise NotImplementedError
        totals = sums.sum(axis=0)
        numbers = components.call_declared(self.of, totals, classes=predictions.classes)
        return {name: float(number) for name, number in numbers.items()}

    def sums(self, predictions: Predictions) -> Array | None:
        """Return what each sample adds to S sums, float (N, S); None, the default: no sums. Pure.

        A row depends on its sample alone. A sample whose label is unknown, -1, adds zeros.
        """
        return None

    def weighted(self, predictions: Predictions, weights: Array) -> Mapping[str, Array] | None:
        """Return the numbers, (draws,) each, if samples count as often as `weights` say. Pure.

        Implement it for numbers that are not functions of sums, such as an area under a curve:
        intervals then need no loop over resampled predictions. `weights` are float (draws, N), 0 or
        more. None, the default: predictions are resampled.
        """
        return None

    def of(self, sums: Array, *, classes: Sequence[str]) -> Mapping[str, Array]:
        """Map sums over samples, float (..., S), to one array (...) per name of `values`. Pure.

        A number is NaN where it is undefined. Sums may be weighted, so they need not be integers.
        """
        raise NotImplementedError

    def intervals(
        self, predictions: Predictions, *, sums: Array | None, level: float
    ) -> Mapping[str, tuple[float, float]]:
        """Return lower and upper limits of the numbers that have a formula for them, by name. Pure.

        `sums` are those of each group, such as a patient, float (G, S), None for a metric without
        sums; `level` is 0.95 for 95 %. Numbers that are not named, by default all of them, get the
        percentiles of a bootstrap over groups. The limits of a number that is NaN are ignored.
        """
        return {}


class Checkpoint(Component):
    """A rule for which checkpoints to keep, and under which names."""

    kind = "checkpoint"
    best_name: ClassVar[str] = ""  # the name that `keep` gives to the best state, if any

    def keep(self, history: History) -> Collection[str]:
        """Return the names of the state after the history's last epoch; none: drop it. Pure.

        A name points to one checkpoint, and moves when it is given again. It consists of letters,
        digits, ".", "_" and "-". Never prefer an epoch whose metric is NaN.
        """
        raise NotImplementedError


class Stopping(Component):
    """A rule for when training ends early."""

    kind = "stopping"

    def reason(self, history: History) -> str | None:
        """Return in one line why to stop after the history's last epoch, or None to go on. Pure.

        An epoch whose metric is NaN is not an improvement.
        """
        raise NotImplementedError


class Observer(Component):
    """A watcher of a run, on the main process; it changes nothing."""

    kind = "observer"
    reads_files: ClassVar[bool] = False  # whether it is called last, to read what others write

    enabled: bool = True
    """False switches off an observer that SightX, the project or a base spec adds."""

    def build(self, run: RunInfo) -> object:
        """Return an object whose methods, marked `@hookimpl`, have the names of run hooks.

        `sightx/runner/observers.py` has the hooks. An observer that raises is reported and dropped.
        """
        raise NotImplementedError
