"""Read the cells of CSV files; every fault is named with its file and line."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sightx.data.decode.formats import is_image_name
from sightx.errors import DataError, Problem, did_you_mean
from sightx.io.csv_cells import unescape_cell
from sightx.records.faults import Faults

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = ",;\t|"
_MAX_COLUMNS = 10_000
_HEADER_SIZE = 2**20  # bytes at the beginning of a file, in which its header ends
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16
_SEPARATOR_LINE = re.compile(r"sep=([,;\t|])\r?\n")  # which Excel writes as the first line

_Record = tuple[int, list[str]]


class CsvFormat(NamedTuple):
    """How the cells of a file are written.

    None is a comma or UTF-8, for a reader that has no setting for anything else: hints do not
    propose a setting then.
    """

    separator: str | None = None
    encoding: str | None = None


def read_csv(
    path: Path,
    columns: Sequence[str],
    names: Sequence[str] = (),
    *,
    separator: str | None = None,
    encoding: str | None = None,
    faults: Faults | None = None,
) -> pd.DataFrame:
    """Return a CSV file's cells as strings; the index is the line on which each record begins.

    `names` are those of all columns, for a file without a header. Blanks around names do not
    count, nor do empty cells behind the last column. A `'` before a formula is not part of a cell,
    as in spreadsheets. What is left out is in `attrs`: `nameless`, the positions of columns without
    a name, from 1; `empty`, the lines of rows of empty cells; `comments`, the lines of rows that
    begin with `#` and have another number of cells.

    `separator` and `encoding` are those of the file if the caller has settings for them, else None
    for a comma and UTF-8. Raises DataError for what cannot be read, an unclosed quote, a ragged row
    or a missing column. With `faults` ragged rows are left out, and added there.
    """
    import pandas as pd

    table = _read(path, columns, names, CsvFormat(separator, encoding), faults)
    header = table.header
    frame = pd.DataFrame(
        table.rows, index=pd.Index(table.lines, dtype=int), columns=header, dtype=str
    )
    frame = frame.loc[:, list(filter(None, header))]
    nameless = [at for at, name in enumerate(header, start=1) if not name]
    frame.attrs.update(nameless=nameless, empty=table.empty, comments=table.comments)
    return frame


def read_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Return some columns of a CSV file, one list of cells per row, without pandas.

    Raises DataError as `read_csv`.
    """
    table = _read(path, columns, (), CsvFormat())
    positions = [table.header.index(column) for column in columns]
    return [[cells[position] for position in positions] for cells in table.rows]


def header_problems(
    path: Path,
    key: str,
    columns: Mapping[str, str],
    names: Sequence[str] = (),
    *,
    separator: str | None = None,
    encoding: str | None = None,
) -> tuple[Problem, ...]:
    """Return what is wrong with the header of a CSV file, of which only the beginning is read.

    `key` is the setting that names the file, and `columns` maps each column that the file must have
    to the setting that names it, or to ""; the problems have them as their `path`. `names`,
    `separator` and `encoding` are as for `read_csv`. A pipe is not read: that would empty it.
    """
    if path.is_fifo():
        return ()
    form = CsvFormat(separator, encoding)
    try:
        records = _records(_text(path, form, _HEADER_SIZE), path, form.separator)
        _checked_header(path, records, columns, names, form, [])
    except DataError as error:
        return tuple(replace(problem, path=problem.path or key) for problem in error.problems)
    return ()


class _Cells(NamedTuple):
    """The cells of a file, and the lines on which its rows and what was left out begin."""

    header: list[str]
    lines: list[int]
    rows: list[list[str]]
    empty: list[int]
    comments: list[int]


def _read(
    path: Path,
    columns: Sequence[str],
    names: Sequence[str],
    form: CsvFormat,
    faults: Faults | None = None,
) -> _Cells:
    """Return the cells of a file; see `read_csv`."""
    text, comments = _text(path, form), list[int]()
    records = _records(text, path, form.separator)
    needed = dict.fromkeys(columns, "")
    header, records = _checked_header(path, records, needed, names, form, comments)
    ragged = Faults() if faults is None else faults
    separator = form.separator or ","
    lines, rows, empty = _rows(path, records, header, comments, ragged, separator)
    if faults is None:
        ragged.refuse(None)
    if "'" in text:
        rows = [list(map(unescape_cell, cells)) for cells in rows]
    return _Cells(header, lines, rows, empty, comments)


def names_without_header(path: Path, form: CsvFormat) -> list[str]:
    """Return names for the columns of a file whose first line is not a header, else [].

    Raises DataError if the file cannot be read.
    """
    (_, first), *_ = _header(_records(_text(path, form), path, form.separator), [])
    return [f"column{n}" for n in range(1, len(first) + 1)] if _looks_like_row(first) else []


def detect_format(path: Path) -> CsvFormat:
    """Return how a file is most likely written. Raises DataError if it cannot be read."""
    raw = _bytes(path)
    encoding = "utf-16" if raw.startswith(_BYTE_ORDER_MARKS) else "utf-8"
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        encoding = "cp1252"  # of Windows in the west; it has a character for nearly every byte
    form = CsvFormat(",", encoding)
    text = _text(path, form)
    counts = {mark: len(_first_record(text, path, mark)) for mark in SEPARATORS}
    return form._replace(separator=max(SEPARATORS, key=lambda mark: counts[mark]))


def _first_record(text: str, path: Path, separator: str) -> list[str]:
    """Return the header of a text if its cells can have this separator, else []."""
    try:
        return _header(_records(text, path, separator), [])[0][1]
    except DataError:
        return []


def _bytes(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or error
        others = sorted(file.name for file in path.parent.glob("*.csv"))
        hint = f"its folder contains {join_names(others)}" if others else "check the path"
        fail(path, 0, "unreadable", f"cannot be read: {reason}", hint)


def _text(path: Path, form: CsvFormat, size: int = -1) -> str:
    """Return the characters of a file, or of the first `size` bytes. Raises DataError."""
    raw, encoding = _bytes(path, size), form.encoding or "utf-8"
    likely = "utf-16" if raw.startswith(_BYTE_ORDER_MARKS) else "cp1252"
    hint = "save it as UTF-8"
    if form.encoding is not None:
        hint = f'{hint}, or set encoding = "{likely}" in [dataset]'
    try:
        text = _decode(raw, encoding, is_part=len(raw) == size).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        fail(path, line, "encoding", f"not {encoding.upper()} ({byte})", hint)
    if "\0" in text.partition("\n")[0]:
        hint = hint.replace(likely, "utf-16-le")
        fail(path, 1, "encoding", "NUL between the characters, as in UTF-16", hint)
    return text


def _decode(raw: bytes, encoding: str, *, is_part: bool) -> str:
    """Return bytes as text; the last character of a part of a file may be incomplete."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        if is_part and error.end == len(raw):
            return raw[: error.start].decode(encoding)
        raise


def _records(text: str, path: Path, separator: str | None) -> Iterator[_Record]:
    """Yield each record with the line on which it begins. Raises DataError for broken syntax."""
    separator, lines_before = separator or ",", 0
    if declared := _SEPARATOR_LINE.match(text):
        text, separator, lines_before = text[declared.end() :], declared[1], 1
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    line = 1 + lines_before
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1 + lines_before
    except csv.Error as error:
        message, hint = _explain(error, text, line - lines_before)
        fail(path, line, "csv-syntax", message, hint)


def _explain(error: csv.Error, text: str, line: int) -> tuple[str, str]:
    """Return what is wrong with the record that begins on a line of a text, and a hint."""
    if "field limit" in str(error):
        limit = csv.field_size_limit()
        record = text.split("\n", line - 1)[-1]
        if '"' not in record[:limit]:
            return f"a cell has more than {limit:,} characters", "is it a table of labels?"
    elif "unexpected end" not in str(error):
        return str(error), 'write "" for a quote inside of a cell in quotes'
    # The quote has swallowed the rest of the file, or as much as a cell may hold.
    return "a quote is never closed", "close the quote that this record opens"


def _header(records: Iterator[_Record], comments: list[int]) -> tuple[_Record, Iterator[_Record]]:
    """Return the header and the records behind it; add the lines of comments before it.

    Records that begin with `#` are comments, except for one that has as many cells as the first
    record that does not.
    """
    marked: list[_Record] = []
    first = next(records, (0, []))
    while first[1] and first[1][0].startswith("#"):
        marked.append(first)
        first = next(records, (0, []))
    if marked and len(first[1]) in (0, len(marked[-1][1])):
        records = chain([first] if first[1] else [], records)
        first = marked.pop()
    comments += [line for line, _ in marked]
    return first, records


def _checked_header(
    path: Path,
    records: Iterator[_Record],
    columns: Mapping[str, str],
    names: Sequence[str],
    form: CsvFormat,
    comments: list[int],
) -> tuple[list[str], Iterator[_Record]]:
    """Return the names of all columns, and the records behind the header; see `_read`."""
    start, header = (1, list(names)) if names else (0, [])
    if not names:
        (start, header), records = _header(records, comments)
        header = list(map(unescape_cell, header))
    if not header:
        fail(path, 0, "empty-file", "the file is empty", "it needs a header and rows")
    header = [name.strip() for name in header]
    _check_header(path, start, header, columns, form)
    return header, records


def _rows(
    path: Path,
    records: Iterator[_Record],
    header: list[str],
    comments: list[int],
    faults: Faults,
    separator: str,
) -> tuple[list[int], list[list[str]], list[int]]:
    """Return the lines of rows, their cells, and the lines of empty ones; add those of comments.

    Rows with another number of cells are left out, and added to `faults`.
    """
    width = len(header)
    lines, rows, empty = [], [], []
    for line, cells in records:
        if not any(map(str.strip, cells)):
            empty.append(line)
            continue
        if len(cells) < width or any(map(str.strip, cells[width:])):
            if cells[0].lstrip().startswith("#"):
                comments.append(line)
                continue
            message = f"a row of {len(cells)} in a table of {width} columns"
            hint = _hint_for_ragged(cells, width, separator)
            faults.add(Problem("ragged-row", message, hint, file=str(path), line=line))
            continue
        lines.append(line)
        rows.append(cells[:width])
    return lines, rows, empty


def _hint_for_ragged(cells: Sequence[str], width: int, separator: str) -> str:
    """Return the way out for a row with more or fewer cells than the header."""
    if len(cells) > width:
        return "put a cell that holds the separator in quotes"
    marks = [mark for mark in SEPARATORS if mark != separator]
    counts = {mark: len(cells) + sum(cell.count(mark) for cell in cells) for mark in marks}
    if mark := next((mark for mark, count in counts.items() if count == width), ""):
        return f"write {separator!r} in place of {mark!r}, or {width} cells"
    return f"write {width} cells; one without a value is empty"


def _check_header(
    path: Path, line: int, header: list[str], columns: Mapping[str, str], form: CsvFormat
) -> None:
    """Raise DataError for a wrong header; `columns` are the needed ones, with their settings."""
    if len(header) > _MAX_COLUMNS:
        message = f"the header has {len(header)} columns, at most {_MAX_COLUMNS} are read"
        fail(path, line, "too-large", message, "is it a table of labels?")
    counts = Counter(header)
    repeated = next((name for name in header if name and counts[name] > 1), None)
    if repeated is not None:
        fail(path, line, "duplicate-column", f"there are two columns {repeated!r}", "rename one")
    missing = [column for column in columns if column not in header]
    if not missing:
        return
    if separator := _other_separator(header, [*columns], form.separator or ","):
        hint = "save it with commas"
        if form.separator is not None:
            hint = f'{hint}, or set separator = "{repr(separator)[1:-1]}" in [dataset]'
        message = f"the cells are separated by {separator!r}, not by {form.separator or ','!r}"
        fail(path, line, "missing-column", message, hint)
    if _looks_like_row(header):
        message = f"the first line looks like a row: {join_names(list(map(repr, header)))}"
        hint = f"put a line with the names of the {len(header)} columns on top"
        fail(path, line, "no-header", message, hint)
    problems = []
    for column in missing:
        hint = did_you_mean(column, header) or f"columns: {join_names(header)}"
        message = f"there is no column {column!r}"
        problem = Problem("missing-column", message, hint, columns[column])
        problems.append(problem.at(str(path), line))
    raise DataError(*problems)


def _other_separator(header: Sequence[str], columns: Sequence[str], separator: str) -> str:
    """Return the separator that splits a header into columns of which some are needed, or ""."""
    line = separator.join(header)
    if len(header) == 1 and (mark := next(filter(line.count, SEPARATORS), "")):
        return mark
    names = {mark: {name.strip() for name in line.split(mark)} for mark in SEPARATORS}
    others = [mark for mark in SEPARATORS if mark != separator and set(columns) <= names[mark]]
    return others[0] if others else ""


def _looks_like_row(cells: Sequence[str]) -> bool:
    """Return whether a first line has a number or the name of an image, as no header has."""
    return any(re.fullmatch(r"[+-]?[0-9.]+", cell) or is_image_name(cell) for cell in cells)


def join_names(names: Sequence[str]) -> str:
    """Return up to eight names as a list."""
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def fail(path: Path, line: Any, code: str, message: str, hint: str = "") -> NoReturn:
    """Raise DataError for a line of a CSV file."""
    raise DataError(Problem(code, message, hint, file=str(path), line=int(line)))
