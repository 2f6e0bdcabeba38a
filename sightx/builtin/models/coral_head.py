"""A network for the loss `coral`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sightx.plugin import Model, Statistics, call_declared

if TYPE_CHECKING:
    from torch import nn


class CoralHead(Model):
    """Another network with one output, the score, to which each output adds its own bias.

    So P(grade > k) falls with k for each image alike, as CORAL (W. Cao et al., 2020) requires. The
    parts are `base` and `biases`. `weights`, `head` and `trainable` belong to this table.
    """

    name = "coral-head"
    one_score = True

    base: Model
    """The network that computes the score."""

    @property
    def capturable(self) -> bool:
        """Return whether a step of the base can be recorded."""
        return self.base.capturable

    @property
    def channels_last(self) -> bool:
        """Return whether the base's weights may be stored channels last."""
        return self.base.channels_last

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network."""
        from .networks import add_biases

        base = call_declared(self.base.build, channels=channels, outputs=1, size=size)
        return add_biases(base, outputs)

    def initialise(self, module: nn.Module) -> None:
        """Load the pretrained weights of the base."""
        base = self.base.model_copy(update={"weights": self.weights, "head": self.head})
        call_declared(base.initialise, module=module.get_submodule("base"))

    def head_parts(self, module: nn.Module) -> Sequence[str] | None:
        """Return the biases and the parts of the base's head; None if the base names none."""
        parts = call_declared(self.base.head_parts, module=module.get_submodule("base"))
        return None if parts is None else [*(f"base.{part}" for part in parts), "biases"]

    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts with weights."""
        return ("base", "biases")

    def stages(self, module: nn.Module) -> Sequence[nn.Module] | None:
        """Return the stages of the base, and the biases."""
        stages = call_declared(self.base.stages, module=module.get_submodule("base"))
        return None if stages is None else [*stages, module.get_submodule("biases")]

    def normalization(self) -> Statistics | None:
        """Return the statistics that the base's pretrained weights expect."""
        base = self.base.model_copy(update={"weights": self.weights})
        statistics: Statistics | None = call_declared(base.normalization)
        return statistics
