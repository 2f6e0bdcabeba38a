"""Hints of commands over runs: each test does what one says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import sightx
from sightx import Run
from sightx.runs import sums
from support.commands import sightx_main
from support.hints import follow
from support.run_folders import write_run

Line = Callable[..., str]


def paste(line: str, pattern: str) -> int:
    """Run the command of a line, which ends where a pattern begins."""
    (command,) = re.findall(rf"sightx (.*?) {pattern}", line)
    return sightx_main(*shlex.split(command))


@pytest.fixture
def runs(working_folder: Path) -> Path:
    folder = working_folder / "my runs"
    for name, accuracy in {"a": 0.5, "b": 0.7}.items():
        metrics = {"validation/accuracy": accuracy}
        sums.write_sums(write_run(folder, name, {}, metrics, whole=True))
    return folder


def test_a_removed_run_is_restored_by_the_printed_command(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = ["20260131-a", "20260131-b"]
    assert sightx_main("remove-run", *ids, "--yes", "--runs", str(runs)) == 0
    assert not (runs / ids[0]).exists()
    for line in capsys.readouterr().out.splitlines()[-2:]:
        assert paste(line, "undoes it") == 0
    assert all((runs / name).is_dir() for name in ids)


def test_the_ways_to_name_runs_for_removal_work(runs: Path, error_line: Line) -> None:
    line = error_line("remove-run", "--runs", str(runs), code=2)
    assert "name runs, or --empty-trash without runs" in line
    assert sightx_main("remove-run", "20260131-a", "--yes", "--runs", str(runs)) == 0
    assert sightx_main("remove-run", "--empty-trash", "--yes", "--runs", str(runs)) == 0


def test_a_run_that_differs_from_its_archive_can_be_moved_away(
    runs: Path, error_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--runs", str(runs)]
    assert sightx_main("archive", "20260131-a", "-o", "a.zip", *words) == 0
    (runs / "20260131-a" / "spec.toml").write_text("changed")
    line = error_line("import-run", "a.zip", *words, code=5)
    (command,) = re.findall(r"sightx (remove-run .*) moves that run to the trash", line)
    assert sightx_main(*shlex.split(command), "--yes") == 0
    assert sightx_main("import-run", "a.zip", *words) == 0
    Path("a.zip").write_bytes(Path("a.zip").read_bytes()[:-30])
    line = error_line("import-run", "a.zip", *words, code=5)
    command = line.rpartition("archive the run again: ")[2]
    command = command.replace("RUN", "20260131-a").replace("FILE", "b")
    assert sightx_main(*shlex.split(command)[1:], *words) == 0
    assert sightx_main("import-run", "b.zip", *words) == 0


def test_an_ambiguous_name_can_be_resolved_as_its_error_says(
    working_folder: Path, error_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = working_folder / "my runs"
    ids = [write_run(folder, f"{hour}0000-retina-3f9a1c", {"name": "retina"}).name
           for hour in (10, 11)]  # fmt: skip
    words = ("--runs", str(folder))
    line = error_line("show-run", "retina", *words, code=5)
    assert "'retina' is the name of 2 runs" in line
    assert paste(line, "lists them") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ids)
    assert sightx_main("show-run", re.findall(r"newest is (\S+);", line)[0], *words) == 0
    line = error_line("show-run", "3f9a1c", *words, code=5)
    for name in line.rpartition("write the whole id: ")[2].split(", "):
        assert sightx_main("show-run", name.strip(), *words) == 0
    line = error_line("show-run", "@candidate", *words, code=5)
    (command,) = re.findall(r"sightx (tag .*) adds it", line)
    assert sightx_main(*shlex.split(command.replace("RUN", ids[0])), *words) == 0
    assert sightx_main("show-run", "@candidate", *words) == 0


def test_the_best_run_is_found_as_its_errors_say(runs: Path, error_line: Line) -> None:
    for name, end in {"best:seed": "sorts by any key", "best:loss[seed > 7]": "shows"}.items():
        assert paste(error_line("show-run", name, "--runs", str(runs)), end) == 0


def test_where_no_run_is_the_hint_leads_to_one(
    spec: Path, runs: Path, error_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line("show-run", "last", code=5)
    assert "sightx run SPEC creates one; --runs FOLDER looks in another folder" in line
    assert sightx_main("show-run", "last", "--runs", str(runs)) == 0
    assert "sightx run SPEC creates runs" in error_line("show-run", "..", code=2)
    assert sightx_main("run", str(spec), "--quiet") == 0
    assert sightx_main("show-run", "last") == 0
    (run,) = Path("runs").glob("2*")
    for path in run.glob("predictions/test*"):
        path.unlink()
    moved = run.rename(runs / run.name)
    line = error_line("compare", f"{runs}/{run.name}", f"{runs}/{run.name}", code=5)
    follow(line, "writes them")
    assert (moved / "predictions" / "test.csv").is_file()
    images = spec.parent / "data" / "test"
    words = ["predict", str(moved), str(images / "dark")]
    assert "leave out --explain" in error_line(*words, "--explain", "maps", code=2)
    assert sightx_main(*words) == 0


def test_metrics_are_imported_with_what_the_errors_show(
    working_folder: Path, error_line: Line
) -> None:
    Path("m.csv").write_text("epoch,validation/accuracy\n1,0.5\n")
    words = ["import-run", "m.csv", "--about", "m.toml"]
    about = ""
    for wrong in ("", "started = 3\n"):
        Path("m.toml").write_text(wrong + about)
        about += error_line(*words, code=2).rpartition("such as ")[2] + "\n"
    Path("m.toml").write_text(about)
    assert sightx_main(*words) == 0
    (run,) = sightx.list_runs(runs="runs")["name"]
    assert run == "paper-baseline"


def test_a_run_predicts_and_is_exported_as_the_errors_say(
    trained: Run, data: Path, working_folder: Path, error_line: Line
) -> None:
    predict = ["predict", str(trained.directory)]
    assert "name images, or one list with --pairs" in error_line(*predict, code=2)
    eyes = f"{data}/test/dark/0.png,{data}/test/dark/1.png"
    Path("pairs.csv").write_text(f"patient,left,right\np,{eyes}\n")
    assert sightx_main(*predict, "--pairs", "pairs.csv") == 0
    assert sightx_main(*predict, str(data / "test")) == 0
    line = error_line("export", str(trained.directory), code=2)
    assert "sightx export RUN --to FOLDER, or sightx export --check FOLDER" in line
    words = ["--to", "my model", "--format", "safetensors"]
    assert sightx_main("export", str(trained.directory), *words) == 0
    assert sightx_main("export", "--check", "my model") == 0


def test_a_file_of_a_network_leads_to_its_run_or_to_an_export(
    trained: Run, data: Path, working_folder: Path, error_line: Line
) -> None:
    (weights, *_) = sorted(trained.directory.rglob("*.safetensors"))
    line = error_line("predict", str(weights), str(data / "test"), code=5)
    (run,) = shlex.split(line.rpartition("it lies in a run: give ")[2])
    assert sightx_main("predict", run, str(data / "test")) == 0
    Path("model.onnx").touch()
    line = error_line("predict", "model.onnx", str(data / "test"), code=5)
    assert line.endswith("; give a run, or the folder that sightx export has written")
    words = ["--to", "my model", "--format", "safetensors"]
    assert sightx_main("export", run, *words) == 0
    assert sightx_main("predict", "my model", str(data / "test")) == 0
