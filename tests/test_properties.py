"""Any spec is valid, or refused with problems that have positions; there is never a traceback.

`SIGHTX_EXAMPLES=20000 pytest tests/test_properties.py` tries more examples.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sightx import SpecError
from sightx.cli.main import main
from sightx.errors import LINE_LIMIT
from sightx.io import toml
from sightx.io.toml import Document

ROOT = Path(__file__).parents[1]
GOOD = [
    path
    for folder in (ROOT / "tests" / "corpus" / "good", ROOT / "specs")
    for path in sorted(folder.glob("*.toml"))
]
TEXTS = [path.read_bytes() for path in GOOD]
LINES = sorted({line for text in TEXTS for line in text.splitlines()})
BARE = {"empty", "too-large"}  # about a file as a whole
SECONDS = 5.0

bounded = settings(
    max_examples=int(os.environ.get("SIGHTX_EXAMPLES", "350")),
    derandomize="SIGHTX_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

VALUES = st.sampled_from(
    b'true|3|-1|0|3.0|1e400|nan|-inf|"x"|""|\'y\'|[]|[1]|[[]]|{}|{use = "x"}|[{}]|[{use = 3}]|'
    b'2026-01-01|07:32:00|1979-05-27T07:32:00Z|"@place/x"|"../x"|"~nobody/x"|"\\u0000"|0xff|'
    b'99999999999999999999999|"validation/qwk"|["a", 1]|"sightx:adam"|":"|"a:b:c"|[nan]|'
    b'"\\U0001F4A9"|""""""|{a.b = 1}|"run:"|"x.pt"|"imagenet"'.split(b"|")
)
ODDITIES = st.sampled_from(
    b'[|[[|]|[[x]]|[x]|[model]|[[model]]|[[augment]]|use = 3|use = "flip"|a.b.c = 1|"" = 1|'
    b'extends = "mutated.toml"|extends = "none.toml"|extends = 3|extends = "."|x = """|'
    b'"\\u202e" = 1|'
    b"model.use.x = 1|allow = 1|allow = [1]|[training.monitor]|[[dataset.classes]]|\xff\xfe|\x00|"
    b"\xef\xbb\xbf|\xe2\x80\xa8 = 1|\x1b[31m|[dataset.root]|seed = 1_|=|\xc3\xa4 = 2".split(b"|")
)  # fmt: skip


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Draw a valid spec and change it in up to four ways."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        text = draw(st.sampled_from(CHANGES))(draw, text)
    return text


def change_lines(draw: st.DrawFn, text: bytes) -> bytes:
    """Delete, repeat, move or insert a line."""
    rows = text.split(b"\n")
    at, to = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(rows) - 1))
    match draw(st.sampled_from(["delete", "repeat", "move", "foreign", "strange"])):
        case "delete":
            del rows[at : to + 1 if to - at < 4 else at + 1]
        case "repeat":
            rows.insert(to, rows[at])
        case "move":
            rows.insert(to, rows.pop(at))
        case "foreign":
            rows.insert(at, draw(st.sampled_from(LINES)))
        case "strange":
            rows.insert(at, draw(ODDITIES))
    return b"\n".join(rows)


def change_value(draw: st.DrawFn, text: bytes) -> bytes:
    """Give a key another value."""
    matches = list(re.finditer(rb"= *([^\n#]+)", text))
    if not matches:
        return text
    match = draw(st.sampled_from(matches))
    return text[: match.start(1)] + draw(VALUES) + text[match.end(1) :]


def misspell(draw: st.DrawFn, text: bytes) -> bytes:
    """Misspell a word."""
    matches = list(re.finditer(rb"[A-Za-z_]+", text))
    if not matches:
        return text
    match = draw(st.sampled_from(matches))
    other = draw(st.text(max_size=3)).encode()
    at = draw(st.integers(match.start(), match.end()))
    return text[:at] + other + text[at + draw(st.integers(0, 2)) :]


def replace_bytes(draw: st.DrawFn, text: bytes) -> bytes:
    """Insert or replace bytes."""
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.binary(max_size=4)) + text[at + draw(st.integers(0, 6)) :]


def cut(draw: st.DrawFn, text: bytes) -> bytes:
    """Truncate the text."""
    return text[: draw(st.integers(0, len(text)))]


CHANGES = [change_lines, change_value, misspell, replace_bytes, cut, change_value, change_lines]

KEYS = st.sampled_from([
    "training", "epochs", "model", "use", "optimizer", "lr", "group", "augment", "flip", "rotate",
    "degrees", "0", "1", "-1", "99", "dataset", "root", "classes", "extends", "name", "allow",
    "metric", "checkpoint", "monitor", "preprocess", "resize", "size", ".", "=", "x",
]) | st.text(max_size=3)  # fmt: skip
ANYTHING = st.text(st.characters(exclude_categories=()), max_size=30)
OVERRIDES = st.lists(
    st.one_of(
        ANYTHING,
        st.builds(
            lambda key, given: f"{'.'.join(key)}={given}",
            st.lists(KEYS, min_size=1, max_size=4),
            VALUES.map(bytes.decode) | ANYTHING,
        ),
    ),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder next to the base specs, outside of any project."""
    root = tmp_path_factory.mktemp("properties")
    shutil.copytree(ROOT / "tests" / "corpus" / "base", root / "base")
    shutil.copytree(ROOT / "specs", root / "specs")
    return root / "specs"


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def check_output(*misspell: str) -> None:
    """Validate, and check everything that holds for any output."""
    out, err = io.StringIO(), io.StringIO()
    started = time.perf_counter()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as caught,
    ):
        main(["validate", "mutated.toml", *misspell])
    assert time.perf_counter() - started < SECONDS
    output = err.getvalue()
    rows = output.removesuffix("\n").split("\n") if output else []
    assert caught.value.code in (0, 2, 4), output
    for row in rows:
        assert row.isprintable(), output
        assert len(row) <= LINE_LIMIT, output
    errors = [row for row in rows if re.search(r"(^|: )error\[", row)]
    assert bool(errors) == bool(caught.value.code), output
    for row in errors:
        code = re.search(r"error\[([\w-]+)\]", row)
        assert code is not None
        placed = re.match(r"(\.\./base/)?[\w.]+\.toml:[1-9]\d*:[1-9]\d*: error", row)
        is_about_file = re.match(r"[\w./]+\.toml: error", row) is not None and code[1] in BARE
        assert placed or is_about_file or row.startswith("--set "), output
    assert caught.value.code or out.getvalue().startswith("mutated.toml: valid"), output


@bounded
@given(mutations())
def test_any_file_is_valid_or_has_problems_with_positions(text: bytes) -> None:
    Path("mutated.toml").write_bytes(text)
    check_output()


@bounded
@given(OVERRIDES, st.sampled_from(TEXTS))
@example(["extends=3"], TEXTS[0])
@example(["=" * 400], TEXTS[0])
def test_any_overrides_are_valid_or_have_problems_with_positions(
    overrides: list[str], text: bytes
) -> None:
    Path("mutated.toml").write_bytes(text)
    check_output(*(argument for override in overrides for argument in ("--set", override)))


def parsed(raw: bytes) -> Document | None:
    """Return a document, or None if the text is refused with a position."""
    try:
        return toml.parse(raw, "a.toml")
    except SpecError as error:
        problems = error.problems
    assert problems
    assert all(problem.line > 0 and problem.column > 0 for problem in problems)
    return None


@bounded
@given(st.one_of(st.binary(max_size=60), ANYTHING.map(lambda t: t.encode(errors="replace"))))
def test_parsing_any_bytes_raises_only_spec_errors_with_positions(raw: bytes) -> None:
    document = parsed(raw)
    assert document is None or repr(document.data) == repr(tomllib.loads(raw.decode("utf-8-sig")))


@bounded
@given(mutations())
def test_parsing_any_spec_gives_every_key_a_position(text: bytes) -> None:
    if not (document := parsed(text)):
        return
    rows = document.text.split("\n")
    for key in keys(document.data):
        position = document.positions[key]
        word = str(key[-1])
        if isinstance(key[-1], str) and word.isidentifier() and word.isascii():
            text_there = rows[position.line - 1][position.column - 1 :]
            assert word in text_there or "\\" in text_there, (key, text_there)


def keys(data: object, key: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return every key in some data, including the indices of array items."""
    pairs: Iterable[tuple[str | int, object]] = ()
    if isinstance(data, dict):
        pairs = data.items()
    elif isinstance(data, list):
        pairs = enumerate(data)
    return [
        inner_key
        for part, inner in pairs
        for inner_key in ((*key, part), *keys(inner, (*key, part)))
    ]


@bounded
@given(ANYTHING | VALUES.map(bytes.decode))
@example("1\ninjected = 2")
@example("\ud800")
@example("[" * 5000)
@example("1" * 5000)
def test_any_value_of_an_override_is_parsed_or_refused(text: str) -> None:
    try:
        toml.parse_value(text, "--set x")
    except SpecError as error:
        problems = error.problems
    else:
        return
    assert [problem.file for problem in problems] == ["--set x"]
