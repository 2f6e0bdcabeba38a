"""Every image network of timm as one component of SightX."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator
from sightx.plugin import (
    Component,
    Model,
    PluginError,
    Problem,
    ResourceError,
    SpecError,
    did_you_mean,
    hookimpl,
)

if TYPE_CHECKING:
    from torch import nn

_FILES = (".safetensors", ".pt", ".pth")
_OPTIONS = "sightx_options"  # the network's attribute with what it was built from

Rate = Annotated[float, Field(ge=0, lt=1)]


class TimmModel(Model):
    """Any image network of timm.

    (B, C, H, W) leads to (B, outputs); names of parts and weights are timm's.
    """

    name = "timm"

    arch: str
    """The name in timm, with the tag of its weights or without: resnet18.a1_in1k, resnet18."""
    drop_rate: Rate = 0.0
    """The share of inputs that dropout before the last layer lets go."""
    drop_path_rate: Rate = 0.0
    """The share of samples that the deepest residual branch skips; 0 for networks without."""

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: str) -> str:
        if weights in ("none", "pretrained") or weights.startswith("run:"):
            return weights
        if weights.endswith(_FILES):
            return weights
        raise ValueError(
            f"{weights!r} is none of none, pretrained, a {'/'.join(_FILES)} path, run:ID"
        )

    def build(self, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        """Return the network with fresh weights.

        Raises SpecError for an unknown name, ValueError for what the network does not take.
        """
        options: dict[str, Any] = {"num_classes": outputs, "in_chans": channels}
        if self._published().fixed_input_size:
            options["img_size"] = size
        rates = {"drop_rate": self.drop_rate, "drop_path_rate": self.drop_path_rate}
        options |= {key: rate for key, rate in rates.items() if rate}
        try:
            network: nn.Module = _timm().create_model(self.arch, pretrained=False, **options)
        except (AssertionError, TypeError, ValueError) as error:
            said = " ".join(str(error).split())
            raise ValueError(f"{self.arch}: {said}") from error
        setattr(network, _OPTIONS, options)
        return network

    def initialise(self, module: nn.Module) -> None:
        """Load the published weights; the last layer stays fresh where its width differs."""
        if self.weights != "pretrained":
            return super().initialise(module)
        if not self._published().has_weights:
            message = f"timm knows no weights of {self.arch}"
            raise SpecError(Problem("no-weights", message, _tags(self.arch), "model.weights"))
        try:
            options = getattr(module, _OPTIONS)
            donor = _timm().create_model(self.arch, pretrained=True, **options)
        except Exception as error:  # each of timm's sources fails in ways of its own
            message = f"cannot get the weights of {self.arch}: {type(error).__name__}: {error}"
            hint = 'let model.weights be a "path.safetensors" or "none"'
            problem = Problem("weights-unavailable", message, hint, "model.weights")
            raise ResourceError(problem) from error
        module.load_state_dict(donor.state_dict())
        return None

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and deviation that the published weights were trained with."""
        published = self._published()
        return tuple(published.mean), tuple(published.std)

    def _published(self) -> Any:
        """Return what timm says of the name and its tag, without a connection."""
        timm = _timm()
        arch = self.arch.partition(".")[0]
        if not timm.is_model(arch):
            hint = did_you_mean(arch, timm.list_models(), 3) or "resnet18 is one"
            message = f"{self.arch!r} is no network of timm {timm.__version__}"
            raise SpecError(Problem("unknown-arch", message, hint, "model.arch"))
        try:
            return timm.get_pretrained_cfg(self.arch)
        except RuntimeError as error:
            message = f"{self.arch!r} has a tag that timm {timm.__version__} does not know"
            problem = Problem("unknown-arch", message, _tags(arch), "model.arch")
            raise SpecError(problem) from error


def _tags(arch: str) -> str:
    """Return a hint: the names with tags for which timm knows weights."""
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
    """Return what this plugin brings."""
    return [TimmModel]
