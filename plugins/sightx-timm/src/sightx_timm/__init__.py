"""All image networks of timm as one SightX component."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator
from sightx.plugin import (
    WEIGHTS_SUFFIXES,
    Component,
    Model,
    PluginError,
    Problem,
    ResourceError,
    SpecError,
    Statistics,
    did_you_mean,
    hookimpl,
)

if TYPE_CHECKING:
    from torch import nn

_OPTIONS = "sightx_options"  # Attribute of a network with the arguments it was built with.

Rate = Annotated[float, Field(ge=0, lt=1)]


class TimmModel(Model):
    """Any image network of timm.

    It maps images (B, C, H, W) to (B, outputs). Names of parts and weights are timm's.
    """

    name = "timm"

    arch: str
    """Name in timm, with or without the tag of its weights: resnet18.a1_in1k or resnet18."""
    drop_rate: Rate = 0.0
    """Dropout rate before the last layer."""
    drop_path_rate: Rate = 0.0
    """Stochastic depth rate of the deepest residual block; 0 for networks without it."""

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, weights: str) -> str:
        if weights in ("none", "pretrained") or weights.startswith("run:"):
            return weights
        if weights.endswith(WEIGHTS_SUFFIXES):
            return weights
        choices = f"none, pretrained, a {'/'.join(WEIGHTS_SUFFIXES)} path, run:ID"
        raise ValueError(f"{weights!r} must be {choices}")

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network with random weights.

        Raise SpecError for an unknown name, and ValueError for settings that the network does not
        support.
        """
        options: dict[str, Any] = {"num_classes": outputs, "in_chans": channels}
        if self._published().fixed_input_size:
            options["img_size"] = size
        rates = {"drop_rate": self.drop_rate, "drop_path_rate": self.drop_path_rate}
        options |= {key: rate for key, rate in rates.items() if rate}
        try:
            network: nn.Module = _timm().create_model(self.arch, pretrained=False, **options)
        except (AssertionError, TypeError, ValueError) as error:
            line = " ".join(str(error).split())
            raise ValueError(f"{self.arch}: {line}") from error
        setattr(network, _OPTIONS, options)
        return network

    def initialise(self, module: nn.Module) -> None:
        """Load the published weights; the last layer stays random if its width differs."""
        if self.weights != "pretrained":
            return super().initialise(module)
        if not self._published().has_weights:
            message = f"timm has no weights of {self.arch}"
            raise SpecError(Problem("no-weights", message, _tags(self.arch), "model.weights"))
        try:
            options = getattr(module, _OPTIONS)
            donor = _timm().create_model(self.arch, pretrained=True, **options)
        except Exception as error:  # Each of timm's sources raises other exceptions.
            message = f"cannot get the weights of {self.arch}: {type(error).__name__}: {error}"
            hint = 'set model.weights to a "path.safetensors" or "none"'
            problem = Problem("weights-unavailable", message, hint, "model.weights")
            raise ResourceError(problem) from error
        module.load_state_dict(donor.state_dict())
        return None

    def normalization(self) -> Statistics:
        """Return the mean and standard deviation that the published weights expect."""
        published = self._published()
        return tuple(published.mean), tuple(published.std)

    def _published(self) -> Any:
        """Return timm's configuration of the name and its tag, without a connection."""
        timm = _timm()
        arch = self.arch.partition(".")[0]
        if not timm.is_model(arch):
            hint = did_you_mean(arch, timm.list_models(), 3) or "resnet18 is one"
            message = f"{self.arch!r} is not a network of timm {timm.__version__}"
            raise SpecError(Problem("unknown-arch", message, hint, "model.arch"))
        try:
            return timm.get_pretrained_cfg(self.arch)
        except RuntimeError as error:
            message = f"{self.arch!r} has a tag that timm {timm.__version__} does not know"
            problem = Problem("unknown-arch", message, _tags(arch), "model.arch")
            raise SpecError(problem) from error


def _tags(arch: str) -> str:
    """Return a hint: names with tags for which timm has weights."""
    names = _timm().list_pretrained(arch.partition(".")[0])
    return f"known: {', '.join(names[:8])}" if names else ""


def _timm() -> Any:
    try:
        return import_module("timm")
    except ImportError as error:
        message = f"timm cannot be imported: {error}"
        raise PluginError(Problem("no-timm", message, "pip install timm")) from error


@hookimpl
def sightx_components() -> list[type[Component]]:
    """Return the components of this plugin."""
    return [TimmModel]
