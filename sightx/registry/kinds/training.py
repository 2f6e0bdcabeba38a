"""The kinds of component of a training step: see the manual in `kinds`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from sightx.errors import Problem, SpecError
from sightx.registry import components
from sightx.registry.components import Component, ParamGroup, Weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from sightx.records.history import History
    from sightx.registry.kinds.data import Statistics

    Array = np.ndarray[Any, Any]

_NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})


class Model(Component):
    """A network."""

    kind = "model"
    channels_last: ClassVar[bool] = False  # whether weights may be stored so (docs/kinds.md)
    one_score: ClassVar[bool] = False  # whether outputs are one number plus a learned bias each

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
        message = f"{self.name} knows no weights called {self.weights!r}"
        raise SpecError(Problem("invalid-value", message, "name a file or run:ID", "model.weights"))

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
    takes_mixed: ClassVar[bool] = False  # whether targets may be probabilities (B, classes)
    needs_one_score: ClassVar[bool] = False  # whether it is for a model with `one_score = True`

    def outputs(self, classes: int) -> int:
        """Return K, the number of outputs that the network must have; `classes` by default."""
        return classes

    def build(self, *, class_counts: Sequence[int]) -> nn.Module:
        """Return a module that maps outputs and targets to per-sample losses, float32 (B,).

        Outputs are float32 (B, K). Targets are int64 (B,) classes; with `takes_mixed = True` they
        may be float (B, classes) probabilities, because an augmentation mixes them. `class_counts`
        has the number of training samples of each class; it may be 0. Do not average: the step
        divides once.
        """
        raise NotImplementedError

    def weights(
        self,
        targets: Tensor,
        class_counts: Sequence[int],
        *,
        columns: Mapping[str, Array] = _NO_COLUMNS,
        progress: float = 1.0,
    ) -> Tensor | None:
        """Return sample weights, float (B,), at least 0, or None; a step divides by their sum.

        `columns` has the texts (B,) of each extra column of the dataset, on the CPU; a loss that
        declares it is not recorded in a CUDA graph. `progress` is the part of all steps that is
        done, from 0 to below 1; it is 1 in evaluation, so that the losses of all epochs can be
        compared.
        """
        return None

    def probabilities(self, outputs: Tensor, *, classes: int) -> Tensor:
        """Map outputs (B, K) to probabilities (B, classes), rows of sum 1; softmax by default.

        `classes` is their number, which K alone may not tell.
        """
        return outputs.float().softmax(dim=1)

    def decision(self, probabilities: Tensor) -> Tensor:
        """Map probabilities (B, classes) to classes, int64 (B,); by default the most probable."""
        return probabilities.argmax(dim=1)


class Optimizer(Component):
    """An update rule for the weights."""

    kind = "optimizer"
    passes: ClassVar[int] = 1  # forward and backward passes of a step, 1 or 2

    lr: PositiveFloat = 1e-3
    """Learning rate; the scheduler multiplies it by a factor."""
    group: tuple[ParamGroup, ...] = ()
    """Groups of weights with another learning rate."""

    def build(
        self, groups: list[dict[str, Any]], *, layers: Mapping[str, int]
    ) -> torch.optim.Optimizer:
        """Return a torch optimizer for parameter groups.

        Args:
            groups: Groups with the keys `params`, `param_names` (the name of each parameter),
                `lr` and `name`. Pass them on, or split them: a part keeps the other keys, and its
                `lr` is set to the given one times the scheduler's factor before every step.
            layers: The depth of each parameter's layer, by its name. 0 is the first layer of the
                network; in the last layer keep the group's `lr`.

        The gradient is computed before `step()`. With `passes = 2` it is called as `step(closure)`,
        and calls `closure()` once, after it has moved the parameters: that computes, and clips, the
        gradient of the same batch with the same random draws, and returns the loss. Return an
        optimizer whose parameters are then as if they had not been moved before the update.

        `sightx.plugin.split_param_groups` splits groups by layer and by weight decay. The
        optimizer's `state_dict` must hold all state, as tensors and plain values.
        """
        raise NotImplementedError


class Scheduler(Component):
    """The learning rate, as a function of the step and of past epochs."""

    kind = "scheduler"
    includes_warmup: ClassVar[bool] = False  # whether `factor` itself begins with a warm-up
    needs_groups: ClassVar[bool] = False  # whether it has an effect with several groups only

    warmup: NonNegativeFloat = 0.0
    """Epochs of linear warm-up of the learning rate."""

    def factor(
        self,
        step: int,
        *,
        steps: int,
        steps_per_epoch: int,
        history: History,
        group: str = "*",
        groups: Sequence[str] = ("*",),
    ) -> float:
        """Return the factor, finite and at least 0, that multiplies each group's `lr`. Pure.

        `step` counts from 0 to `steps` - 1, over all epochs of the run. `history` has the epochs
        that ended before the step. A scheduler that declares `group` is asked for each parameter
        group: its name is `match` of `[[optimizer.group]]`, joined by blanks, `loss` for weights of
        the loss, or `*` for all others; `groups` has all names in this order. A group whose factor
        is 0 is frozen: its weights and their state in the optimizer stay. Leave out the warm-up;
        `multiplier` applies it.
        """
        raise NotImplementedError

    def multiplier(
        self,
        step: int,
        *,
        steps: int,
        steps_per_epoch: int,
        history: History,
        group: str = "*",
        groups: Sequence[str] = ("*",),
    ) -> float:
        """Return `factor` with the warm-up applied; not to be overridden."""
        run = {"steps": steps, "steps_per_epoch": steps_per_epoch, "history": history}
        run |= {"group": group, "groups": groups}
        factor: float = components.call_declared(self.factor, step, **run)
        warmup_steps = round(self.warmup * steps_per_epoch)
        return factor * min(1.0, (step + 1) / warmup_steps) if warmup_steps else factor


class Average(Component):
    """An average of the weights over the steps of training, evaluated and saved in their place."""

    kind = "average"

    def share(self, step: int, *, steps: int, steps_per_epoch: int, history: History) -> float:
        """Return the share of the new weights in the average after a step, 0 to 1. Pure.

        After step number `step`, from 0 to `steps` - 1, the average becomes
        (1 - share) * average + share * weights: 0 leaves it as it is, 1 makes it equal to the
        weights. It begins with the initial weights, so some steps of the first epoch must have a
        share. `history` has the epochs that ended before the step; their metrics are those of the
        average.
        """
        raise NotImplementedError
