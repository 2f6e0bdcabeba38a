"""`sightx validate` prints for every spec of the corpus exactly what its first lines announce.

A line `#! 3:1: error[code] ...` announces a problem at that position of the file, one that begins
with a colon a problem of the file as a whole, any other text the line as it is. Options are
`#! exit 2`, `#! set key=value`, `#! env NAME=VALUE`, `#! strict`, `#! as utf-16` or `crlf` (how the
file is written to disk, if git would change it). Names of files are relative to the file.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightx.cli.main import main
from sightx.io.toml import SIZE_LIMIT
from sightx.plugin import Problem
from sightx.registry import loading
from sightx.registry.project import Project
from sightx.spec.error_codes import catalogue
from sightx.spec.load import examine
from sightx.spec.paths import iter_tables

CORPUS = Path(__file__).with_name("corpus")
WRONG = sorted(path.stem for path in (CORPUS / "wrong").glob("*.toml"))
GOOD = sorted(path.stem for path in (CORPUS / "good").glob("*.toml"))

# Codes with exit code 2 or 4 that a spec alone cannot cause, and what causes them.
ELSEWHERE = {
    "bad-filter": "listing runs",
    "cannot-explain": "explaining a prediction",
    "missing-extra": "exporting",
    "broken-observer": "a run",
    "cannot-build": "building the model",
    "cannot-train": "building the model",
    "channels": "building the model",
    "copies-across-splits": "preparing the data",
    "empty-group": "building the model",
    "exists": "init and new-plugin",
    "idle-process": "several processes",
    "loss-shape": "the first step",
    "metric-name-twice": "the start of a run",
    "no-cache-entry": "pruning the cache",
    "no-split": "opening the data",
    "no-token": "sightx serve",
    "normalize-channels": "opening the data",
    "not-ordered": "fitting a decision",
    "order-unknown": "opening the data",
    "not-verified": "sightx resume --verify",
    "plugin-changed": "a prediction",
    "preprocess-failed": "preparing an image",
    "python-warning": "a warning of Python",
    "read-failed": "reading a sample",
    "run-name": "a run's name",
    "weights-mismatch": "loading weights",
    "wrong-result": "what a component returns",
    **dict.fromkeys(
        (
            "class-drift", "cmyk", "conflicting-copies", "copies", "copies-across-groups",
            "deep-colour", "exif-rotated", "extreme-size", "label-doubt",
            "likely-copies-across-splits", "quality", "several-frames", "shortcut-file",
            "shortcut-split", "uncertain-recall", "unused-data",
        ),
        "sightx audit",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One file of the corpus, and the output that its first lines announce."""

    name: str
    raw: bytes
    code: int
    lines: tuple[str, ...]
    words: tuple[str, ...]
    variables: dict[str, str]

    @property
    def codes(self) -> set[str]:
        """The codes of the lines."""
        return {match[1] for line in self.lines if (match := re.search(r"\w+\[([\w-]+)\] ", line))}


def case(folder: str, stem: str) -> Case:
    name, code, form = f"{stem}.toml", 0, "utf-8"
    lines: list[str] = []
    words: list[str] = []
    variables: dict[str, str] = {}
    spec = (CORPUS / folder / name).read_bytes().decode()
    for row in spec.splitlines():
        if not row.startswith("#! "):
            break
        text = row.removeprefix("#! ")
        option, _, value = text.partition(" ")
        match option:
            case "exit":
                code = int(value)
            case "set":
                words += ["--set", value]
            case "strict":
                words += ["--strict"]
            case "env":
                variables |= dict([value.split("=", 1)])
            case "as":
                form = value
            case _:
                has_position = re.match(r"\d+:\d+: |: ", text)
                prefix = f"{name}{'' if text[0] == ':' else ':'}" if has_position else ""
                lines.append(prefix + text)
    raw = spec.replace("\n", "\r\n").encode() if form == "crlf" else spec.encode(form)
    return Case(name, raw, code, tuple(lines), tuple(words), variables)


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder next to the base specs, outside of any project."""
    root = tmp_path_factory.mktemp("corpus")
    shutil.copytree(CORPUS / "base", root / "base")
    (root / "specs").mkdir()
    return root / "specs"


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call `sightx validate` in the folder of a case."""
    monkeypatch.chdir(folder)

    def validate(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["validate", *words])
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return validate


def write(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / case.name).write_bytes(case.raw)
    for name, value in case.variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("stem", WRONG)
def test_a_wrong_spec_prints_exactly_the_announced_lines(
    stem: str, folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = case("wrong", stem)
    write(announced, folder, monkeypatch)
    code, out, err = call(announced.name, *announced.words)
    assert err.splitlines() == list(announced.lines)
    assert announced.lines
    assert code == announced.code
    assert out.startswith(f"{announced.name}: valid") if code == 0 else out == ""

    code, out, err = call(announced.name, *announced.words, "--format", "json")
    output = json.loads(out)
    assert [str(Problem(**problem)) for problem in output["problems"]] == list(announced.lines)
    assert (code, err) == (announced.code, "")
    assert output["specs"] == [{"file": announced.name, "status": "invalid" if code else "valid"}]


@pytest.mark.parametrize("stem", GOOD)
def test_a_good_spec_is_valid(
    stem: str, folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = case("good", stem)
    write(announced, folder, monkeypatch)
    code, out, err = call(announced.name, *announced.words)
    assert err.splitlines() == list(announced.lines)
    assert all(" warning[" in line for line in announced.lines)
    assert (code, announced.code) == (0, 0)
    assert out.startswith(f"{announced.name}: valid (stage spec")


def test_one_call_with_all_wrong_specs_prints_all_problems(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = [wrong for stem in WRONG if not (wrong := case("wrong", stem)).words]
    for announced in plain:
        write(announced, folder, monkeypatch)
    code, _, err = call(*(announced.name for announced in plain))
    assert code == 2
    expected = dict.fromkeys(line for announced in plain for line in announced.lines)
    assert err.splitlines() == list(expected)


# Files that git would change, or that need a project: files, arguments, exit code, lines.
BASE = '\n[dataset]\nuse = "synthetic-fundus"\n[model]\nuse = "simplenet"\n'
VALID = 'name = "a"' + BASE
TABLE = '[tool.sightx]\nplugins = ["mine"]\n'
RAISES = "raise RuntimeError('boom')\n"
THIRD_PARTY = """
from sightx.plugin import Loss, hookimpl

class Margin(Loss):
    \"\"\"Margin loss.\"\"\"

    name = "margin"

    def build(self): ...

@hookimpl
def sightx_components():
    return [Margin]
"""
MARGIN = VALID + '[loss]\nuse = "margin"\n'
A, B = "mine/sightx_corpus_a.py", "mine/sightx_corpus_b.py"
NESTED = """
from sightx.plugin import Dataset, hookimpl

class Outer(Dataset):
    \"\"\"A dataset in a dataset.\"\"\"

    name = "outer"
    base: Dataset

    def table(self): ...

@hookimpl
def sightx_components():
    return [Outer]
"""
OUTER = """name = "a"
dataset.use = "outer"
model.use = "simplenet"
dataset.base.use = "synthetic-fundus"
dataset.base.decode = "exact"
"""
WARNING = (
    "warning[broken-plugin] plugin sightx_corpus_a at {here}/mine/sightx_corpus_a.py is broken: "
    "RuntimeError: boom; sightx list-plugins shows every plugin's state"
)
SYNTAX_NUL = "Invalid statement; write key = value, [section] or # comment"
GENERATED: dict[str, tuple[dict[str, str | bytes], list[str], int, list[str]]] = {
    "empty": ({"a.toml": ""}, [], 2,
        ["a.toml: error[empty] says nothing; a spec has a name, [dataset] and [model]"]),
    "missing": ({}, [], 2,
        ["a.toml: error[unreadable] cannot be read: No such file or directory; check the path"]),
    "folder": ({"a.toml/b": ""}, [], 2,
        ["a.toml: error[unreadable] is a folder, not a spec; "
         "sightx init ./a.toml writes a spec for a folder of images"]),
    "too large": ({"a.toml": VALID + "#" * SIZE_LIMIT}, [], 2,
        ["a.toml: error[too-large] is larger than 1,000,000 bytes; is it a spec?"]),
    "utf-16, big end first": ({"a.toml": b"\xfe\xff" + VALID.encode("utf-16-be")}, [], 2,
        ["a.toml:1:1: error[encoding] is UTF-16; save it as UTF-8"]),
    "utf-16 without a mark": ({"a.toml": VALID.encode("utf-16-le")}, [], 2,
        ["a.toml:1:2: error[syntax] Expected '=' after a key in a key/value pair; "
         "write key = value"]),
    "a photograph": ({"a.toml": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"}, [], 2,
        ["a.toml:1:1: error[encoding] not UTF-8 (byte 0x89 at offset 0); save it as UTF-8"]),
    "zeros": ({"a.toml": bytes(64)}, [], 2, [f"a.toml:1:1: error[syntax] {SYNTAX_NUL}"]),
    "half a character": ({"a.toml": 'name = "a"\nseed = 1 # é'.encode()[:-1]}, [], 2,
        ["a.toml:2:12: error[encoding] not UTF-8 (byte 0xc3 at offset 22); save it as UTF-8"]),
    "two marks": ({"a.toml": b"\xef\xbb\xbf\xef\xbb\xbf" + VALID.encode()}, [], 2,
        [f"a.toml:1:1: error[syntax] {SYNTAX_NUL}"]),
    "project": ({"a.toml": VALID, "pyproject.toml": '[tool.sightx]\nplugin = []\nruns = 3\n'},
        [], 2,
        ["{here}/pyproject.toml:2:1: error[unknown-key] plugin: unknown key; "
         "did you mean 'plugins'?",
         "{here}/pyproject.toml:3:1: error[wrong-type] runs: 3 is an integer, "
         "expected a string"]),
    "project, no toml": ({"a.toml": VALID, "pyproject.toml": "[tool.sightx\n"}, [], 2,
        ["{here}/pyproject.toml:1:13: error[syntax] Expected ']' at the end of a table "
         "declaration; write [section] or [[section]]"]),
    "machine": ({"a.toml": VALID, "pyproject.toml": "[tool.sightx]\n",
                 "sightx.local.toml": '[place]\ndata = "/data"\n[execution]\ndevice = "tpu"\n'},
        [], 2,
        ["{here}/sightx.local.toml:1:2: error[unknown-key] place: unknown key; "
         "did you mean 'places'?"]),
    "machine, execution": ({"a.toml": VALID, "pyproject.toml": "[tool.sightx]\n",
                 "sightx.local.toml": '[execution]\nthread = 2\ndevice = "tpu"\n'},
        [], 2,
        ["{here}/sightx.local.toml:2:1: error[unknown-key] execution.thread: unknown key; "
         "did you mean 'threads'?",
         "{here}/sightx.local.toml:3:1: error[invalid-value] execution.device: 'tpu' does not "
         "fit; device of the network: cpu, cuda, cuda:1, mps; auto takes cuda, then mps, then "
         "cpu"]),
    "machine, a place": ({"a.toml": VALID, "pyproject.toml": "[tool.sightx]\n",
                 "sightx.local.toml": "[places]\neyepacs = 3\n"},
        [], 2,
        ["{here}/sightx.local.toml:2:1: error[wrong-type] places.eyepacs: 3 is an integer, "
         "expected a string"]),
    "project observer": ({"a.toml": VALID,
                          "pyproject.toml": '[tool.sightx]\nobservers = ["curves", "consol"]\n'},
        [], 2,
        ["{here}/pyproject.toml:2:24: error[unknown-name] observer.2.use: no observer is called "
         "'consol'; did you mean 'console'? known: console, curves, epoch-predictions, "
         "mlflow, report, step-log, tensorboard"]),
    "broken, not needed": ({"a.toml": VALID, "pyproject.toml": TABLE, A: RAISES}, [], 0,
        [WARNING]),
    "broken, strict": ({"a.toml": VALID, "pyproject.toml": TABLE, A: RAISES}, ["--strict"], 2,
        [WARNING]),
    "broken, allowed": ({"a.toml": 'allow = ["broken-plugin"]\n' + VALID, "pyproject.toml": TABLE,
                         A: RAISES}, ["--strict"], 0, []),
    "broken, needed": ({"a.toml": MARGIN, "pyproject.toml": TABLE, A: RAISES}, [], 4,
        [WARNING,
         "a.toml:7:1: error[broken-plugin] loss.use: no loss is called 'margin'; plugin "
         "sightx_corpus_a is broken: RuntimeError: boom; add --debug to see the traceback"]),
    "a setting of a nested dataset": ({"a.toml": OUTER, "pyproject.toml": TABLE, A: NESTED}, [], 2,
        ["a.toml:5:1: error[nested-setting] dataset.base.decode: decode has no effect in a dataset "
         "inside of another; write dataset.decode"]),
    "clash": ({"a.toml": MARGIN, "pyproject.toml": TABLE, A: THIRD_PARTY, B: THIRD_PARTY}, [], 4,
        ["a.toml:7:1: error[name-clash] loss.use: the loss 'margin' is provided by sightx_corpus_a "
         "at {here}/mine/sightx_corpus_a.py:4 and sightx_corpus_b at "
         "{here}/mine/sightx_corpus_b.py:4; write use = \"sightx_corpus_a:margin\" or "
         "\"sightx_corpus_b:margin\""]),
}  # fmt: skip


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the modules of generated projects, and their folders from the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.startswith("sightx_corpus_")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_project_prints_exactly_the_announced_lines(
    name: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    files, words, code, lines = GENERATED[name]
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        raw = content if isinstance(content, bytes) else content.encode()
        (tmp_path / path).write_bytes(raw)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sightx.errors.LINE_LIMIT", 2000)  # the folder's name may be long
    done, _, err = call("a.toml", *words)
    assert [line.replace(str(tmp_path), "{here}") for line in err.splitlines()] == lines
    assert done == code


def test_every_code_that_a_spec_can_cause_is_in_the_corpus() -> None:
    registry = loading.load_registry(Project(CORPUS / "nowhere"))
    of_checks = {check.code for check, _ in registry.checks if check.stage == "spec"}
    of_others = {check.code for check, _ in registry.checks} - of_checks
    of_checks -= {"mixed-targets"}  # every loss that ships takes mixed targets
    ours = {code.name for code in catalogue().values() if {0, 2, 4} & set(code.exit_codes)}
    covered = {code for stem in WRONG for code in case("wrong", stem).codes}
    for _, _, _, lines in GENERATED.values():
        covered |= {code for line in lines for code in re.findall(r"\w+\[([\w-]+)\] ", line)[:1]}
    assert set(ELSEWHERE) <= ours
    assert covered == (ours | of_checks) - set(ELSEWHERE) - of_others


def test_every_component_that_ships_is_in_a_good_spec(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightx import Experiment

    monkeypatch.chdir(folder)
    used = set()
    for stem in GOOD:
        write(case("good", stem), folder, monkeypatch)
        experiment = examine(f"{stem}.toml").experiment
        if experiment is None:
            continue  # valid only with its --set
        written, registry = experiment.context.spec.data, experiment.context.registry
        positions = set(experiment.context.spec.positions)
        used |= {
            (cls.kind, cls.name)
            for key, cls, _ in iter_tables(Experiment, written, registry)
            if hasattr(cls, "name") and (*key, "use") in positions
        }
    ships = {
        (entry.component.kind, entry.component.name)
        for entry in loading.load_registry(Project(CORPUS / "nowhere")).entries()
        if entry.plugin.is_builtin
    }
    assert used == ships


def test_the_corpus_has_not_shrunk() -> None:
    assert len(WRONG) >= 140
    assert len(GOOD) >= 24
