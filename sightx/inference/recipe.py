"""What a prediction needs beside weights: it lies in every checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import NonNegativeInt, ValidationError

from sightx.data.decode import scaling
from sightx.errors import PluginError, Problem, SightXError
from sightx.io.toml import Position
from sightx.records.table import DecodeInfo, ImageTable
from sightx.registry import provenance
from sightx.registry.components import Component, Settings, validate_settings
from sightx.registry.kinds import Loss, Model, Postprocess, Preprocess
from sightx.registry.registry import Registry
from sightx.registry.validation_errors import explain_errors, spec_failure
from sightx.spec.experiment import Experiment, to_table

FORMAT = 1


def _components(parts: Experiment | Recipe) -> tuple[Component, ...]:
    """Return the components that make a prediction, in a fixed order."""
    return (*parts.preprocess, parts.model, parts.loss, *parts.postprocess)


def _warning(before: Mapping[str, Any], now: Mapping[str, Any]) -> Problem:
    keys = [key for key in ("revision", "version") if before[key] != now[key]]
    hint = "predictions may differ from the run's"
    message = provenance.describe_change(before, now, keys)
    return Problem("plugin-changed", message, hint, severity="warning")


def _refused(
    error: ValidationError, name: str, origins: Iterable[Mapping[str, Any]]
) -> SightXError:
    """Return the failure of stored settings that are not valid here; `name` is their file."""
    found = explain_errors(error, lambda key: Position(name), lambda key: None)
    found = [provenance.add_recorded_owner(problem, origins) for problem in found]
    if any(problem.code == "unknown-name" for problem in found):
        return PluginError(*found)
    return spec_failure(found)


class _Before(Settings):
    preprocess: tuple[Preprocess, ...]


def earlier_preprocess(table: ImageTable, registry: Registry) -> tuple[Preprocess, ...]:
    """Return the components that prepared a table's images before it was packed.

    Raises PluginError where one is missing, SpecError where its settings do not fit it.
    """
    tables = [step["preprocess"] for step in table.chain]
    try:
        return validate_settings(_Before, {"preprocess": tables}, registry).preprocess
    except ValidationError as error:
        origins = [step["origin"] for step in table.chain]
        raise _refused(error, table.source, origins) from None


class Recipe(Settings):
    """Say how an image becomes probabilities and a decision.

    `shape` is (channels, height, width) of a prepared image; `mean` and `deviation` are per
    channel, for pixels in [0, 1]; `decisions` holds what each of `postprocess` has learned;
    `origins` says who brought each component when the run was made. `preprocess` begins with
    what was done before the dataset was packed; an image is decoded for its first
    `decoded_for` components,
    where that says how many, else for all.
    """

    format: int = FORMAT
    classes: tuple[str, ...]
    ordered: bool
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    decode: Literal["scaled", "exact"] = "exact"
    decoded_for: NonNegativeInt | None = None
    preprocess: tuple[Preprocess, ...]
    model: Model
    loss: Loss
    precision: Literal["fp32", "bf16"] = "fp32"
    postprocess: tuple[Postprocess, ...] = ()
    decisions: tuple[Mapping[str, Any], ...] = ()
    origins: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, content: bytes, registry: Registry, name: str) -> Recipe:
        """Return a stored recipe; `name` is what messages call it.

        Raises PluginError where a component is missing, SpecError where settings do not fit it.
        """
        try:
            return cls.model_validate_json(content, context={"registry": registry})
        except ValidationError as error:
            raise _refused(error, name, json.loads(content).get("origins", ())) from None

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        *,
        table: ImageTable,
        before: tuple[Preprocess, ...] = (),
        shape: tuple[int, int, int],
        statistics: tuple[tuple[float, ...], tuple[float, ...]],
        decisions: list[Mapping[str, Any]],
    ) -> Recipe:
        """Return the recipe of an experiment that has been trained on a table.

        `before` is what was done to its images before the experiment's chain got them.
        """
        registry = experiment.context.registry
        own = [provenance.component_origin(each, registry) for each in _components(experiment)]
        decoded = DecodeInfo(experiment.dataset.decode, None) if not before else table.decoded
        return cls(
            classes=table.classes,
            ordered=table.ordered,
            shape=shape,
            mean=statistics[0],
            deviation=statistics[1],
            decode=decoded.mode,
            decoded_for=decoded.steps,
            preprocess=(*before, *experiment.preprocess),
            model=experiment.model,
            loss=experiment.loss,
            precision=experiment.training.precision,
            postprocess=experiment.postprocess,
            decisions=tuple(decisions),
            origins=(*(step["origin"] for step in table.chain), *own),
        )

    @property
    def least(self) -> tuple[int, int] | None:
        """Return the (height, width) that an image keeps when it is decoded; None: its own."""
        return scaling.min_decoded_size(self.preprocess[: self.decoded_for], self.decode)

    def changes(self, registry: Registry) -> list[Problem]:
        """Return a warning for each component that is not what it was when the run was made.

        Of what ships with SightX only the revision counts: its author raises it with the results.
        """
        now = [provenance.component_origin(component, registry) for component in _components(self)]
        return [
            _warning(before, after)
            for before, after in zip(self.origins, now, strict=False)
            if provenance.changed_keys(before, after)
        ]

    def tables(self) -> dict[str, Any]:
        """Return the recipe as JSON holds it."""
        return to_table(self)
