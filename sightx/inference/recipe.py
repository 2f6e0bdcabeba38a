"""What a prediction needs beside weights: it lies in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from sightx.document import Position
from sightx.errors import PluginError
from sightx.registry.components import Settings
from sightx.registry.diagnostics import failure, problems
from sightx.registry.kinds import Decide, Loss, Model, Prepare
from sightx.registry.registry import Registry
from sightx.spec.experiment import Experiment, table

FORMAT = 1


class Recipe(Settings):
    """Say how an image becomes probabilities and a decision.

    `shape` is (channels, height, width) of a prepared image; `mean` and `deviation` are per
    channel, for pixels in [0, 1]; `decisions` holds what each of `decide` has learned.
    """

    format: int = FORMAT
    classes: tuple[str, ...]
    ordered: bool
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    prepare: tuple[Prepare, ...]
    model: Model
    loss: Loss
    precision: Literal["fp32", "bf16"] = "fp32"
    decide: tuple[Decide, ...] = ()
    decisions: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, content: bytes, registry: Registry, name: str) -> Recipe:
        """Return a stored recipe; `name` is what messages call it.

        Raises PluginError where a component is missing, SpecError where settings do not fit it.
        """
        try:
            return cls.model_validate_json(content, context={"registry": registry})
        except ValidationError as error:
            found = problems(error, lambda key: Position(name), lambda key: None)
            if any(problem.code == "unknown-name" for problem in found):
                raise PluginError(*found) from None
            raise failure(found) from None

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        *,
        classes: tuple[str, ...],
        ordered: bool,
        shape: tuple[int, int, int],
        statistics: tuple[tuple[float, ...], tuple[float, ...]],
        decisions: list[Mapping[str, Any]],
    ) -> Recipe:
        """Return the recipe of an experiment that has been trained."""
        return cls(
            classes=classes,
            ordered=ordered,
            shape=shape,
            mean=statistics[0],
            deviation=statistics[1],
            prepare=experiment.prepare,
            model=experiment.model,
            loss=experiment.loss,
            precision=experiment.training.precision,
            decide=experiment.decide,
            decisions=tuple(decisions),
        )

    def tables(self) -> dict[str, Any]:
        """Return the recipe as JSON holds it."""
        return table(self)
