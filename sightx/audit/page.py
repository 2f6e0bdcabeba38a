"""A page of an audit: one HTML file with its images, without scripts and without other files."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightx.audit.audit import Audit
from sightx.audit.findings import AuditFinding, AuditReport, Example
from sightx.data.decode.decoder import BadImage, decode
from sightx.data.preprocess import read_image
from sightx.errors import Problem, SpecError, printable
from sightx.io import atomic
from sightx.records.pixels import evenly_spaced
from sightx.records.table import ImageTable

_CSS = Path(__file__).with_name("page.css")
_MARK = b"<!doctype html>\n<!-- sightx audit -->"
_SIZE, _QUALITY = 112, 65  # of a thumbnail, so that a page stays below 2 MB
_PER_CLASS = 12
Thumbnail = Callable[[int], str]
"""Returns the image of a row as a data URI; "" if it cannot be read."""


def write_page(audit: Audit, file: Path) -> None:
    """Write the page of an audit. Raises SpecError if the file is something else already."""
    if file.exists() and not _is_page(file):
        hint = "give another --html"
        raise SpecError(Problem("exists", f"{file} is not a page of an audit", hint))
    with atomic.disk_errors(file.parent):
        atomic.replace(file, render_page(audit).encode())


def _is_page(file: Path) -> bool:
    """Return whether a file is the page of an audit, which may be replaced."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(len(_MARK)) == _MARK


def render_page(audit: Audit) -> str:
    """Return the HTML of an audit."""
    report, table = audit.report, audit.table
    thumbnail = _Thumbnails(table) if table else (lambda row: "")
    parts = [
        f"<h1>Audit of {_text(report.name)}</h1>",
        f'<p class="soft">{report.samples:,} samples; findings: {report.count("refuse")} refuse, '
        f"{report.count('warn')} warn, {report.count('note')} note</p>",
        *(f'<p class="lead">{_text(statement)}</p>' for statement in report.statements),
        "<h2>Findings</h2>",
        *(_finding(finding, thumbnail) for finding in report.findings),
        "" if report.findings else "<p>Nothing was found.</p>",
        *_class_section(report),
        *(_sample_section(table, thumbnail) if table else ()),
        *_quality_section(report),
    ]
    head = (
        f'{_MARK.decode()}\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Audit of {_text(report.name)}</title>"
        f"<style>\n{_CSS.read_text(encoding='utf-8')}</style></head>\n<body>\n"
    )
    return head + "\n".join(filter(None, parts)) + "\n</body></html>\n"


def _text(text: str) -> str:
    return escape(printable(text))


def _finding(finding: AuditFinding, thumbnail: Thumbnail) -> str:
    facts = [
        f'<p class="soft">{label}: {_text(text)}</p>'
        for label, text in (
            ("Number", "" if finding.number is None else f"{finding.number:g}"),
            ("Threshold", finding.threshold),
            ("Hint", finding.hint),
        )
        if text
    ]
    head = (
        f'<p><span class="badge">{finding.severity}</span> <code>{_text(finding.code)}</code> '
        f'<span class="soft">{_text(finding.path)}</span></p><p>{_text(finding.message)}</p>'
    )
    shown = _examples(finding.examples, thumbnail)
    return f'<section class="finding {finding.severity}">{head}{"".join(facts)}{shown}</section>'


def _examples(examples: Sequence[Example], thumbnail: Thumbnail) -> str:
    """Return the examples of a finding, folded if there are many."""
    if not examples:
        return ""
    figures = "".join(_figure(example, thumbnail) for example in examples)
    is_pair = any(len(example.rows) > 1 for example in examples)
    grid = f'<div class="grid{" pairs" if is_pair else ""}">{figures}</div>'
    noun = "example" if len(examples) == 1 else "examples"
    return f"<details open><summary>{len(examples)} {noun}</summary>{grid}</details>"


def _figure(example: Example, thumbnail: Thumbnail) -> str:
    sources = [source for row in example.rows if (source := thumbnail(row))]
    images = " ".join(f'<img src="{source}" alt="">' for source in sources)
    caption = " and ".join(map(_text, example.paths))
    note = f"<br>{_text(example.note)}" if example.note else ""
    return f"<figure>{images}<figcaption>{caption}{note}</figcaption></figure>"


def _class_section(report: AuditReport) -> Iterable[str]:
    """Yield the samples of each class of each split, and the metrics of the largest class."""
    if not report.classes:
        return
    yield "<h2>Classes</h2>"
    largest = max(row.samples for row in report.classes) or 1
    rows = [
        [
            _text(row.split), _text(row.name), f"{row.samples:,}", f"{row.groups:,}",
            "-" if row.half_width is None else f"&plusmn;{row.half_width:.2f}",
            f'<span style="width:{100 * row.samples / largest:.1f}%"></span>',
        ]
        for row in report.classes
    ]  # fmt: skip
    yield _table(["split", "class", "samples", "groups", "recall to within", ""], rows, bar=True)
    for split, values in report.baselines.items():
        yield f"<h3>Always predicting the largest class: {_text(split)}</h3>"
        numbers = [_number(value) for value in values.values()]
        yield _table([_text(name) for name in values], [numbers])


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _sample_section(table: ImageTable, thumbnail: Thumbnail) -> Iterable[str]:
    """Yield a grid of samples of each class, evenly spread over the table."""
    yield "<h2>Samples</h2>"
    for label, name in enumerate(table.classes):
        rows = np.flatnonzero(table.labels == label)
        if not len(rows):
            continue
        chosen = evenly_spaced(rows, _PER_CLASS)
        paths = table.frame["path"].to_numpy(object)
        examples = [Example((int(row),), "", (str(paths[row]),)) for row in chosen]
        figures = "".join(_figure(example, thumbnail) for example in examples)
        yield f'<h3>{_text(name)}</h3><div class="grid">{figures}</div>'


def _quality_section(report: AuditReport) -> Iterable[str]:
    """Yield the quartiles of quality by class."""
    if not report.quality:
        return
    yield "<h2>Quality by class</h2>"
    yield '<p class="soft">Median (lower and upper quartile). A measure that differs between '
    yield "classes can be what a model learns.</p>"
    yield _table(*quality_rows(report.quality))


def quality_rows(
    quality: Mapping[str, Mapping[str, Sequence[float]]],
) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows, as HTML, of a table of quality by class."""
    names = list(next(iter(quality.values())))
    rows = [
        [_text(measure), *(_quartiles(by_class.get(name)) for name in names)]
        for measure, by_class in quality.items()
    ]
    return ["", *map(_text, names)], rows


def _quartiles(values: Sequence[float] | None) -> str:
    if not values:
        return "-"
    low, median, high = values
    return f'{median:.3f}<br><span class="soft ci">{low:.3f} to {high:.3f}</span>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, bar: bool = False) -> str:
    """Return a table of HTML cells; with `bar` the last column holds bars."""
    kinds = ["name" if name == "class" else "" for name in header]
    head = "".join(
        f'<th class="{kind}">{cell}</th>' for kind, cell in zip(kinds, header, strict=True)
    )
    kinds[-1] = "bar" if bar else kinds[-1]
    body = []
    for row in rows:
        cells = "".join(
            f'<td class="{kind}">{cell}</td>' for kind, cell in zip(kinds, row, strict=True)
        )
        body.append(f"<tr>{cells}</tr>")
    return f'<div class="table"><table><tr>{head}</tr>{"".join(body)}</table></div>'


class _Thumbnails:
    """Small copies of a table's images; each is made once."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table
        self._sources: dict[int, str] = {}

    def __call__(self, row: int) -> str:
        """Return the image of a row as a data URI; "" if it cannot be read."""
        if row not in self._sources:
            try:
                self._sources[row] = jpeg_uri(self._pixels(row))
            except (BadImage, OSError):
                self._sources[row] = ""
        return self._sources[row]

    def _pixels(self, row: int) -> np.ndarray[Any, Any]:
        image = read_image(self._table, row)
        return decode(image, min_size=(_SIZE, _SIZE)) if isinstance(image, bytes) else image


def jpeg_uri(pixels: np.ndarray[Any, Any]) -> str:
    """Return pixels (H, W, C) as a small JPEG."""
    channels = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    image = Image.fromarray(np.ascontiguousarray(channels))
    image.thumbnail((_SIZE, _SIZE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
