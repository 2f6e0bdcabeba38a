"""Extra columns of a dataset, from the table to metrics, samplers and files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss, recall_score

import sightx
from sightx.builtin.by_column import ByColumn
from sightx.builtin.metrics import Accuracy, ConfusionMatrix, Recall
from sightx.builtin.samplers import BalancedByColumn
from sightx.errors import SightXError
from sightx.plugin import Dataset, ImageTable, Traits
from sightx.registry import data_results
from sightx.runner.evaluate import evaluate
from sightx.testing import predictions, table

SPEC = """
name = "columns"
preprocess = [{ use = "resize", size = 8 }]
normalize = { use = "imagenet" }
model = { use = "simplenet", hidden = [4] }
training = { epochs = 1, batch_size = 8, monitor = "validation/accuracy/site/worst" }
execution = { device = "cpu", threads = 1 }

[dataset]
use = "csv"
root = "data"
split = "part"
extra_columns = ["site", "certainty"]

[loss]
use = "sample-weighted"
base = { use = "cross-entropy" }
column = "certainty"

[sampler]
use = "balanced-by-column"
column = "site"

[[metric]]
use = "by-column"
base = { use = "accuracy" }
column = "site"
levels = ["a", "b", "c"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec, and 48 images of two classes from two sites, one of which has a quarter."""
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    rows = []
    for number in range(48):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
        site, part = " a" if number % 4 else "b", "train" if number < 32 else "val"
        rows.append([f"{number}.png", "xy"[number // 2 % 2], site, part, 1 + number % 5])
    frame = pd.DataFrame(rows, columns=["image", "label", "site", "part", "certainty"])
    frame.to_csv(tmp_path / "data" / "labels.csv", index=False)
    (tmp_path / "spec.toml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_column_reaches_metrics_samplers_and_files_and_is_compared(project: Path) -> None:
    run = sightx.run("spec.toml", runs="runs")
    scored = run.predictions_of("validation")
    assert scored is not None
    sites = scored.columns["site"]
    assert sites.tolist() == ["a" if int(key[:-4]) % 4 else "b" for key in scored.keys]
    expected = {
        site: accuracy_score(scored.labels[sites == site], scored.decisions[sites == site])
        for site in "ab"
    }
    result = run.result["validation"]
    assert {s: result[f"validation/accuracy/site={s}"] for s in "ab"} == pytest.approx(expected)
    assert result["validation/accuracy/site/worst"] == pytest.approx(min(expected.values()))
    assert result["validation/accuracy/site=c"] is None  # it has no sample
    certainty = [1.0 + int(key[:-4]) % 5 for key in scored.keys]
    weighted = log_loss(scored.labels, scored.probabilities, sample_weight=certainty)
    assert result["validation/loss"] == pytest.approx(weighted)
    assert run.samples is not None
    assert run.samples["site"].tolist() == ["a" if n % 4 else "b" for n in range(48)]
    assert run.predictions("validation")["site"].tolist() == sites.tolist()

    evaluated = evaluate(run, "validation").metrics
    assert evaluated["validation/loss"] == pytest.approx(weighted)

    again = sightx.load("spec.toml", ["training.epochs=2"])
    labels = (project / "data" / "labels.csv").read_text()
    (project / "data" / "labels.csv").write_text(labels.replace("\n6.png,y, a", "\n6.png,y,b"))
    with pytest.raises(SightXError, match=r"1 site cell: 6\.png"):
        sightx.resume(run, experiment=again)
    (project / "data" / "labels.csv").write_text(labels.replace("site", "place"))
    with pytest.raises(SightXError, match="there is no column 'site'"):
        sightx.run("spec.toml", runs="runs")


def test_by_column_is_scikit_learns_number_for_each_value() -> None:
    given = predictions()
    sites = given.columns["site"]
    metric = ByColumn(base=Recall(), column="site", levels=("site0", "site9"))
    computed = metric.compute(given)
    recalls = {
        site: recall_score(given.labels[sites == site], given.decisions[sites == site],
                           average="macro")
        for site in np.unique(sites)
    }  # fmt: skip
    assert computed["recall/site=site0"] == pytest.approx(recalls["site0"])
    assert computed["recall/site/worst"] == pytest.approx(min(recalls.values()))
    assert math.isnan(computed["recall/site=site9"])
    assert list(computed) == list(metric.values(given.classes))
    worst = ByColumn(base=ConfusionMatrix(), column="site").compute(given)
    errors = [
        int(((given.labels == 0) & (given.decisions == 1) & (sites == site)).sum())
        for site in np.unique(sites)
    ]
    assert worst["confusion/class0/class1/site/worst"] == max(errors)  # less is better


def test_a_sample_without_a_value_of_its_own_is_not_lost() -> None:
    empty = replace(predictions(), columns={"site": np.full(60, "", dtype=object)})
    computed = ByColumn(base=Accuracy(), column="site").compute(empty)
    assert computed["accuracy/site/worst"] == Accuracy().compute(empty)["accuracy"]


def test_all_values_of_a_column_are_visited_equally_often() -> None:
    sites = np.array(["a"] * 50 + ["b"] * 7 + ["c"] * 3, dtype=object)
    sampler = BalancedByColumn(column="site", samples=61)
    given = {"groups": sites, "columns": {"site": sites}}
    visited = np.zeros(60, int)
    for epoch in range(6):
        order = sampler.order(np.zeros(60, int), epoch=epoch, seed=0, **given)
        counts = [int((sites[order] == site).sum()) for site in "abc"]
        assert sum(counts) == 61
        assert max(counts) - min(counts) <= 1
        visited += np.bincount(order, minlength=60)
    for (
        site
    ) in "abc":  # passes over the samples of each value: none repeats before all were visited
        assert np.ptp(visited[sites == site]) <= 1


class Wrapped(Dataset):
    """A table with extra columns, as a test says."""

    name = "wrapped"

    def traits(self) -> Traits:
        return Traits(columns=self._columns)

    def table(self) -> ImageTable:
        given = table()
        return given.with_frame(given.frame.assign(age=np.arange(len(given)) + 0.5))


@pytest.mark.parametrize(
    ("columns", "message"),
    [(("place",), "has no column 'place'"), (("group",), "names the extra column 'group'")],
)
def test_wrong_columns_of_a_dataset_are_named(columns: tuple[str, ...], message: str) -> None:
    Wrapped._columns = columns  # type: ignore[attr-defined]
    with pytest.raises(SightXError, match=message):
        data_results.image_table(Wrapped())


def test_cells_are_text_and_only_named_columns_are_kept() -> None:
    Wrapped._columns = ("age",)  # type: ignore[attr-defined]
    given = data_results.image_table(Wrapped())
    rows = np.array([3, 0])
    assert given.extra_columns(rows)["age"].tolist() == ["3.5", "0.5"]
    Wrapped._columns = ()  # type: ignore[attr-defined]
    assert data_results.image_table(Wrapped()).extra_columns(rows) == {}
