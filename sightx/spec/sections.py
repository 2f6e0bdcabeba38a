"""The sections and keys of a spec that are settings of SightX itself."""

from __future__ import annotations

from sightx.registry.components import Component, Settings, table_class
from sightx.spec.experiment import Experiment


def own_sections() -> dict[str, type[Settings]]:
    """Return the sections of a spec that are settings of SightX itself, not of a component."""
    classes = {n: table_class(field.annotation) for n, field in Experiment.model_fields.items()}
    return {n: cls for n, cls in classes.items() if cls and not issubclass(cls, Component)}


def top_level_keys() -> list[str]:
    """Return the keys of a spec that are above its sections."""
    fields = Experiment.model_fields.items()
    return [name for name, field in fields if table_class(field.annotation) is None]


def settings_called(*names: str) -> list[str]:
    """Return the dotted keys of a spec that end with one of some names, such as `training.epochs`.

    A name may be dotted already. Of components only the learning rate, which every optimizer has,
    is known.
    """
    keys = []
    for name in names:
        section, dot, _ = name.partition(".")
        is_dotted = dot and section in Experiment.model_fields
        keys += [name] if is_dotted or name in top_level_keys() else []
        keys += [f"{key}.{name}" for key, cls in own_sections().items() if name in cls.model_fields]
        keys += ["optimizer.lr"] if name == "lr" else []
    return keys
