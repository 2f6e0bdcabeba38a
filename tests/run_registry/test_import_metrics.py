"""Metrics from elsewhere are listed like runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import sightx
from sightx.run_registry.find import find_directory
from sightx.run_registry.import_metrics import import_metrics
from support.commands import sightx_main
from support.run_folders import write_run

ABOUT = """
name = "paper"
started = 2026-01-31
epoch = 2
[experiment]
model.use = "resnet50"
[directions]
"validation/qwk" = "max"
[test]
qwk = 0.61
"""
METRICS = "epoch,train/loss,validation/qwk\n1,0.9,0.4\n2,0.7,0.6\n3,0.5,nan\n"


def files(folder: Path, metrics: str = METRICS, about: str = ABOUT) -> tuple[Path, Path, Path]:
    (folder / "m.csv").write_text(metrics)
    (folder / "run.toml").write_text(about)
    return folder / "m.csv", folder / "run.toml", folder / "runs"


def test_imported_metrics_are_listed_but_are_never_the_best(tmp_path: Path) -> None:
    arguments = files(tmp_path)
    directory, is_new = import_metrics(*arguments)
    assert is_new
    assert import_metrics(*arguments) == (directory, False)
    (row,) = sightx.list_runs("model.use = resnet50 and qwk > 0.5", runs=arguments[2]).to_dict(
        "records"
    )
    assert (row["status"], row["name"], row["epoch"]) == ("imported", "paper", 3)
    assert (row["validation/qwk"], row["test/qwk"]) == (0.6, 0.61)
    assert list(sightx.open_run(directory).metrics["train/loss"]) == [0.9, 0.7, 0.5]
    with pytest.raises(sightx.RunError, match="no finished run has"):
        find_directory(arguments[2], "best:qwk")


@pytest.mark.parametrize(
    ("metrics", "about", "error", "message"),
    [
        ("a,b\n1,2\n", ABOUT, sightx.DataError, "there is no column 'epoch'"),
        ("epoch,x\n1,good\n", ABOUT, sightx.DataError,
         r"m.csv:2: error\[not-a-number\] x: expected a number, got 'good'"),
        ("epoch,x\n1.5,1\n", ABOUT, sightx.DataError, "epoch: expected an integer, got '1.5'"),
        ("epoch,x\n", ABOUT, sightx.DataError, "there are no rows"),
        (METRICS, "started = 2026-01-31\n", sightx.SpecError, "the run needs a name"),
        (METRICS, ABOUT.replace("epoch =", "epcoh ="), sightx.SpecError, "epcoh"),
        (METRICS, ABOUT.replace("2026-01-31", '"soon"'), sightx.SpecError, "expected a date"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    tmp_path: Path, metrics: str, about: str, error: type[Exception], message: str
) -> None:
    arguments = files(tmp_path, metrics, about)
    with pytest.raises(error, match=message):
        import_metrics(*arguments)
    assert not arguments[2].exists()


def test_commands_say_what_an_imported_run_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = files(tmp_path)
    directory, _ = import_metrics(*arguments)
    runs = ("--runs", str(arguments[2]))
    other = write_run(arguments[2], "trained", whole=True)
    # 1. Its metrics stand next to those of another run, in both orders, without an interval.
    for names in ((directory.name, other.name), (other.name, directory.name)):
        assert sightx_main("compare", *names, *runs) == 0
        out = capsys.readouterr().out
        assert "qwk" in out
        assert "0.6100" in out
        assert "no intervals" in out
    # 2. What needs weights or predictions says why there are none.
    image = str(tmp_path / "image.png")
    commands = [("evaluate",), ("resume",), ("run", "--again"), ("report",)]
    for words in commands:
        assert sightx_main(*words, directory.name, *runs) == 5
        assert "error[imported-run] it was imported" in capsys.readouterr().err
    assert sightx_main("predict", directory.name, image, *runs) == 5
    assert "error[imported-run] it was imported" in capsys.readouterr().err
    # 3. What it has not recorded is one row for each topic of a difference.
    assert sightx_main("diff", directory.name, other.name, *runs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 20
    assert any("not recorded" in line and "changes results" not in line for line in lines)
    assert any(line.startswith("spec") and "resnet50" in line for line in lines)
    # 4. A CSV without --about is not an archive.
    assert sightx_main("import-run", str(arguments[0]), *runs) == 2
    assert "metrics in a CSV file need --about RUN.toml" in capsys.readouterr().err
