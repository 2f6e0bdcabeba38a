from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sightx
from sightx.io.files import shell_path
from support.commands import sightx_main
from support.runs import only_run


def test_piped_output_is_plain_lines_one_per_epoch(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sightx_main("run", str(spec), "--runs", str(tmp_path / "runs")) == 0
    out, err = capsys.readouterr()
    (directory,) = (tmp_path / "runs").iterdir()
    assert err.startswith("pixels: memory (")
    assert err.count("\n") == 1
    assert "\x1b" not in out
    assert "\r" not in out
    rows = [line for line in out.splitlines() if re.match(r"\s+[12]  ", line)]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert "accuracy of always predicting 'dark': validation 50.0%" in out
    assert re.search(r"^dark\s+6\s+[\d.%-]+", out, re.MULTILINE)
    assert out.rstrip().endswith(f"{directory}\nnext: sightx predict {directory} IMAGE")
    best = sightx.open_run(directory).result["epoch"]
    assert [row.split()[0] for row in rows if row.endswith("best")][-1] == str(best)
    assert (directory / "console.log").read_text().strip() == out.strip()


def test_the_gap_is_training_minus_validation_accuracy(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sightx_main("run", str(spec), "--runs", str(tmp_path / "runs"))
    row = next(ln for ln in capsys.readouterr().out.splitlines() if re.match(r"\s+2  ", ln))
    train, validation, gap = (float(cell.rstrip("%")) for cell in row.split()[3:6])
    assert gap == pytest.approx(train - validation, abs=0.11)


def test_quiet_prints_only_the_directory(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sightx_main("run", str(spec), "--runs", str(tmp_path / "runs"), "--quiet") == 0
    (directory,) = (tmp_path / "runs").iterdir()
    assert capsys.readouterr().out == f"{directory}\n"


def test_a_profile_shows_how_the_time_of_steps_was_spent(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    words = ["--set", "training.batch_size=2", "--profile"]
    assert sightx_main("run", str(spec), *runs, *words) == 0
    (directory,) = (tmp_path / "runs").iterdir()
    trace = directory / "profile" / "trace.json"
    assert json.loads(trace.read_text())["traceEvents"]
    lines = capsys.readouterr().out.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("profile of "))
    assert re.fullmatch(rf"profile of \d+ steps, [\d.]+ ms per step: {trace}", lines[start])
    parts = {line.split()[0]: float(line.split()[1][:-1]) for line in lines[start + 1 : start + 5]}
    assert list(parts) == ["data", "forward", "backward", "optimizer"]
    assert 0 < sum(parts.values()) <= 100.5
    assert "operators by self time on cpu" in lines[start + 6]
    assert any(line.startswith("  aten::") for line in lines[start + 7 :])
    assert all(len(line) <= 84 for line in lines[start + 1 :])


@pytest.mark.parametrize("command", [["predict", "last", "a.png"], ["evaluate", "last"]])
def test_last_is_the_newest_run_also_if_only_an_older_one_has_a_checkpoint(
    command: list[str], spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    sightx_main("run", str(spec), "--quiet", *runs)
    older = only_run(tmp_path / "runs")
    name = "29990101-000000-failed-000000"
    shutil.copytree(older.directory, older.directory.with_name(name))
    shutil.rmtree(older.directory.with_name(name) / "checkpoints")
    capsys.readouterr()
    assert sightx_main(*command, *runs) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}: error[no-checkpoint] the run has no checkpoint; ")
    assert f"sightx resume {shell_path(tmp_path / 'runs' / name)} continues it" in line


def test_a_run_that_failed_before_its_first_checkpoint_says_why_and_what_works(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    wrong = ["--set", "optimizer.use=sgd", "--set", "optimizer.lr=1e30"]
    assert sightx_main("run", str(spec), "--quiet", *wrong, *runs) == 6
    name = only_run(tmp_path / "runs").id
    capsys.readouterr()
    weights = ["--set", f"model.weights=run:{name}"]
    for command in (
        ["report", name], ["compare", name, name], ["evaluate", name], ["predict", name, "a.png"],
        ["export", name, "--to", str(tmp_path / "model")], ["evaluate", "last"],
        ["run", str(spec), *weights],
    ):  # fmt: skip
        assert sightx_main(*command, *runs) == 5
        *_, line = capsys.readouterr().err.splitlines()
        assert "failed before its first checkpoint: non-finite loss at ep" in line
        assert "fix that, then sightx run SPEC" in line
    assert (tmp_path / "runs" / name / "spec.toml").is_file()

    assert sightx_main("list-runs", *runs) == 0
    header, row, last = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "error"
    assert "non-finite loss at epoch 1 step" in row
    assert last.endswith(f"in {tmp_path / 'runs'}")
    assert sightx_main("list-runs", "--json", *runs) == 0
    assert "error[non-finite]" in json.loads(capsys.readouterr().out)[0]["error"]


def test_piped_rows_fit_100_columns(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sightx_main("run", str(spec), "--runs", str(tmp_path / "runs"))
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if re.match(r"\s*(epoch|[12]) ", line)]
    assert len(rows) == 3
    assert max(map(len, rows)) <= 100


def test_evaluate_prints_the_metrics_of_a_split(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    sightx_main("run", str(spec), "--quiet", *runs)
    capsys.readouterr()
    assert sightx_main("evaluate", "last", "--split", "train", *runs) == 0
    out = capsys.readouterr().out
    assert re.search(r"train/accuracy\s+[01]\.\d{4}  [01]\.\d{4} to [01]\.\d{4}  0\.5000", out)
    assert "predictions/train.csv" in out


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["run", "nowhere.toml"], 2, "nowhere.toml"),
        (["predict", "last", "a.png"], 5, "no run 'last'"),
        (["predict", "", "a.png"], 2, "is not the name of a run"),
        (["evaluate", "last", "--split", "x"], 2, "x"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(
    words: list[str], code: int, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    assert sightx_main(*words, *runs) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert line in err


def test_the_eyepacs_spec_without_its_data_explains_how_to_get_them() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "sightx", "run", str(root / "specs" / "eyepacs_resnet50.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) <= 301
    for part in ("@eyepacs", "kaggle competitions download", "88 GB", "synthetic-fundus"):
        assert part in done.stderr


LOUD = '''
from sightx.plugin import Preprocess, hookimpl

class Loud(Preprocess):
    """Print what it does."""

    name = "test-loud"

    def apply(self, image):
        print("working", flush=True)
        return image

@hookimpl
def sightx_components():
    return [Loud]
'''


def test_predictions_are_json_whatever_components_print_and_the_result_says(
    spec: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ["--runs", str(tmp_path / "runs")]
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "test_loud.py").write_text(LOUD)
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
    chain = "preprocess=[{use='test-loud'}, {use='resize', size=8}]"
    assert sightx_main("run", str(spec), "--quiet", "--set", chain, *runs) == 0
    run = only_run(tmp_path / "runs")
    (run.directory / "result.json").write_text("{")
    file = folders / "test" / "dark" / "\x1b[31m.png"
    (folders / "test" / "dark" / "0.png").rename(file)
    capsys.readouterr()

    assert sightx_main("predict", "last", str(file), "--json", *runs) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["class"] == "dark"
    assert "(unknown)" in err
    assert "working" in err
    assert sightx_main("predict", "last", str(file), *runs) == 0
    out = capsys.readouterr().out
    assert "\x1b[31m" not in out
    assert "\\x1b[31m.png: dark" in out


def test_control_characters_of_names_are_never_printed(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    attack = "dark\x1b[2J\x1b]0;title\x07\x9b"
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    for folder in list((tmp_path / "other").glob("*/dark")):
        folder.rename(folder.with_name(attack))
    image = tmp_path / "other" / "test" / attack / "0.png"
    (image.parent / f"{attack}.txt").write_text("")
    for words, code in [
        (["init", "other"], 3),
        (["validate", "--deep", "spec.toml", "--set", "dataset.root=other"], 3),
        (["run", "spec.toml"], 0),
        (["evaluate", "last"], 0),
        (["predict", "last", str(image.parent)], 0),
        (["predict", "last", "--json", str(image)], 0),
        (["predict", "last", f"{attack}.png"], 3),
        (["show", "spec.toml", "--set", f"dataset.root={attack}"], 2),
        (["run", "spec.toml", "--set", f"model.use={attack}"], 2),
        ([attack], 2),
    ]:
        assert sightx_main(*words) == code, words
        captured = capsys.readouterr()
        for text in captured:
            assert not re.search(r"[\0-\x08\x0b-\x1f\x7f-\x9f]", text), words
        if "--json" in words:
            assert json.loads(captured.out)["file"] == str(image)
    log = (only_run(tmp_path / "runs").directory / "console.log").read_text()
    assert "\x1b" not in log
