"""Parts of an HTML page as text. Cells and captions are escaped; parts that are HTML are not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from sightx.errors import printable
from sightx.records.metric_rows import interval_text

_WRITTEN = {name: name.upper() for name in ("auc", "ece", "f1", "qwk", "rps")} | {"brier": "Brier"}
UNDEFINED = '<span class="soft">undefined</span>'


def text(value: object) -> str:
    """Return a value as HTML text, without control characters."""
    return escape(printable(str(value)))


def metric_name(name: str) -> str:
    """Return the name of a metric as HTML, as it is usually written: QWK, binary-AUC."""
    return "-".join(_WRITTEN.get(part, part) for part in text(name).split("-"))


def text_block(value: str) -> str:
    """Return lines of text as HTML; other control characters are replaced."""
    return "\n".join(text(line) for line in value.splitlines())


def number(value: float, digits: int = 3) -> str:
    """Return a number, or "undefined" for NaN."""
    return UNDEFINED if math.isnan(value) else f"{value:.{digits}f}"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Return "0.123 to 0.456" in a soft colour, or nothing if it is undefined."""
    words = interval_text(low, high, digits)
    return f'<span class="ci">{words}</span>' if words else ""


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, names: int = 1, caption: str = ""
) -> str:
    """Return a table of HTML cells; the first `names` columns are names, the others numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = (' class="name"' if place < names else "" for place in range(len(values)))
        return "".join(f"<{tag}{k}>{v}</{tag}>" for k, v in zip(kinds, values, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    title = f"<caption>{caption}</caption>" if caption else ""
    head = f"<thead><tr>{cells('th', header)}</tr></thead>"
    return f'<div class="table"><table>{title}{head}<tbody>{body}</tbody></table></div>'


def section(name: str, title: str, parts: Iterable[str]) -> str:
    """Return a section with a heading that a link can name; "" without parts."""
    body = "\n".join(filter(None, parts))
    if not body:
        return ""
    return f'<section id="{name}"><h2>{text(title)}</h2>\n{body}\n</section>'


def note(words: str) -> str:
    """Return a remark, which is HTML, in a soft colour."""
    return f'<p class="soft">{words}</p>'


def folded(title: str, body: str) -> str:
    """Return HTML that a reader unfolds; printed, it is open."""
    return f"<details><summary>{text(title)}</summary>{body}</details>"


def figure(chart: str, caption: str) -> str:
    """Return a chart with its caption, which is HTML."""
    return f'<figure class="chart">{chart}<figcaption>{caption}</figcaption></figure>'


def figures(charts: Iterable[str]) -> str:
    """Return figures next to each other, or below each other on a narrow screen."""
    body = "".join(filter(None, charts))
    return f'<div class="charts">{body}</div>' if body else ""
