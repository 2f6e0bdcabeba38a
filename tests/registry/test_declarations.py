"""What a hostile component answers from its settings alone is refused with its name."""

from __future__ import annotations

from typing import Any

import pytest

from sightx.plugin import Augment, Dataset, Metric, Model, Preprocess, Shape, Split, Traits
from sightx.registry.declarations import check_declarations, dataset_traits
from support.hostile import hostile, refused


@pytest.mark.parametrize(
    ("kind", "method", "wrong", "right"),
    [
        (Metric, "values", [None, ["x"], {"x": "high"}], {"x": "max"}),
        (Split, "empty", [None, "test", ["val"], [1]], ("test",)),
        (Preprocess, "shape", [None, (3, 8, 8), Shape(3, 0, 8), Shape(3, 8.0, 8)], Shape(3, 8, 8)),
        (Augment, "mirrors", [None, 1], True),
        (Model, "parts", [5, "head", [1], {"head": 1}], ["head"]),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_refused(kind: type, method: str, wrong: list[Any], right: Any) -> None:
    for answer in wrong:
        component = hostile(kind, **{method: answer})
        refused(lambda component=component: check_declarations([component], ()), f"{method}()")
    check_declarations([hostile(kind, **{method: right})], ())


@pytest.mark.parametrize(
    "wrong", [None, {"classes": ["a"]}, Traits(classes=("a", 1)), Traits(columns="site")]
)  # fmt: skip
def test_traits_are_refused_if_names_are_not_texts(wrong: Any) -> None:
    refused(lambda: dataset_traits(hostile(Dataset, traits=wrong)), "traits()")


def test_a_list_of_classes_is_refused() -> None:
    refused(lambda: dataset_traits(hostile(Dataset, traits=Traits(classes=["a"]))), "tuple")  # type: ignore[arg-type]
    assert dataset_traits(hostile(Dataset, traits=Traits())) == Traits()
