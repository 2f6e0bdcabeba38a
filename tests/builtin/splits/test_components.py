from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from sightx import DataError
from sightx.builtin.splits import Given, Grouped, Stratified
from sightx.plugin import ImageTable, Split

EYEPACS = Path("/work/shared/data/eyepacs-labels/trainLabels.csv")
PREVALENCE = (0.735, 0.07, 0.15, 0.025, 0.02)


def table_of(frame: pd.DataFrame, classes: int) -> ImageTable:
    names = tuple(f"grade {label}" for label in range(classes))
    return ImageTable(frame, names, lambda index: b"", source="labels.csv")


def pairs(patients: int) -> ImageTable:
    """Return two eyes of each patient, which mostly agree; a few patients have one."""
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(patients):
        grade = int(rng.choice(5, p=PREVALENCE))
        other = grade if rng.random() < 0.8 else int(rng.choice(5, p=PREVALENCE))
        rows.append((f"{patient}_left", grade, str(patient)))
        if rng.random() < 0.95:
            rows.append((f"{patient}_right", other, str(patient)))
    return table_of(pd.DataFrame(rows, columns=["path", "label", "group"]), 5)


@pytest.fixture(scope="module")
def eyepacs() -> ImageTable:
    if not EYEPACS.exists():
        pytest.skip(f"the labels of EyePACS are not at {EYEPACS}")
    labels = pd.read_csv(EYEPACS)
    patients = labels["image"].str.partition("_")[0]
    frame = pd.DataFrame({"path": labels["image"], "label": labels["level"], "group": patients})
    return table_of(frame, 5)


def assert_stratified(table: ImageTable, splits: pd.Series[str], shares: dict[str, float]) -> None:
    """Each class misses its share by 3 % of it or by 5 samples at most."""
    assert splits.index.equals(table.frame.index)
    assert set(splits) == set(shares)
    counts = pd.crosstab(table.frame["label"], splits)
    for label, total in enumerate(table.counts()):
        for split, share in shares.items():
            assert abs(counts.loc[label, split] - share * total) <= max(0.03 * share * total, 5)


def groups_in_two_splits(table: ImageTable, splits: pd.Series[str]) -> int:
    return int((splits.groupby(table.groups).nunique() > 1).sum())


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.05, 0.15), (0.137, 0.0)])
def test_eyepacs_is_stratified_and_no_patient_is_divided(
    eyepacs: ImageTable, validation: float, test: float
) -> None:
    started = time.process_time()
    splits = Grouped(validation=validation, test=test).assign(eyepacs)
    assert time.process_time() - started < 2  # 0.2 s on one core
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    assert_stratified(eyepacs, splits, {split: share for split, share in shares.items() if share})
    assert groups_in_two_splits(eyepacs, splits) == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_grouped_is_stratified_and_no_group_is_divided(seed: int) -> None:
    table = pairs(1500)
    splits = Grouped(validation=0.15, test=0.1, seed=seed).assign(table)
    assert_stratified(table, splits, {"train": 0.75, "validation": 0.15, "test": 0.1})
    assert groups_in_two_splits(table, splits) == 0


def test_stratified_is_exact_and_ignores_groups() -> None:
    table = pairs(1500)
    splits = Stratified(validation=0.2, test=0.2).assign(table)
    found = pd.crosstab(table.frame["label"], splits)
    wanted = np.outer(table.counts(), [0.2, 0.6, 0.2])  # columns in the order of the alphabet
    assert np.abs(found.to_numpy() - wanted).max() <= 1
    assert groups_in_two_splits(table, splits) > 300


@pytest.mark.parametrize("kind", [Grouped, Stratified])
def test_the_order_of_rows_and_their_index_do_not_matter(kind: type[Grouped]) -> None:
    table = pairs(200)
    splits = dict(zip(table.frame["path"], kind().assign(table), strict=True))
    shuffled = table.take(np.random.default_rng(1).permutation(len(table)))
    shuffled.frame.index = shuffled.frame.index + 1000
    again = kind().assign(shuffled)
    assert again.index.equals(shuffled.frame.index)
    assert dict(zip(shuffled.frame["path"], again, strict=True)) == splits


def test_a_sample_without_a_group_is_alone_in_its_group() -> None:
    frame = pd.DataFrame({"path": [f"{n}.png" for n in range(100)], "label": 0, "group": ""})
    splits = Grouped().assign(table_of(frame, 1))
    assert splits.value_counts().to_dict() == {"train": 80, "validation": 10, "test": 10}


@pytest.mark.parametrize("kind", [Grouped, Stratified])
@pytest.mark.parametrize("samples", [0, 1, 2])
def test_a_class_with_too_few_samples_is_named_with_its_count(
    kind: type[Grouped], samples: int
) -> None:
    labels = [0] * 50 + [1] * samples
    frame = pd.DataFrame(
        {"path": [str(n) for n in range(len(labels))], "label": labels, "group": ""}
    )
    with pytest.raises(DataError) as caught:
        kind().assign(table_of(frame, 2))
    text = str(caught.value)
    assert text.startswith("labels.csv: error[rare-class] class 'grade 1' has ")
    assert f"{samples} sample{'' if samples == 1 else 's'} in {samples} group" in text
    assert kind(validation=0, test=0).assign(table_of(frame, 1)).eq("train").all()
    if samples == 2:
        splits = kind(validation=0.1, test=0).assign(table_of(frame, 2))
        assert sorted(splits[50:]) == ["train", "validation"]


def test_a_class_in_one_group_cannot_be_in_three_splits() -> None:
    frame = pd.DataFrame({"path": [str(n) for n in range(60)], "label": [0] * 50 + [1] * 10})
    frame["group"] = [str(n) for n in range(50)] + ["the only place"] * 10
    with pytest.raises(DataError, match="'grade 1' has 10 samples in 1 group: too few for train"):
        Grouped().assign(table_of(frame, 2))


@pytest.mark.parametrize("split", [Grouped(), Stratified(), Given()])
def test_an_empty_table_is_refused(split: Split) -> None:
    frame = pd.DataFrame({"path": [], "label": [], "group": [], "split": []})
    with pytest.raises(DataError, match=r"labels.csv: error\[no-samples\]"):
        split.assign(table_of(frame, 2))


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (0.9, 0.2)])
def test_something_must_be_left_to_train(validation: float, test: float) -> None:
    with pytest.raises(ValidationError, match="validation and test together must be below 1"):
        Grouped(validation=validation, test=test)
    with pytest.raises(ValidationError, match="less than 1"):
        Stratified(validation=1.0)


def with_splits(splits: list[str | None]) -> ImageTable:
    paths = [f"{n}.png" for n in range(len(splits))]
    labels = [n % 2 for n in range(len(splits))]
    frame = pd.DataFrame({"path": paths, "label": labels, "group": "", "split": splits})
    frame["line"] = range(2, len(splits) + 2)
    return table_of(frame, 2)


def test_given_is_the_split_of_the_dataset() -> None:
    splits = Given().assign(with_splits(["train", "test", "", "validation", None]))
    assert splits.tolist() == ["train", "test", "", "validation", ""]


def test_given_needs_a_split() -> None:
    table = pairs(5)
    with pytest.raises(DataError, match=r"error\[no-split\] the dataset has no split"):
        Given().assign(table)


def test_given_refuses_an_unknown_split() -> None:
    with pytest.raises(
        DataError, match=r"labels.csv:3: error\[split-unknown\] 'val' is not the name"
    ):
        Given().assign(with_splits(["train", "val"]))


def test_given_takes_a_missing_validation_split_from_the_train_split() -> None:
    table = pairs(400)
    table.frame["split"] = np.where(table.frame["group"].astype(int) < 300, "train", "test")
    splits = Given(validation=0.2).assign(table)
    assert (splits == "test").equals(table.frame["split"] == "test")
    trained = np.flatnonzero(table.frame["split"] == "train")
    part = table.take(trained)
    part_splits = splits.iloc[trained].reset_index(drop=True)
    assert_stratified(part, part_splits, {"train": 0.8, "validation": 0.2})
    assert groups_in_two_splits(part, part_splits) == 0
    assert not Given(validation=0.2, seed=1).assign(table).equals(splits)


def test_given_keeps_a_validation_split() -> None:
    splits = ["train"] * 8 + ["validation"] * 2
    assert Given(validation=0.5).assign(with_splits(splits)).tolist() == splits
