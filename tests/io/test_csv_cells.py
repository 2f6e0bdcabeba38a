"""Formulas in CSV cells, against Python's csv module and pandas."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightx.io.csv_cells import csv_bytes, escape_cell, unescape_cell, unescape_frame

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "'=x", "''@", "-", "- 5"]
HARMLESS = ["", "a=b", "1", "-1", "+1.5e-3", "-.5", "it's", "'quoted'", "a/-b.png", "'-1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_begins_with_a_quote(text: str) -> None:
    assert escape_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [*HARMLESS[:-1], -1, -0.5, None, True])
def test_everything_else_stays(value: object) -> None:
    assert escape_cell(value) == value


@given(st.text("'=+-@\t\r1.e ab"))
def test_every_text_comes_back(text: str) -> None:
    escaped = escape_cell(text)
    assert unescape_cell(escaped) == text
    assert not escaped.startswith(("=", "@", "\t", "\r"))


def test_a_table_of_texts_categories_and_numbers_comes_back() -> None:
    texts = [*FORMULAS, *HARMLESS]
    frame = pd.DataFrame(
        {"=path": texts, "label": pd.Categorical(texts), "n": -np.arange(len(texts)) / 4}
    )
    content = csv_bytes(frame)
    rows = list(csv.reader(io.StringIO(content.decode())))
    assert rows[0] == ["'=path", "label", "n"]
    assert [row[0] for row in rows[1:]] == list(map(escape_cell, texts))
    read = pd.read_csv(io.BytesIO(content), dtype={"label": "category"}, keep_default_na=False)
    back = unescape_frame(read)
    assert list(back["=path"]) == list(back["label"]) == texts
    assert (back["n"] == frame["n"]).all()
