"""Commands in unusual surroundings: closed outputs, other locales, no home, no temporary folder."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sightx
from support.runs import only_run

COMMAND = [sys.executable, "-m", "sightx"]
UNKNOWN_USER = 4242

READING = [
    ["--help"],
    ["--version"],
    ["run", "--help"],
    ["list-plugins"],
    ["list-plugins", "--json"],
    ["show-plugin", "optimizer", "adamw"],
    ["show", "spec.toml"],
    ["schema"],
    ["validate", "spec.toml"],
    ["validate", "--deep", "--format", "json", "spec.toml"],
    ["validate", "--explain", "list"],
    ["init", "data"],
    ["cache"],
    ["prepare", "spec.toml"],
    ["run", "spec.toml", "--quiet"],
]


def start(words: list[str], folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start `sightx` in a folder."""
    return subprocess.Popen([*COMMAND, *words], cwd=folder, **options)


def run_command(
    words: list[str], folder: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `sightx` in a folder with environment variables; "" removes one."""
    environment = {key: value for key, value in {**os.environ, **variables}.items() if value}
    return subprocess.run(
        [*COMMAND, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_a_closed_pipe_ends_a_command_quietly(spec: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start(words, spec.parent, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        _, err = process.communicate()
    assert process.returncode == 141
    assert b"Traceback" not in err
    assert b"error[" not in err
    assert b"Exception ignored" not in err


def test_a_run_goes_on_when_nobody_reads_its_output(spec: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start(["run", str(spec)], spec.parent, stdout=writing, stderr=writing) as process:
        os.close(writing)
    assert process.returncode == 0
    expect_whole_log(spec.parent / "runs")


def expect_whole_log(runs: Path) -> None:
    run = only_run(runs)
    assert run.result["status"] == "finished"
    log = (run.directory / "console.log").read_text(encoding="utf-8")
    assert "val. loss" in log
    assert "next: sightx predict" in log


def test_a_run_goes_on_when_its_terminal_is_gone(spec: Path) -> None:
    """Writing to a closed pseudo-terminal raises EIO."""
    master, slave = pty.openpty()
    command = [*COMMAND, "run", str(spec)]
    with subprocess.Popen(
        command, cwd=spec.parent, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        os.close(master)
    assert process.returncode == 0
    expect_whole_log(spec.parent / "runs")


def test_closed_standard_streams_do_not_end_a_run(spec: Path) -> None:
    command = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *COMMAND, "run", str(spec)], cwd=spec.parent, check=False
    )
    assert done.returncode == 0
    expect_whole_log(spec.parent / "runs")


def test_a_full_disk_below_the_output_does_not_end_a_run(spec: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start(["run", str(spec)], spec.parent, stdout=full, stderr=full)
    process.wait()
    assert process.returncode == 0
    expect_whole_log(spec.parent / "runs")


def test_an_answer_that_cannot_be_written_is_a_failure(spec: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start(["show", str(spec)], spec.parent, stdout=full, stderr=subprocess.PIPE)
    _, err = process.communicate()
    assert process.returncode == 7
    assert err.decode().splitlines() == [
        "error[disk-write] disk full below the output; free space, then try again"
    ]


@pytest.fixture
def named(spec: Path) -> Path:
    """A spec whose classes have names beyond ASCII."""
    for split in ("train", "val", "test"):
        folder = spec.parent / "data" / split
        (folder / "dark").rename(folder / "犬")
        (folder / "light").rename(folder / "naïve")
    return spec


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({"LC_ALL": "C"}, marks=pytest.mark.slow),
        pytest.param({"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, marks=pytest.mark.slow),
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_files_are_utf8_in_every_locale(named: Path, variables: dict[str, str]) -> None:
    done = run_command(["run", str(named)], named.parent, **variables)
    assert done.returncode == 0
    run = only_run(named.parent / "runs")
    assert run.data["classes"] == ["naïve", "犬"]
    assert "train/犬/0.png" in (run.directory / "split.csv").read_text(encoding="utf-8")
    assert "犬" in (run.directory / "console.log").read_text(encoding="utf-8")
    for path in run.directory.rglob("*"):
        if path.suffix in (".toml", ".json", ".csv", ".log", ".jsonl"):
            path.read_bytes().decode("utf-8")
    assert sorted(run.predictions("test")["label"].unique()) == ["naïve", "犬"]


def test_raw_warnings_of_libraries_are_not_printed(named: Path) -> None:
    done = run_command(["run", str(named), "--quiet"], named.parent)
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if not line.startswith("pixels: ")] == []


def test_a_warning_of_the_users_own_code_is_one_line(spec: Path) -> None:
    (spec.parent / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
    (spec.parent / "plugins").mkdir()
    (spec.parent / "plugins" / "mine.py").write_text(
        "import warnings\n"
        "from sightx.plugin import Observer, hookimpl\n"
        "class Warner(Observer):\n"
        '    """Warn."""\n'
        '    name = "warner"\n'
        "    def build(self, run):\n"
        "        return self\n"
        "    @hookimpl\n"
        "    def sightx_run_started(self, run):\n"
        '        warnings.warn("look\\nhere")\n'
        "@hookimpl\n"
        "def sightx_components():\n"
        "    return [Warner]\n"
    )
    spec.write_text(spec.read_text() + '\n[[observer]]\nuse = "warner"\n')
    done = run_command(["run", str(spec), "--quiet"], spec.parent)
    (line,) = [line for line in done.stderr.splitlines() if "python-warning" in line]
    place = spec.parent / "plugins" / "mine.py"
    assert line == rf"{place}:10: warning[python-warning] UserWarning: look\nhere"


@pytest.fixture
def open_folder() -> Any:
    """A folder that every user may write, outside the private one of pytest."""
    folder = Path("/var/tmp") / f"sightx-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user"
)
def test_an_unknown_user_without_a_home_can_train(spec: Path, open_folder: Path) -> None:
    shutil.copytree(spec.parent / "data", open_folder / "data")
    shutil.copy(spec, open_folder)
    environment = {**os.environ, "SIGHTX_CACHE": str(open_folder / "cache")}
    environment.pop("HOME", None)
    as_unknown = ["setpriv", f"--reuid={UNKNOWN_USER}", f"--regid={UNKNOWN_USER}", "--clear-groups"]
    words = ["run", str(open_folder / "spec.toml"), "--quiet", "--runs", "runs"]
    done = subprocess.run(
        [*as_unknown, *COMMAND, *words],
        cwd=open_folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = only_run(open_folder / "runs")
    assert run.result["status"] == "finished"
    assert (run.directory / "plots" / "curves.png").is_file()
    assert "error[" not in done.stderr
    assert "Matplotlib" not in done.stderr


def test_a_missing_temporary_folder_does_not_matter_to_predictions(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary files lie next to their destination."""
    from sightx.runs.directory import Run

    run = sightx.run(sightx.load(spec), runs=tmp_path / "runs")
    predictions = run.predictions_of("test")
    assert predictions is not None
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    before = sorted(path.name for path in run.directory.rglob("*"))
    Run(run.directory).write_predictions("test", predictions)
    assert sorted(path.name for path in run.directory.rglob("*")) == before


def test_no_usable_temporary_folder_is_one_line(spec: Path, child_without_tmp: Callable) -> None:
    done = child_without_tmp("resume", "--verify", str(spec))
    assert done.returncode == 7
    assert done.stderr == (
        "error[resource] there is no usable temporary folder; "
        "set TMPDIR to a folder that can be written\n"
    )


@pytest.fixture
def child_without_tmp(spec: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `sightx` where no file can be created in any temporary folder."""
    code = (
        "import tempfile\n"
        "tempfile._candidate_tempdir_list = lambda: ['/dev/null/nowhere']\n"
        "from sightx.cli.main import main\n"
        "main()\n"
    )

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, cwd=spec.parent, capture_output=True, text=True, check=False)

    return call


@pytest.mark.parametrize("words", [["list-plugins"], ["run", "{spec}"], ["init", "{data}"]])
def test_a_removed_working_directory_is_one_line(spec: Path, words: list[str]) -> None:
    gone = spec.parent / "gone"
    gone.mkdir()
    places = {"spec": spec, "data": spec.parent / "data"}
    words = [word.format(**places) for word in words]
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, str(gone), *COMMAND, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7
    assert done.stderr == (
        "error[resource] the working directory was removed; cd to a folder that exists\n"
    )


@pytest.mark.slow
def test_python_may_drop_docstrings(spec: Path) -> None:
    """Slow in a new environment: Python compiles all of torch once more."""
    done = run_command(["run", str(spec), "--quiet"], spec.parent, PYTHONOPTIMIZE="2")
    assert (done.returncode, Path(done.stdout.strip()).parent) == (0, spec.parent / "runs")
    words = ["list-plugins", "--json"]
    plain, optimised = (
        run_command(words, spec.parent, PYTHONOPTIMIZE=level).stdout for level in ("", "2")
    )
    seconds = re.compile(r'"seconds": [\d.]+')
    assert seconds.sub("", optimised) == seconds.sub("", plain)


def test_a_group_can_share_runs_and_cache(spec: Path, cache_root: Path) -> None:
    before = os.umask(0o002)
    try:
        done = run_command(["run", str(spec), "--quiet"], spec.parent)
    finally:
        os.umask(before)
    assert done.returncode == 0
    for folder in (spec.parent / "runs", cache_root):
        for path in folder.rglob("*"):
            assert path.stat().st_mode & 0o060 == 0o060, path
