"""The kinds of component: what each is asked, and what it answers.

A plugin author reads this file, subclasses one kind, gives it a `name`, fields and methods.
Methods are called with just the arguments they declare.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from sightx.records.history import Direction
from sightx.registry.components import Component, File, ParamGroup, Shape, Traits, Weights

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor, nn

    from sightx.records.history import History
    from sightx.records.pixels import PixelRows
    from sightx.records.predictions import Predictions
    from sightx.records.table import ImageTable
    from sightx.runs.directory import Run

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
Params = Mapping[str, "np.ndarray[Any, Any]"]


class Dataset(Component):
    """A table of images with labels."""

    kind = "dataset"

    exclude: File | None = None
    """A CSV of path and reason: these rows are left out, counted and reported."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    """What an image that cannot be read does: end the run before its first step, or be left out."""
    bad_images_at_most: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of the images that `skip` may leave out."""
    decode: Literal["scaled", "exact"] = "scaled"
    """Whether a large JPEG is reduced while it is decoded, unseen by `preprocess`."""

    def traits(self) -> Traits:
        """Return what is known without reading any data."""
        return Traits()

    def table(self) -> ImageTable:
        """Return the samples. Raises DataError, naming file and row."""
        raise NotImplementedError


class Split(Component):
    """Which sample is on which side."""

    kind = "split"

    def empty(self) -> Collection[str]:
        """Return the sides that will have no sample, as far as the settings tell."""
        return ()

    def assign(self, table: ImageTable) -> pd.Series[str]:
        """Return "train", "validation", "test" or "" (left out) for each row, in its order."""
        raise NotImplementedError


class Preprocess(Component):
    """A deterministic change of one image, made once."""

    kind = "preprocess"

    def apply(self, image: Tensor) -> Tensor:
        """Return the changed image; both are uint8 (C, H, W)."""
        raise NotImplementedError

    def shape(self, shape: Shape) -> Shape:
        """Return the shape that an image of this shape gets."""
        return shape

    def needs(self, size: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return the (height, width) that suffices for a result of `size`; None: all there is.

        A `size` of None means that what follows needs every pixel that this one can give.
        """
        return None


class Normalize(Component):
    """The mean and the deviation that pixels are freed of."""

    kind = "normalize"

    def statistics(self, *, model: Model, training_rows: PixelRows) -> Statistics:
        """Return mean and deviation per channel, for pixels in [0, 1]."""
        raise NotImplementedError


class Augment(Component):
    """A random change of a batch, in training only; keeps height and width.

    A geometric one answers `matrix`, any other `apply`.
    """

    kind = "augment"

    def mirrors(self) -> bool:
        """Say whether left and right may change places."""
        return False

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Return one draw for each of n samples, made on the host: the same on every device."""
        raise NotImplementedError

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor | None:
        """Return (n, 2, 3) maps from output to input in pixels from the centre, x to the right.

        `size` is (height, width). All matrices of a chain are composed and sampled once.
        """
        return None

    def apply(self, images: Tensor, targets: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        """Return changed images, float (n, C, H, W) in [0, 1], and targets."""
        return images, targets


class Sampler(Component):
    """The order in which training sees its samples."""

    kind = "sampler"
    balances: ClassVar[bool] = False  # whether rare classes are seen more often

    def order(self, labels: np.ndarray[Any, Any], *, epoch: int, seed: int) -> np.ndarray[Any, Any]:
        """Return positions in `labels`, a pure function of the arguments."""
        raise NotImplementedError


class Model(Component):
    """A network."""

    kind = "model"

    weights: Weights = "none"
    """Where weights come from: none, a name that the model knows, a .safetensors or .pt path."""
    trainable: tuple[str, ...] = ()
    """Parts that learn, by name or pattern; the rest is frozen. Empty: everything learns."""

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network with fresh weights: no file, no connection. `size` is (H, W)."""
        raise NotImplementedError

    def initialise(self, module: nn.Module) -> None:
        """Load the weights that the name in `weights` stands for; asked in fresh runs only."""
        raise LookupError(f"{self.name} knows no weights called {self.weights!r}")

    def parts(self) -> Sequence[str] | None:
        """Return what `trainable` may name, without building; None where only building tells."""
        return None

    def stages(self, module: nn.Module) -> Sequence[nn.Module] | None:
        """Return modules that do, one after another, what the network does; None: not in stages."""
        return None

    def normalization(self) -> Statistics | None:
        """Return the mean and deviation that the network expects, where it declares any."""
        return None


class Loss(Component):
    """One number a sample, and what the outputs mean."""

    kind = "loss"
    balances: ClassVar[bool] = False  # whether rare classes weigh more

    def outputs(self, classes: int) -> int:
        """Return the width of the head that this loss needs."""
        return classes

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return a module (outputs (B, K), targets (B,)) -> (B,); counts: the training side."""
        raise NotImplementedError

    def weights(self, targets: Tensor, class_counts: Sequence[int]) -> Tensor | None:
        """Return a weight a sample, (B,); the step divides by their sum. None: all weigh one."""
        return None

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return (B, classes) from (B, K)."""
        return outputs.float().softmax(dim=1)

    def decision(self, probabilities: Tensor) -> Tensor:
        """Return the class that each row of probabilities stands for, (B,)."""
        return probabilities.argmax(dim=1)


class Optimizer(Component):
    """The rule by which weights move."""

    kind = "optimizer"

    lr: PositiveFloat = 1e-3
    """The learning rate that the scheduler scales."""
    group: tuple[ParamGroup, ...] = ()
    """Weights with learning rates of their own."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return torch's optimizer over groups of params, lr and name."""
        raise NotImplementedError


class Scheduler(Component):
    """What the learning rate is at a step."""

    kind = "scheduler"

    warmup: NonNegativeFloat = 0.0
    """Epochs over which the rate grows linearly from nothing to its full size."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return what each group's rate is multiplied by at a step, counted from 0. Pure.

        `history` holds the epochs that ended before the step.
        """
        raise NotImplementedError

    def multiplier(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return `factor` with the warm-up applied."""
        factor = self.factor(step, steps=steps, steps_per_epoch=steps_per_epoch, history=history)
        rising = round(self.warmup * steps_per_epoch)
        return factor * min(1.0, (step + 1) / rising) if rising else factor


class Postprocess(Component):
    """How probabilities become a decision, fitted on the validation side."""

    kind = "postprocess"

    def fit(self, validation: Predictions) -> Mapping[str, Any]:
        """Return what was learned, as JSON holds it."""
        raise NotImplementedError

    def apply(self, predictions: Predictions, state: Mapping[str, Any]) -> Predictions:
        """Return the predictions as decided by what was learned."""
        raise NotImplementedError


class Metric(Component):
    """Figures computed from a table of predictions."""

    kind = "metric"

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return the names of the figures, and whether more or less is better."""
        raise NotImplementedError

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return the figures; NaN where one is not defined."""
        raise NotImplementedError


class Checkpoint(Component):
    """Which states are kept, and under what name."""

    kind = "checkpoint"

    def keep(self, history: History) -> Collection[str]:
        """Return the names that now point to the state after the last epoch of the history."""
        raise NotImplementedError


class Stopping(Component):
    """When training ends early."""

    kind = "stopping"

    def reason(self, history: History) -> str | None:
        """Return why training ends after the last epoch of the history, or None."""
        raise NotImplementedError


class Observer(Component):
    """Something that watches a run."""

    kind = "observer"

    def build(self, run: Run) -> object:
        """Return an object with run hooks."""
        raise NotImplementedError


KINDS: tuple[type[Component], ...] = (
    Dataset, Split, Preprocess, Normalize, Augment, Sampler, Model, Loss,
    Optimizer, Scheduler, Postprocess, Metric, Checkpoint, Stopping, Observer,
)  # fmt: skip
