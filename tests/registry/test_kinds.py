from __future__ import annotations

from pathlib import Path

import pytest

import sightx
import sightx.plugin
from sightx.errors import SpecError
from sightx.registry.introspection import field_descriptions
from sightx.registry.kinds import KINDS, ParamGroup
from sightx.registry.loading import load_registry
from sightx.registry.project import Project
from sightx.spec.experiment import Experiment

DESIGN = [
    "dataset",
    "split",
    "preprocess",
    "normalize",
    "augment",
    "sampler",
    "model",
    "loss",
    "optimizer",
    "scheduler",
    "average",
    "postprocess",
    "quality",
    "metric",
    "checkpoint",
    "stopping",
    "observer",
]


def test_the_kinds_are_those_of_the_design_and_public() -> None:
    assert [cls.kind for cls in KINDS] == DESIGN
    assert all(getattr(sightx.plugin, cls.__name__) is cls for cls in KINDS)


def test_every_kind_is_a_section_of_an_experiment() -> None:
    assert set(DESIGN) <= set(Experiment.model_fields)


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.kind)
def test_every_kind_and_its_methods_have_docstrings(cls: type) -> None:
    assert cls.__doc__
    public = [item for name, item in vars(cls).items() if callable(item) and name[0] != "_"]
    assert all(item.__doc__ for item in public)


def test_every_built_in_field_has_a_description() -> None:
    entries = load_registry(Project(root=Path(sightx.__file__).parent)).entries()
    assert len(entries) > 40
    for cls in [ParamGroup, *(entry.component for entry in entries)]:
        assert set(field_descriptions(cls)) == set(cls.model_fields), cls


def test_warmup_rises_to_the_full_rate_and_then_has_no_effect() -> None:
    class Half(sightx.plugin.Scheduler):
        """Half."""

        name = "half"

        def factor(self, step, *, steps, steps_per_epoch, history) -> float:
            return 0.5

    half = Half(warmup=2.0)
    rates = [
        half.multiplier(step, steps=10, steps_per_epoch=2, history=None)  # type: ignore[arg-type]
        for step in range(6)
    ]
    assert rates == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_a_model_without_published_weights_raises() -> None:
    class Bare(sightx.plugin.Model):
        """Bare."""

        name = "bare"

    with pytest.raises(SpecError, match="bare knows no weights called 'x'"):
        Bare(weights="x").initialise(None)  # type: ignore[arg-type]
