"""What a hostile dataset, split or preprocessing returns is refused with its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sightx.plugin import Dataset, ImageTable, Preprocess, Sampler, Split, Traits
from sightx.registry import data_results
from support.hostile import hostile, refused

LABELS = np.array([0, 1, 1])
TABLE = ImageTable(
    pd.DataFrame({"path": ["a", "b", "c"], "label": LABELS, "group": ""}), ("x", "y"), lambda i: b""
)
FRAME = pd.DataFrame(
    {"path": ["a", "b", "c", "d"], "label": [0, *LABELS], "group": ["p"] * 3 + [""]}
)
SAMPLES = ImageTable(
    FRAME.assign(site=list("stuv")), ("x", "y"), lambda row: b"", columns=("site",)
)
ROWS = np.array([1, 2, 3])


def first_order(sampler: Sampler) -> Any:
    """Return the order of the only epoch."""
    return data_results.sampler_order(sampler, SAMPLES, ROWS, epoch=0, epochs=1, seed=1)


@pytest.mark.parametrize(
    ("splits", "part"),
    [
        (pd.Series(["train", "val", "test"]), "the split 'val'; return train, validation, test or"),
        (pd.Series(["train", None, "test"]), "the split nan"),
        (pd.Series(["train"]), "(1,) for 3 rows"),
        (["train", "test", ""], "a list for 3 rows"),
        (pd.Series(["train", "test", ""], index=[2, 1, 0]), "a Series with another index"),
    ],
)
def test_a_split_has_a_known_name_for_each_row(splits: Any, part: str) -> None:
    refused(lambda: data_results.assigned_splits(hostile(Split, assign=splits), TABLE), part)


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"label": [0, 1, 2]}, "labels from 0 to 2"),
        ({"label": [0.0, 1.0, 1.0]}, "labels of type float64"),
        ({"path": ["a", "a", "c"]}, "the path 'a' twice"),
        ({"path": [1, 2, 3]}, "a path that is not text"),
        ({"group": [1, 2, 3]}, "a group that is not text"),
    ],
)
def test_a_table_has_unique_paths_and_labels_that_are_classes(columns: Any, part: str) -> None:
    table = TABLE.with_frame(TABLE.frame.assign(**columns))
    refused(lambda: data_results.image_table(hostile(Dataset, table=table)), part)


def test_a_table_is_a_table_with_all_columns() -> None:
    refused(lambda: data_results.image_table(hostile(Dataset, table=[])), "returned a list")
    table = TABLE.with_frame(TABLE.frame[["path", "label"]])
    refused(lambda: data_results.image_table(hostile(Dataset, table=table)), "no column 'group'")
    promising = hostile(Dataset, table=TABLE, traits=Traits(has_split=True))
    refused(
        lambda: data_results.image_table(promising), "no column 'split', which traits() promises"
    )


@pytest.mark.parametrize("classes", [["x", "y"], ("x", "x"), (1, 2), "xy"])
def test_classes_are_a_tuple_of_different_names(classes: Any) -> None:
    table = replace(TABLE, classes=classes)
    refused(lambda: data_results.image_table(hostile(Dataset, table=table)), "has the classes")


@pytest.mark.parametrize(
    "traits", [Traits(classes=("a", "b")), Traits(classes=("y", "x")), Traits(ordered=True)]
)
def test_a_table_agrees_with_the_traits(traits: Traits) -> None:
    dataset = hostile(Dataset, table=TABLE, traits=traits)
    refused(lambda: data_results.image_table(dataset), "differs from traits()")
    same = hostile(Dataset, table=TABLE, traits=Traits(classes=("x", "y")))
    assert data_results.image_table(same) is TABLE


@pytest.mark.parametrize("size", ["abc", (1,), (0, 5), (1.0, 2.0), [3, 3]])
def test_a_required_size_is_a_pair_of_pixels(size: Any) -> None:
    preprocess = hostile(Preprocess, required_input_size=size)
    refused(lambda: data_results.required_input_size(preprocess, None), "return (height, width)")
    whole = hostile(Preprocess, required_input_size=None)
    assert data_results.required_input_size(whole, (3, 3)) is None


@pytest.mark.parametrize(
    ("order", "part"),
    [
        ([0.0, 1.0], "positions of type float64"),
        (np.array([True, False, True]), "positions of type bool"),
        ([0, -1], "positions from -1 to 0"),
        ([0, 3], "positions from 0 to 3"),
        ([[0], [1]], "an array (2, 1)"),
    ],
)
def test_an_order_has_positions_of_samples(order: Any, part: str) -> None:
    sampler = hostile(Sampler, order=order)
    refused(
        lambda: data_results.sampler_order(sampler, SAMPLES, ROWS, epoch=0, epochs=1, seed=1),
        part,
        "0 to 2",
    )


def test_an_order_may_repeat_samples() -> None:
    sampler = hostile(Sampler, order=[1, 1])
    assert first_order(sampler).tolist() == [1, 1]


def test_a_sampler_gets_labels_groups_and_columns_of_the_training_samples() -> None:
    class Asking(Sampler):
        """Remember what it gets."""

        name = "asking"

        def order(self, labels: Any, *, groups: Any, columns: Any) -> Any:
            got.update(labels=labels.tolist(), groups=groups, site=columns["site"].tolist())
            return np.arange(len(labels))

    got: dict[str, Any] = {}
    first_order(Asking())
    assert (got["labels"], got["site"]) == ([0, 1, 1], ["t", "u", "v"])
    assert got["groups"][0] == got["groups"][1] == "p"
    assert got["groups"][2] not in ("p", "")
