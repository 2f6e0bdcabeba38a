from __future__ import annotations

import json
import math
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightx.errors import SpecError
from sightx.io import toml
from sightx.io.toml import Position

TEXT = """\
name = "a"  # a comment
[training]
epochs = 3
a.b = 1
"quoted key" = { c = 1, d = [1, { e = 2 }] }

[[augment]]
use = "flip"
[[augment]]
use = "rotate"
[augment.inner]
deep = 1
"""


def test_data_equals_that_of_tomllib() -> None:
    assert toml.parse(TEXT.encode(), "a.toml").data == tomllib.loads(TEXT)


@pytest.mark.parametrize(
    ("key", "line", "column"),
    [
        (("name",), 1, 1),
        (("training",), 2, 2),
        (("training", "epochs"), 3, 1),
        (("training", "a", "b"), 4, 1),
        (("training", "quoted key"), 5, 1),
        (("training", "quoted key", "c"), 5, 18),
        (("training", "quoted key", "d", 1, "e"), 5, 35),
        (("augment", 0, "use"), 8, 1),
        (("augment", 1), 9, 3),
        (("augment", 1, "use"), 10, 1),
        (("augment", 1, "inner", "deep"), 12, 1),
    ],
)
def test_every_key_has_its_place(key: toml.Key, line: int, column: int) -> None:
    found = toml.parse(TEXT.encode(), "a.toml")
    assert found.positions[key] == Position("a.toml", line, column)


def test_columns_count_characters() -> None:
    found = toml.parse('"äöü" = { "é" = 1, b = { c = 2 } }\n[t]\nb = 1'.encode(), "a.toml")
    assert found.positions["äöü", "b"] == Position("a.toml", 1, 20)
    assert found.positions["äöü", "b", "c"] == Position("a.toml", 1, 26)
    assert found.positions["t", "b"] == Position("a.toml", 3, 1)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("a." * 2_000 + "a = 1", 1),
        ("[" + "a." * 200 + "a]", 2),
        ("a = " + "[" * 60 + "]" * 60, 5 + 49),
        ("a = " + "{ b = " * 60 + "1" + " }" * 60, 7 + 6 * 48),
        ("[" + "a." * 30 + "a]\n" + "b." * 30 + "b = 1", 1),
    ],
)
def test_too_deep_nesting_is_one_line_at_its_first_level(text: str, column: int) -> None:
    place = rf"^a\.toml:1:{column}: error\[syntax\] is nested too deeply"
    with pytest.raises(SpecError, match=place):
        toml.parse(text.encode(), "a.toml")


def test_a_number_of_thousands_of_digits_is_one_line() -> None:
    with pytest.raises(SpecError, match=r"^a\.toml:2:5: .* a number is too long"):
        toml.parse(b"b = 12\na = " + b"1" * 5000, "a.toml")


def test_an_endless_file_is_read_up_to_the_limit() -> None:
    with pytest.raises(SpecError, match="is larger than 1,000,000 bytes"):
        toml.read(Path("/dev/zero"))


def test_a_key_without_a_place_has_its_tables() -> None:
    found = toml.parse(TEXT.encode(), "a.toml")
    assert found.position(("training", "lost")) == Position("a.toml", 2, 2)


@pytest.mark.parametrize(
    ("raw", "line", "column", "code"),
    [
        (b"a = 1\nb = caf\xe9\n", 2, 8, "encoding"),
        ("a = 1\n".encode("utf-16"), 1, 1, "encoding"),
        (b'a = "open\n', 1, 10, "syntax"),
        (b"a = 1\na = 2\n", 2, 1, "syntax"),
        (b"a = " + b"[" * 5000, 1, 1, "syntax"),
    ],
)
def test_an_unreadable_file_is_one_line_with_a_place(
    raw: bytes, line: int, column: int, code: str
) -> None:
    with pytest.raises(SpecError) as caught:
        toml.parse(raw, "a.toml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.code) == (line, column, code)
    assert "\n" not in str(problem)


def test_latin_1_names_byte_and_offset() -> None:
    with pytest.raises(SpecError, match=r"not UTF-8 \(byte 0xe9 at offset 9\)"):
        toml.parse(b'name = "c\xe9"', "a.toml")


def test_a_byte_order_mark_and_windows_lines_are_read() -> None:
    assert toml.parse(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n", "a.toml").data == {"a": 1, "b": 2}


def test_missing_folder_and_huge_files_are_one_line(tmp_path: Path) -> None:
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (toml.SIZE_LIMIT + 1))
    for path in (tmp_path / "none.toml", tmp_path, huge):
        with pytest.raises(SpecError) as caught:
            toml.read(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-4", 1e-4), ("true", True), ("resnet50", "resnet50"), ("/a/b c", "/a/b c"),
     ("[1, 2]", [1, 2]), ('"x"', "x"), ("@eyepacs", "@eyepacs"), ("", "")],
)  # fmt: skip
def test_one_value_follows_toml_and_forgives_bare_words(text: str, value: object) -> None:
    assert toml.parse_value(text, "--set") == value


@pytest.mark.parametrize("text", ['"open', "1\nb = 2", "x\r\n", "[1", "{a}", "a = b"])
def test_a_broken_value_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="not a TOML value"):
        toml.parse_value(text, "--set")


_NAMES = st.text("abc-_é \"'.", min_size=1, max_size=6)
_VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(_NAMES, _VALUES, max_size=4))
def test_dump_and_parse_return_the_same_data_and_every_key_has_a_place(
    data: dict[str, object],
) -> None:
    found = toml.parse(toml.dump(data).encode(), "a.toml")
    assert found.data == data
    assert {(key,) for key in data} <= set(found.positions)


@pytest.mark.parametrize(
    "value",
    [
        True, 0, -3, 1e-08, 1.5e300, 0.1, "", 'quo"te\\ \n\t\x00\x7f', "é 🜚", [], {}, [[1], [2.5]],
        {"a b": [{"c": "d"}], "é": {"x-1": False}},
    ],
)  # fmt: skip
def test_values_survive_toml(value: Any) -> None:
    text = toml.dump_value(value)
    assert "\n" not in text
    assert tomllib.loads(f"key = {text}") == {"key": value}
    assert json.dumps(tomllib.loads(f"key = {text}")["key"]) == json.dumps(value)


def test_dates_survive_toml() -> None:
    assert tomllib.loads(f"key = {toml.dump_value(date(2026, 1, 2))}") == {"key": date(2026, 1, 2)}
    assert math.isclose(tomllib.loads(f"key = {toml.dump_value(1 / 3)}")["key"], 1 / 3)
