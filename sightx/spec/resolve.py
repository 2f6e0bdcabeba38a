"""From a file to an `Experiment`, or every problem at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from sightx.document import Key, Position
from sightx.registry import plugins, project
from sightx.registry.components import Traits
from sightx.registry.kinds import Dataset
from sightx.registry.registry import Registry
from sightx.spec import diagnostics, layers
from sightx.spec.experiment import Experiment, Origin
from sightx.spec.walk import Table, anchor, tables

_USES = {
    "normalize": "model",
    "sampler": "shuffle",
    "loss": "cross-entropy",
    "optimizer": "adam",
    "scheduler": "constant",
    "stopping": "never",
}
_ARRAYS = {"prepare": ["resize"], "checkpoint": ["best"], "observer": ["curves"]}
_METRICS = ["accuracy", "balanced-accuracy", "precision", "recall", "f1"]


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a spec and make it whole; `sets` are `key=value` layers.

    Raises SpecError or PluginError with every problem, each at its place.
    """
    path = Path(path)
    data, positions, text = layers.read(path)
    written = set(data)
    layers.apply(data, positions, overrides)
    home = project.find(path.absolute().parent)
    registry = plugins.load(home)
    _execution(data, home)
    anchor(Experiment, data, registry, positions, home)
    _fill(data, _traits(data, registry), written)
    experiment = _validate(data, positions, registry, str(path))
    return experiment.from_origin(Origin(text, path.absolute(), tuple(overrides), home, registry))


def _execution(data: Table, home: project.Project) -> None:
    """Put this machine's defaults under what the spec says of execution."""
    if home.execution and isinstance(data.get("execution", {}), dict):
        data["execution"] = {**home.execution, **data.get("execution", {})}


def _traits(data: Table, registry: Registry) -> Traits:
    """Return what the dataset declares, or nothing where its table is not valid."""
    try:
        settings = dict(data["dataset"])
        dataset = registry.find(Dataset.kind, settings.pop("use"))
        text = json.dumps(settings, default=str)
        valid = dataset.model_validate_json(text, context={"registry": registry})
        assert isinstance(valid, Dataset)
        return valid.traits()
    except (KeyError, TypeError, ValueError, AttributeError, PydanticCustomError):
        return Traits()


def _fill(data: Table, traits: Traits, written: set[str]) -> None:
    """Fill what is left out with what a practitioner would choose for such data."""
    split = "given" if traits.has_split else "grouped" if traits.has_groups else "stratified"
    for section, use in {"split": split, **_USES}.items():
        table = data.setdefault(section, {})
        if section not in written and isinstance(table, dict) and "use" not in table:
            table["use"] = use
    monitor = "qwk" if traits.ordered else "balanced-accuracy"
    metrics = [*_METRICS, "qwk"] if traits.ordered else _METRICS
    for section, names in {**_ARRAYS, "metric": metrics}.items():
        data.setdefault(section, [{"use": name} for name in names])
    training = data.setdefault("training", {})
    if isinstance(training, dict) and "monitor" not in training:
        training["monitor"] = f"validation/{monitor}"
        _ensure(data, "metric", monitor)
    _ensure(data, "metric", "accuracy")
    _ensure(data, "checkpoint", "last")


def _ensure(data: Table, section: str, use: str) -> None:
    items = data[section]
    if isinstance(items, list) and not any(
        isinstance(item, dict) and item.get("use") == use for item in items
    ):
        items.append({"use": use})


def _validate(
    data: Table, positions: layers.Positions, registry: Registry, name: str
) -> Experiment:
    def position(key: Key) -> Position:
        while key and key not in positions:
            key = key[:-1]
        return positions.get(key, Position(name, 1, 1))

    try:
        text = json.dumps(data, default=str)
        return Experiment.model_validate_json(text, context={"registry": registry})
    except ValidationError as error:
        classes = {key: cls for key, cls, _ in tables(Experiment, data, registry)}
        raise diagnostics.failure(diagnostics.problems(error, position, classes.get)) from None
