"""The recipe of a checkpoint: what a prediction needs in addition to the weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from pydantic import NonNegativeInt, ValidationError

from sightx.data.decode.decoder import min_decoded_size
from sightx.errors import PluginError, Problem, SightXError
from sightx.evaluation.binary import BinaryDecision
from sightx.inference.quality import QualityLimits
from sightx.io.toml import Position
from sightx.records.origins import changed_keys, describe_change
from sightx.records.table import DecodeInfo, ImageTable
from sightx.registry import provenance
from sightx.registry.components import Component, Settings, to_plain, validate_settings
from sightx.registry.kinds import Loss, Model, Postprocess, Preprocess, Quality, Statistics
from sightx.registry.registry import Registry
from sightx.registry.validation_errors import explain_errors, spec_failure
from sightx.spec.experiment import Experiment, Tta

FORMAT = 1


class _PackChain(Settings):
    preprocess: tuple[Preprocess, ...]


class Recipe(Settings):
    """How an image becomes probabilities and a decision; stored as recipe.json."""

    format: int = FORMAT
    """The version of this format."""
    classes: tuple[str, ...]
    """Class names, in the order of the probabilities."""
    ordered: bool
    """Whether the classes are grades."""
    shape: tuple[int, int, int]
    """Channels, height and width of a preprocessed image."""
    mean: tuple[float, ...]
    """Mean per channel, for pixels in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation per channel, for pixels in [0, 1]."""
    decode: Literal["scaled", "exact"] = "exact"
    """Whether a large JPEG may be reduced while it is decoded."""
    decoded_for: NonNegativeInt | None = None
    """Images are decoded for the first so many preprocessing components; None means for all."""
    preprocess: tuple[Preprocess, ...]
    """The preprocessing chain; for a pack, the components that made it come first."""
    model: Model
    """The network."""
    loss: Loss
    """The loss, which maps outputs to probabilities and decisions."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the network computes in."""
    tta: Tta = "none"
    """The views of an image whose outputs are averaged."""
    postprocess: tuple[Postprocess, ...] = ()
    """The postprocessing chain."""
    postprocess_states: tuple[Mapping[str, Any], ...] = ()
    """What each postprocessing component has learned; empty if they were not fitted yet."""
    binary: BinaryDecision | None = None
    """The binary decision with its fitted thresholds; None if none is declared."""
    quality: Quality | None = None
    """What judges the quality of images; None if every image gets a grade."""
    quality_limits: Mapping[str, QualityLimits] = {}
    """The limits of each of its measures, from the training split."""
    origins: tuple[Mapping[str, Any], ...] = ()
    """Plugin, version and revision of each component when the checkpoint was saved."""

    @classmethod
    def read(cls, content: bytes, registry: Registry, name: str) -> Recipe:
        """Parse recipe.json; `name` is the file's name in error messages.

        Raises PluginError if a component is not installed, SpecError if its settings do not fit.
        """
        try:
            return cls.model_validate_json(content, context={"registry": registry})
        except ValidationError as error:
            raise _failure(error, name, json.loads(content).get("origins", ())) from None

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        registry: Registry,
        *,
        table: ImageTable,
        pack_chain: tuple[Preprocess, ...] = (),
        shape: tuple[int, int, int],
        statistics: Statistics,
        postprocess_states: Sequence[Mapping[str, Any]],
        binary: BinaryDecision | None = None,
        quality_limits: Mapping[str, QualityLimits] = MappingProxyType({}),
    ) -> Recipe:
        """Return the recipe of an experiment that was trained on `table`.

        `pack_chain` is the preprocessing that was applied when the table's images were packed,
        `statistics` the mean and standard deviation per channel, for pixels in [0, 1].
        """
        origins = [provenance.component_origin(one, registry) for one in _components(experiment)]
        decoded = table.decoded if pack_chain else DecodeInfo(experiment.dataset.decode, None)
        return cls(
            classes=table.classes,
            ordered=table.ordered,
            shape=shape,
            mean=statistics[0],
            std=statistics[1],
            decode=decoded.mode,
            decoded_for=decoded.steps,
            preprocess=(*pack_chain, *experiment.preprocess),
            model=experiment.model,
            loss=experiment.loss,
            precision=experiment.training.precision,
            tta=experiment.evaluation.tta,
            postprocess=experiment.postprocess,
            postprocess_states=tuple(postprocess_states),
            binary=binary,
            quality=experiment.quality,
            quality_limits=quality_limits,
            origins=(*(step["origin"] for step in table.chain), *origins),
        )

    @property
    def min_decoded_size(self) -> tuple[int, int] | None:
        """Return the smallest (height, width) that an image may be decoded to; None: full size."""
        return min_decoded_size(self.preprocess[: self.decoded_for], self.decode)

    def changed_components(self, registry: Registry) -> list[Problem]:
        """Return a warning for each component whose results may have changed since training.

        Of a built-in component only the revision counts, which its author raises with the results.
        """
        now = [provenance.component_origin(component, registry) for component in _components(self)]
        return [
            _change_warning(before, after)
            for before, after in zip(self.origins, now, strict=False)
            if changed_keys(before, after)
        ]

    def tables(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        plain: dict[str, Any] = to_plain(self)
        return plain


def read_pack_chain(table: ImageTable, registry: Registry) -> tuple[Preprocess, ...]:
    """Return the preprocessing that was applied when a table's images were packed; () if none.

    Raises PluginError if a component is not installed, SpecError if its settings do not fit.
    """
    settings = {"preprocess": [step["preprocess"] for step in table.chain]}
    try:
        return validate_settings(_PackChain, settings, registry).preprocess
    except ValidationError as error:
        origins = [step["origin"] for step in table.chain]
        raise _failure(error, table.source, origins) from None


def _components(parts: Experiment | Recipe) -> tuple[Component, ...]:
    """Return the components that make a prediction, in the order of `Recipe.origins`."""
    quality = (parts.quality,) if parts.quality else ()
    return (*parts.preprocess, parts.model, parts.loss, *parts.postprocess, *quality)


def _change_warning(before: Mapping[str, Any], now: Mapping[str, Any]) -> Problem:
    keys = [key for key in ("revision", "version") if before[key] != now[key]]
    hint = "predictions may differ from the run's"
    message = describe_change(before, now, keys)
    return Problem("plugin-changed", message, hint, severity="warning")


def _failure(
    error: ValidationError, name: str, origins: Iterable[Mapping[str, Any]]
) -> SightXError:
    """Return the error for stored settings that are not valid now; `name` is their file."""
    problems = [
        provenance.add_recorded_owner(problem, origins)
        for problem in explain_errors(error, lambda key: Position(name), lambda key: None)
    ]
    if any(problem.code == "unknown-name" for problem in problems):
        return PluginError(*problems)
    return spec_failure(problems)
