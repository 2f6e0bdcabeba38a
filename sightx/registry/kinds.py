"""The kinds of component: the manual for plugin authors.

Subclass one kind, give the class a `name` and fields, and implement the methods that raise
NotImplementedError here; the others have useful defaults. Each method is called with only the
arguments that it declares. Methods called *pure* return the same result whenever they get the same
arguments, keep nothing on `self` and modify no argument: exact resuming depends on it. Checks take
a field `monitor` as the name of a metric, and `patience` and `step_size` as numbers of epochs.

In shapes, N is the number of samples of a table or split and B of a batch, C the number of channels
(3 for RGB), H and W are height and width in pixels, and K is the number of outputs of a network.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from sightx.records.history import Direction
from sightx.registry import components
from sightx.registry.components import Component, File, ParamGroup, Shape, Traits, Weights

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor, nn

    from sightx.records.history import History
    from sightx.records.pixels import PixelRows
    from sightx.records.predictions import Predictions
    from sightx.records.run import RunInfo
    from sightx.records.table import ImageTable

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

    def mirrors(self) -> bool:
        """Return whether the transformation may mirror an image, left to right."""
        return False

    def draw(self, n: int, rng: np.random.Generator) -> Params:
        """Draw the parameters of n samples, on the CPU: named arrays of shape (n, ...).

        Take all random numbers from `rng`, and draw independently for each sample.
        """
        raise NotImplementedError

    def matrix(self, params: Params, size: tuple[int, int]) -> Tensor | None:
        """Return affine maps, float (n, 2, 3) on the CPU; None if not geometric (the default).

        Each maps output coordinates [x, y, 1] to input coordinates, in pixels from the image's
        centre, x to the right and y down; it must be invertible. `size` is (height, width). The
        matrices of all augmentations are multiplied, and pixels are resampled once.
        """
        return None

    def apply(self, images: Tensor, targets: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        """Transform a batch; unchanged by default.

        Args:
            images: float32 (n, C, H, W) in [0, 1], not normalised, on the device of the run.
            targets: int64 (n,) classes, or float (n, classes) probabilities once they are mixed.
            params: The result of `draw`, on the CPU; `sightx.plugin.to_device` moves it.

        Return images of the same shape and dtype in [0, 1], and targets in one of the two forms.
        """
        return images, targets


class Sampler(Component):
    """The order in which an epoch visits the training samples."""

    kind = "sampler"
    balances: ClassVar[bool] = False  # whether rare classes are sampled more often

    def order(self, labels: np.ndarray[Any, Any], *, epoch: int, seed: int) -> np.ndarray[Any, Any]:
        """Map the labels, int64 (N,), to the order of one epoch: int64 (M,) positions. Pure.

        Positions are 0 to N - 1 and may repeat or be missing; M is the same in every epoch. `epoch`
        counts from 0. Draw from `sightx.plugin.generator(seed, "order", epoch)`.
        """
        raise NotImplementedError


class Model(Component):
    """A network."""

    kind = "model"
    channels_last: ClassVar[bool] = False  # whether weights may be stored so (docs/kinds.md)

    weights: Weights = "none"
    """Initial weights: none, a name that the model knows, a .safetensors or .pt file, or run:ID."""
    head: Literal["new", "load"] | None = None
    """Whether the last layer is new or loaded; left out, it is loaded from a file or run only."""
    trainable: tuple[str, ...] = ()
    """Names or patterns of the parts to train; other parts are frozen. Empty: train everything."""

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return a module that maps float32 normalised images (B, channels, H, W) to (B, outputs).

        Its weights are random, from torch's default generator, which is seeded. Open no file and no
        connection (`initialise` does), and use torch's default device, which may be `meta`. Import
        what needs torch here. All state is in parameters and buffers. `size` is the (height, width)
        of the images; raise ValueError, with one line, if the network cannot take such images.
        """
        raise NotImplementedError

    def initialise(self, module: nn.Module) -> None:
        """Load the pretrained weights that the field `weights` names into the module, in place.

        Called when a run starts; may download. `none`, files and run:ID are handled for you. Raise
        SpecError if the weights do not fit, ResourceError if they cannot be fetched.
        """
        raise LookupError(f"{self.name} knows no weights called {self.weights!r}")

    def head_parts(self, module: nn.Module) -> Sequence[str] | None:
        """Return the parts that `head = "new"` leaves random; None: weights whose shape has K."""
        return None

    def parts(self) -> Sequence[str] | None:
        """Return the names that `trainable` may use; None if only the built module tells."""
        return None

    def stages(self, module: nn.Module) -> Sequence[nn.Module] | None:
        """Return the module as a chain of modules, so that outputs of frozen ones can be cached.

        Calling them one after another must give the module's result. They are parts of `module`, or
        have no weights. None, the default, means that the network is not a chain.
        """
        return None

    def normalization(self) -> Statistics | None:
        """Return the (mean, std) per channel that the weights expect, for pixels in [0, 1]."""
        return None


class Loss(Component):
    """A per-sample loss, and the meaning of a network's outputs."""

    kind = "loss"
    balances: ClassVar[bool] = False  # whether rare classes get larger weights

    def outputs(self, classes: int) -> int:
        """Return K, the number of outputs that the network must have; `classes` by default."""
        return classes

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return a module that maps outputs and targets to per-sample losses, float32 (B,).

        Outputs are float32 (B, K). Targets are int64 (B,) classes, or float (B, classes)
        probabilities if an augmentation mixes them. `class_counts` has the number of training
        samples of each class; it may be 0. Do not average: the step divides once.
        """
        raise NotImplementedError

    def weights(self, targets: Tensor, class_counts: Sequence[int]) -> Tensor | None:
        """Return sample weights, float (B,), at least 0, or None; a step divides by their sum."""
        return None

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Map outputs (B, K) to probabilities (B, classes), rows of sum 1; softmax by default."""
        return outputs.float().softmax(dim=1)

    def decision(self, probabilities: Tensor) -> Tensor:
        """Map probabilities (B, classes) to classes, int64 (B,); by default the most probable."""
        return probabilities.argmax(dim=1)


class Optimizer(Component):
    """An update rule for the weights."""

    kind = "optimizer"

    lr: PositiveFloat = 1e-3
    """Learning rate; the scheduler multiplies it by a factor."""
    group: tuple[ParamGroup, ...] = ()
    """Groups of weights with another learning rate."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return a torch optimizer for parameter groups with the keys `params`, `lr` and `name`.

        Pass the groups on unchanged: each group's `lr` is set before every step. Its `state_dict`
        must hold all state, as tensors and plain values.
        """
        raise NotImplementedError


class Scheduler(Component):
    """The learning rate, as a function of the step and of past epochs."""

    kind = "scheduler"
    includes_warmup: ClassVar[bool] = False  # whether `factor` itself begins with a warm-up

    warmup: NonNegativeFloat = 0.0
    """Epochs of linear warm-up of the learning rate."""

    def factor(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return the factor, finite and at least 0, that multiplies each group's `lr`. Pure.

        `step` counts from 0 to `steps` - 1, over all epochs of the run. `history` has the epochs
        that ended before the step. Leave out the warm-up; `multiplier` applies it.
        """
        raise NotImplementedError

    def multiplier(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return `factor` with the warm-up applied; not to be overridden."""
        run = {"steps": steps, "steps_per_epoch": steps_per_epoch, "history": history}
        factor: float = components.call_declared(self.factor, step, **run)
        warmup_steps = round(self.warmup * steps_per_epoch)
        return factor * min(1.0, (step + 1) / warmup_steps) if warmup_steps else factor


class Postprocess(Component):
    """A change of probabilities or decisions that is fitted on the validation split."""

    kind = "postprocess"

    def fit(self, validation: Predictions) -> Mapping[str, Any]:
        """Return the fitted state, as JSON can hold it. A label of -1 is unknown. Pure."""
        raise NotImplementedError

    def apply(self, predictions: Predictions, state: Mapping[str, Any]) -> Predictions:
        """Return the same samples with other decisions or probabilities. Pure.

        Use `predictions.with_decisions`, int (N,), or `predictions.with_probabilities`, float
        (N, classes) with rows of sum 1. It is called for every split, and for unlabelled images.
        """
        raise NotImplementedError


class Metric(Component):
    """One or more numbers computed from predictions."""

    kind = "metric"
    rewards_majority: ClassVar[bool] = False  # whether always predicting one class can score well

    def values(self, classes: Sequence[str]) -> Mapping[str, Direction]:
        """Return the names of the numbers; "max" or "min" says which direction is better."""
        raise NotImplementedError

    def compute(self, predictions: Predictions) -> Mapping[str, float]:
        """Return a float for each name of `values`, NaN where it is undefined. Pure.

        There may be no samples, and labels may be -1, which means unknown.
        """
        raise NotImplementedError


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

    def build(self, run: RunInfo) -> object:
        """Return an object whose methods, marked `@hookimpl`, have the names of run hooks.

        `sightx/runner/observers.py` has the hooks. An observer that raises is reported and dropped.
        """
        raise NotImplementedError


KINDS: tuple[type[Component], ...] = (
    Dataset, Split, Preprocess, Normalize, Augment, Sampler, Model, Loss,
    Optimizer, Scheduler, Postprocess, Metric, Checkpoint, Stopping, Observer,
)  # fmt: skip
