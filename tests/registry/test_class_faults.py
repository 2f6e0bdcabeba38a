"""Component classes that are refused when their plugin is loaded."""

from __future__ import annotations

import datetime
import decimal
import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from sightx.plugin import (
    Augment,
    File,
    Loss,
    Metric,
    Model,
    Observer,
    Optimizer,
    Sampler,
    Scheduler,
    Settings,
)
from sightx.registry.class_faults import component_fault
from sightx.registry.loading import load_registry
from sightx.registry.project import find_project

pytestmark = pytest.mark.filterwarnings("ignore:Field name")


class Text(enum.StrEnum):
    A = "a"


class Plain(enum.Enum):
    A = "a"


class Inner(Settings):
    x: int = 1


def declare(kind: type, annotations: dict[str, Any] | None = None, **space: Any) -> type:
    """Return a component class `x` of a kind that does nothing in its required methods."""
    required = {"model": "build", "loss": "build", "sampler": "order", "scheduler": "factor"}
    method = required.get(kind.kind)
    space = {
        "__doc__": "What it is.", "__module__": __name__, "name": "x",
        "__annotations__": annotations or {}, **({method: _nothing} if method else {}), **space,
    }  # fmt: skip
    return type("X", (kind,), {key: value for key, value in space.items() if value is not None})


def _nothing(self: object) -> None: ...


def test_built_in_components_have_no_fault(tmp_path: Path) -> None:
    entries = load_registry(find_project(tmp_path)).entries()
    assert [fault for e in entries if (fault := component_fault([e.component]))] == []


@pytest.mark.parametrize(
    "annotation",
    [
        bool, int, float, str, Path, File, Text, Inner, Model, Literal["a", 3], str | None,
        tuple[int, ...], frozenset[str], tuple[Inner, ...], tuple[Model, float],
    ],
)  # fmt: skip
def test_a_setting_has_a_type_that_a_spec_can_hold(annotation: Any) -> None:
    assert component_fault([declare(Model, {"s": annotation})]) == ""


@pytest.mark.parametrize(
    "annotation",
    [
        datetime.date, datetime.timedelta, decimal.Decimal, complex, bytes, Plain,
        tuple[datetime.date, ...], float | complex | None,
        list, list[str], dict[str, int], set[int], Sequence[int],
        Mapping[str, str], list[int] | None,
    ],
)  # fmt: skip
def test_a_setting_that_a_spec_cannot_hold_is_refused(annotation: Any) -> None:
    fault = component_fault([declare(Model, {"s": annotation})])
    assert fault.startswith("the model 'x': the field 's' has the type ")
    assert "which a spec cannot hold; use bool, int, float, str, Path, Literal" in fault


@pytest.mark.parametrize(
    ("kind", "field", "annotation", "fault"),
    [
        (Model, "build", int, "the field 'build' hides what every model has"),
        (Model, "stages", int, "the field 'stages' hides what every model has"),
        (Loss, "balances", bool, "the field 'balances' hides what every loss has"),
        (Model, "copy", int, "the field 'copy' hides what every model has"),
        (Model, "weights", int, "the field 'weights' has another type than that of every model"),
    ],
)
def test_a_field_must_not_hide_what_the_kind_has(
    kind: type, field: str, annotation: Any, fault: str
) -> None:
    methods = {"build": None} if field == "build" else {}
    assert fault in component_fault([declare(kind, {field: annotation}, **methods)])


def test_a_field_of_the_kind_may_have_a_narrower_type() -> None:
    assert component_fault([declare(Model, {"weights": Literal["none", "a"]})]) == ""


@pytest.mark.parametrize(
    ("kind", "methods", "fault"),
    [
        (Sampler, {"order": None}, "the method order() is missing"),
        (Sampler, {"order": None, "odrer": _nothing}, "order() is missing; rename odrer()"),
        (Observer, {}, "the method build() is missing"),
        (Augment, {"apply": _nothing}, "the method draw() is missing"),
        (Metric, {"values": _nothing}, "the method compute() is missing"),
        (Loss, {"outputs": staticmethod(len)}, "outputs() is a static method"),
        (Loss, {"weigths": _nothing}, "does not use 'weigths'; did you mean 'weights'?"),
        (Loss, {"ouputs": _nothing}, "does not use 'ouputs'; did you mean 'outputs'?"),
    ],
)
def test_a_missing_or_misspelt_method_is_named(kind: type, methods: Any, fault: str) -> None:
    assert fault in component_fault([declare(kind, **methods)])


def test_a_misspelt_class_variable_is_named() -> None:
    cls = declare(Loss, {"balance": ClassVar[bool]}, balance=True)
    assert "did you mean 'balances'?" in component_fault([cls])


@pytest.mark.parametrize(
    ("kind", "space", "part"),
    [
        (Loss, {"takes_mixed": "no"}, "takes_mixed is 'no'; write True or False"),
        (Optimizer, {"passes": 2.0, "build": lambda self, groups: None}, "a whole number"),
        (Augment, {"mixes": 1}, "mixes is 1"),
    ],
)
def test_a_trait_has_the_type_of_the_kind(kind: type, space: dict[str, Any], part: str) -> None:
    assert part in component_fault([declare(kind, **space)])


def test_a_trait_may_be_a_property() -> None:
    assert not component_fault([declare(Loss, takes_mixed=property(lambda self: True))])


def test_methods_of_an_author_are_no_fault() -> None:
    methods = {"_weigths": _nothing, "example": staticmethod(print), "smooth": _nothing}
    assert component_fault([declare(Loss, **methods)]) == ""


def _build_with_counts(self: object, counts: object) -> None: ...
def _build_with_default(self: object, class_counts: object, counts: int = 1) -> None: ...
def _build_with_keywords(self: object, **settings: object) -> None: ...
def _factor(self: object, t: int) -> None: ...
def _swapped(self: object, steps: int, step: int) -> None: ...
def _weights(self: object, t: object, class_counts: object) -> None: ...


@pytest.mark.parametrize(
    ("kind", "methods", "fault"),
    [
        (Loss, {"build": _build_with_counts},
         "needs 'counts'; its arguments are: class_counts"),
        (Loss, {"build": _build_with_default}, ""),
        (Loss, {"build": _build_with_keywords}, ""),
        (Loss, {"weights": _weights}, ""),
        (Scheduler, {"factor": _factor}, ""),
        (Scheduler, {"factor": _swapped},
         " is step, not steps"),
        (Optimizer, {"build": lambda self, parameters: None}, ""),
        (Optimizer, {"build": lambda self, parameters, lr: None},
         "needs 'lr'; its arguments are: groups, layers"),
    ],
)  # fmt: skip
def test_an_argument_that_is_never_passed_is_named(kind: type, methods: Any, fault: str) -> None:
    assert component_fault([declare(kind, **methods)]).endswith(fault)
