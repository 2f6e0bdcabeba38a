from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

import sightx
from sightx import DataError
from sightx.builtin.checks import data
from sightx.runner import table
from sightx.spec import check_runner


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A spec over a CSV of eight images of four patients, with a split of its own."""
    rows = [
        {"image": f"{n}.png", "label": "ab"[n % 2], "patient": f"p{n // 2}",
         "side": ["train", "train", "validation", "test"][n // 2]}
        for n in range(8)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    path = tmp_path / "a.toml"
    path.write_text(
        'name = "a"\n[dataset]\nuse = "csv"\nroot = "."\ngroup = "patient"\nsplit = "side"\n'
        '[split]\nuse = "given"\n[model]\nuse = "simplenet"\n[training]\nbatch_size = 2\n'
    )
    return path


def found(path: Path, *sets: str) -> list[tuple[str, str]]:
    experiment = sightx.load(path, sets)
    problems = check_runner.run_checks(
        experiment, experiment.context, "data", table=table(experiment)
    )
    return [(problem.code, problem.message) for problem in problems]


def test_data_in_order_have_no_finding(listed: Path) -> None:
    assert found(listed) == []


def test_a_batch_larger_than_the_training_side(listed: Path) -> None:
    assert [code for code, _ in found(listed, "training.batch_size=5")] == ["large-batch"]
    assert found(listed, "training.batch_size=4") == []


def test_what_the_dataset_is_not_sure_of(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "1.png").touch()
        (tmp_path / split / "2.png").touch()
        (tmp_path / split / "3.png").touch()
    path = tmp_path / "a.toml"
    path.write_text(
        'name = "a"\n[dataset]\nuse = "image-folder"\nroot = "."\nlayout = "flat"\n'
        '[model]\nuse = "simplenet"\n[training]\nbatch_size = 1\n'
    )
    ((code, message),) = found(path)
    assert code == "doubtful-data"
    assert message == "the classes 'test' and 'train' are called like a split"


def test_a_patient_on_two_sides(listed: Path) -> None:
    labels = listed.parent / "labels.csv"
    frame = pd.read_csv(labels)
    frame.loc[7, "side"] = "train"
    frame.to_csv(labels, index=False)
    (message,) = [message for code, message in found(listed) if code == "group-leak"]
    assert message == "1 of 4 groups are in several splits; first: 'p3' in test and train"
    with pytest.raises(DataError, match="group-leak"):
        sightx.run(sightx.load(listed), runs=listed.parent / "runs")
    assert not (listed.parent / "runs").exists()


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        ([f"{n}_{side}.png" for n in range(5) for side in ("left", "right")], 5),
        ([f"{side}-{n}.png" for n in range(5) for side in ("OS", "OD")], 5),
        ([f"a/{n}_L.png" if n % 2 else f"b/{n - 1}_L.png" for n in range(10)], 0),
        ([f"upright{n}.png" for n in range(5)] + [f"upleft{n}.png" for n in range(5)], 0),
    ],
)
def test_names_that_pair_without_groups(tmp_path: Path, names: list[str], pairs: int) -> None:
    rows = [f"{name},{number % 2},train" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,split", *rows]))
    path = tmp_path / "a.toml"
    path.write_text(
        'name = "a"\n[dataset]\nuse = "csv"\nroot = "."\nsplit = "split"\n'
        '[model]\nuse = "simplenet"\n'
    )
    messages = [message for code, message in found(path) if code == "undeclared-groups"]
    assert bool(messages) == bool(pairs)
    if pairs:
        assert f"but {pairs} names are pairs, such as {names[0]} and {names[1]}" in messages[0]
        experiment = sightx.load(path)
        table = experiment.dataset.table()
        (finding,) = data.undeclared_groups(experiment, table)
        assert sorted(finding.rows) == list(range(10))
        grouped = table.with_frame(table.frame.assign(group="p"))
        assert not list(data.undeclared_groups(experiment, grouped))


def test_a_class_that_nothing_teaches(listed: Path) -> None:
    assert found(listed, 'dataset.classes=["a", "b", "c"]') == [
        ("empty-class", "there are no training samples of 'c'")
    ]


def test_weights_that_are_not_numbers(listed: Path) -> None:
    labels = pd.read_csv(listed.parent / "labels.csv")
    labels["weight"] = ["1", "0.5", "2", "high", "inf", "1", "-1", "3"]
    labels.to_csv(listed.parent / "labels.csv", index=False)
    loss = "loss={use='sample-weighted', column='weight', base={use='cross-entropy'}}"
    ((code, message),) = found(listed, "dataset.extra_columns=['weight']", loss)
    assert code == "sample-weights"
    assert "weights of 3 samples" in message
    assert "first 3.png, whose weight is 'high'" in message


def test_precision_that_the_device_lacks(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = sightx.load(listed, ["training.precision=bf16"])
    assert list(data.bf16_missing(experiment, torch.device("cpu"))) == []
    old = {"is_bf16_supported": lambda **_: False, "get_device_name": lambda _: "an old card"}
    for name, answer in old.items():  # no such card is here
        monkeypatch.setattr(torch.cuda, name, answer)
    (finding,) = data.bf16_missing(experiment, torch.device("cuda"))
    assert finding == ("training.precision", "an old card has no bf16", finding.hint, ())
    assert not list(data.bf16_missing(sightx.load(listed), torch.device("cuda")))


def test_precision_that_the_processor_emulates(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, experiment = torch.device("cpu"), sightx.load(listed, ["training.precision=bf16"])
    for known, slow in [("avx2", 1), ("avx512_bf16", 0), ("amx_bf16", 0), ("bf16", 0)]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: {known: True})
        assert len(list(data.slow_bf16(experiment, cpu))) == slow
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert [finding.path for finding in data.slow_bf16(experiment, cpu)] == ["training.precision"]
    assert not list(data.slow_bf16(experiment, torch.device("cuda")))
    assert not list(data.slow_bf16(sightx.load(listed), cpu))


def test_every_rule_has_a_test_here() -> None:
    text = Path(__file__).read_text()
    assert all(check.code in text or check.find.__name__ in text for check in data.CHECKS)
