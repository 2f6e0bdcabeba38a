"""Sections of a report about predictions: numbers, confusion, classes, a decision, subgroups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from sightx.errors import counted
from sightx.evaluation.binary import (
    AUC,
    AVERAGE_PRECISION,
    NET_BENEFIT,
    RATES,
    BinaryDecision,
)
from sightx.evaluation.estimates import Estimate, estimate_metrics
from sightx.evaluation.roc import precision_recall_curve, roc_curve
from sightx.reporting import html
from sightx.reporting.charts import Axes, Series, chart
from sightx.reporting.facts import Facts

_PER_CLASS = ("precision", "recall", "specificity", "f1", "auc")
_MAX_CLASSES = 25  # of a confusion matrix that is shown as a whole
_MAX_CURVES = 6  # ROC curves of single classes
_MAX_VALUES = 20  # of a column whose subgroups are shown
_MIN_GROUPS = 10  # of a subgroup that is judged
_SMALL = 0.005  # share that would be rounded to 0 %


def numbers_section(facts: Facts) -> str:
    """Return all numbers that are not of a single class."""
    binary = facts.recipe.binary.metrics() if facts.recipe.binary else []
    elsewhere = {name for metric in binary for name in metric.values(facts.predictions.classes)}
    rows = [
        _row(html.metric_name(name), estimate)
        for name, estimate in facts.estimates.items()
        if "/" not in name and name not in elsewhere
    ]
    unit = "groups, such as patients, not samples" if facts.has_groups else "samples"
    remark = html.note(
        f"Intervals contain the value of new data in 95 of 100 cases; they count {unit}. "
        "The largest class is that of the train split, with the shares of the classes "
        "as probabilities, which are calibrated and useless: its ECE is small."
    )
    header = ["", "value", "95&nbsp;% interval", "largest class", ""]
    return html.section("numbers", "Numbers", [html.table(header, rows), remark, _views(facts)])


def _views(facts: Facts) -> str:
    """Return the numbers without test-time augmentation; "" if there is none."""
    single = facts.run.result.get("without_tta", {})
    values = {name: single.get(f"{facts.split}/{name}") for name in facts.estimates}
    numbers = [
        f"{html.metric_name(name)} {html.number(value)}"
        for name, value in values.items()
        if value is not None and "/" not in name
    ]
    if not numbers:
        return ""
    return html.note(
        f"Outputs are means over views of each image ({facts.recipe.tta}). Of the images as they "
        f"are: {', '.join(numbers)}."
    )


def _row(name: str, estimate: Estimate) -> list[str]:
    if estimate.reason:
        return [
            name,
            html.UNDEFINED,
            html.text(estimate.reason),
            html.number(estimate.baseline),
            "",
        ]
    arrow = "higher is better" if estimate.direction == "max" else "lower is better"
    mark = '<span class="good">better</span>' if estimate.beats_baseline else ""
    if estimate.is_below_baseline:
        mark = '<span class="gap">worse</span>'
    return [
        f'<span title="{arrow}">{name}</span>',
        f"<b>{html.number(estimate.value)}</b>",
        html.interval(estimate.low, estimate.high),
        html.number(estimate.baseline),
        mark,
    ]


def confusion_section(facts: Facts) -> str:
    """Return the confusion matrix: counts, and the share of each true class.

    Of many classes only the most frequent confusions are shown.
    """
    counts, classes = facts.predictions.confusion(), facts.predictions.classes
    if len(classes) > _MAX_CLASSES:
        return html.section("confusion", "Confusion", [_most_confused(counts, classes)])
    totals = counts.sum(axis=1)
    rows = []
    for true, name in enumerate(classes):
        cells = [html.text(name), f"{totals[true]:,}"]
        for decided in range(len(classes)):
            share = counts[true, decided] / totals[true] if totals[true] else math.nan
            cells.append(_cell(int(counts[true, decided]), share, is_right=true == decided))
        rows.append(cells)
    header = ["true \\ predicted", "samples", *map(html.text, classes)]
    remark = html.note("Counts, and the share of the true class. A right prediction is outlined.")
    grid = f'<div class="confusion">{html.table(header, rows)}</div>'
    return html.section("confusion", "Confusion", [grid, remark])


def _most_confused(counts: np.ndarray, classes: Sequence[str]) -> str:
    """Return the pairs of classes that are confused most often, as a table."""
    totals, wrong = counts.sum(axis=1), counts - np.diag(counts.diagonal())
    places = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_VALUES]
    rows = []
    for true, decided in zip(*np.unravel_index(places, wrong.shape), strict=True):
        if count := int(wrong[true, decided]):
            share = f"{count / totals[true]:.0%}"
            rows.append(
                [html.text(classes[true]), html.text(classes[decided]), f"{count:,}", share]
            )
    header = ["true", "predicted", "samples", "of the true class"]
    return html.table(header, rows, names=2, caption="The most frequent confusions")


def _cell(count: int, share: float, *, is_right: bool) -> str:
    """Return a count with its share of the row, on a colour that grows with it."""
    if math.isnan(share):
        return "-"
    kind = "cell right" if is_right else "cell"
    percent = f"{share:.0%}" if share >= _SMALL else "&lt;1%"
    shown = f"<small>{percent}</small>" if count else ""
    return f'<span class="{kind}" style="--share:{share:.3f}">{count:,}{shown}</span>'


def class_section(facts: Facts) -> str:
    """Return a row per class: samples, groups, and rates with intervals."""
    predictions, estimates = facts.predictions, facts.estimates
    positions, rows, rare = predictions.group_positions, list[list[str]](), list[str]()
    for number, name in enumerate(predictions.classes):
        members = predictions.labels == number
        groups = len(np.unique(positions[members]))
        cells = [html.text(name), f"{int(members.sum()):,}", f"{groups:,}"]
        if 0 < groups < _MIN_GROUPS:
            rare.append(f"{html.text(name)} ({groups})")
        rows.append(cells + [_short(estimates.get(f"{key}/{name}")) for key in _PER_CLASS])
    header = ["class", "samples", "groups", "precision", "recall", "specificity", "F1", "AUC"]
    few = "groups" if facts.has_groups else "samples"
    unit = f"{few}, not samples" if facts.has_groups else few
    remark = html.note(
        "Recall is the sensitivity for a class, and AUC that of a class against all others. The "
        f"intervals count {unit}, and hold for rare classes too."
    )
    warning = (
        f'<p class="warning">Fewer than {_MIN_GROUPS} {few} have {", ".join(rare)}: little is '
        "known of them, and means over classes are as uncertain.</p>"
    )
    parts = [html.table(header, rows), warning if rare else "", remark]
    return html.section("classes", "Classes", parts)


def _short(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if estimate.reason:
        return f'<span class="soft">{html.text(estimate.reason)}</span>'
    return f"{html.number(estimate.value, 2)}<br>{html.interval(estimate.low, estimate.high, 2)}"


def roc_section(facts: Facts) -> str:
    """Return ROC curves of single classes, if no binary decision is declared."""
    if facts.recipe.binary:
        return ""
    predictions, series = facts.predictions, list[Series]()
    for number, name in enumerate(predictions.classes[:_MAX_CURVES]):
        known = predictions.labels >= 0
        is_class = predictions.labels[known] == number
        if is_class.any() and not is_class.all():
            curve = roc_curve(is_class, predictions.probabilities[known, number])
            points = list(zip(*(part.tolist() for part in curve), strict=True))
            series.append(Series(name, points, "step", number))
    if not series:
        return ""
    axes = Axes("1 - specificity", "sensitivity", (0, 1), (0, 1))
    drawn = chart(axes, [*series, _diagonal()], "ROC curve of each class against all others")
    caption = (
        "ROC curves of each class against all others. <code>[evaluation] positive</code> declares "
        "a binary decision, with operating points."
    )
    return html.section("roc", "Ranking", [html.figures([html.figure(drawn, caption)])])


def _diagonal() -> Series:
    return Series("", [(0, 0), (1, 1)], "line", 5, dashed=True)


def decision_section(facts: Facts) -> str:
    """Return a declared binary decision: curves, operating points and net benefit."""
    if (binary := facts.recipe.binary) is None:
        return ""
    known = facts.predictions.take(np.flatnonzero(facts.predictions.labels >= 0))
    is_positive = binary.is_positive(known)
    names = html.text(", ".join(binary.positive))
    share = f"{int(is_positive.sum()):,} of {counted(len(known), 'sample')}"
    lead = f"<p>Positive is <b>{names}</b>: {share}. {_areas(facts)}</p>"
    if is_positive.all() or not is_positive.any():
        return html.section("decision", "Binary decision", [lead])
    scores = binary.scores(known.probabilities, known.classes)
    parts = [
        lead,
        html.figures(_decision_charts(facts, binary, is_positive, scores)),
        _point_table(facts, binary),
        _benefit_table(facts),
    ]
    return html.section("decision", "Binary decision", parts)


def _areas(facts: Facts) -> str:
    parts = []
    for name, title in ((AUC, "AUC"), (AVERAGE_PRECISION, "average precision")):
        one = facts.estimates[name]
        limits = f" ({html.interval(one.low, one.high)})" if not one.reason else ""
        parts.append(f"{title} <b>{html.number(one.value)}</b>{limits}")
    return "; ".join(parts) + "."


def _decision_charts(
    facts: Facts, binary: BinaryDecision, is_positive: np.ndarray, scores: np.ndarray
) -> Iterator[str]:
    roc = list(zip(*(part.tolist() for part in roc_curve(is_positive, scores)), strict=True))
    recall = precision_recall_curve(is_positive, scores)
    curve = list(zip(*(part.tolist() for part in recall), strict=True))
    points = list(_points(facts, binary))
    marks = [Series(name, [(1 - rate[1], rate[0])], "dots", at + 1) for at, (name, rate) in points]
    axes = Axes("1 - specificity", "sensitivity", (0, 1), (0, 1))
    drawn = chart(axes, [Series("", roc, "step"), _diagonal(), *marks], "ROC curve")
    yield html.figure(drawn, "ROC curve with the operating points that validation has chosen.")
    share = float(is_positive.mean())
    chance = Series("", [(0, share), (1, share)], "line", 5, dashed=True)
    marks = [Series(name, [(rate[0], rate[2])], "dots", at + 1) for at, (name, rate) in points
             if not math.isnan(rate[2])]  # fmt: skip
    axes = Axes("recall (sensitivity)", "precision (PPV)", (0, 1), (0, 1))
    drawn = chart(axes, [Series("", curve, "step"), chance, *marks], "precision over recall")
    yield html.figure(drawn, f"Precision over recall; by chance it is {share:.2f}, dashed.")
    if (benefit := binary.curve(facts.predictions)) is None:
        return
    lines = {"model": benefit.model, "all positive": benefit.all_positive,
             "none positive": np.zeros(len(benefit.thresholds))}  # fmt: skip
    top = max(share, float(benefit.model.max()))
    lowest = -0.25 * top  # below it, nobody would follow the strategy
    drawn_lines = [
        Series(name, [(x, y) for x, y in zip(benefit.thresholds.tolist(), values.tolist(),
                                             strict=True) if y >= lowest],
               "line", (0, 1, 5)[at], dashed=at > 0)
        for at, (name, values) in enumerate(lines.items())
    ]  # fmt: skip
    axes = Axes("threshold of the probability", "net benefit", (0, float(benefit.thresholds[-1])),
                (lowest, 1.1 * top))  # fmt: skip
    drawn = chart(axes, drawn_lines, "net benefit over the threshold")
    yield html.figure(drawn, "Decision curve: true positives per sample, less false ones at the "
                      "odds of the threshold (Vickers and Elkin, 2006).")  # fmt: skip


def _points(facts: Facts, binary: BinaryDecision) -> Iterator[tuple[int, tuple[str, list[float]]]]:
    """Yield the rates (sensitivity, specificity, ppv, npv) at each operating point, by its name."""
    for at, point in enumerate(binary.operating_points):
        if point.threshold is not None:
            rates = [facts.estimates[f"{point.name}/{rate}"].value for rate in RATES]
            yield at, (point.name, rates)


def _point_table(facts: Facts, binary: BinaryDecision) -> str:
    rows, remarks = [], []
    for point in binary.operating_points:
        if point.threshold is None:
            remarks.append(html.note(f"{point.name}: no threshold, {html.text(point.reason)}."))
            continue
        estimates = [facts.estimates[f"{point.name}/{rate}"] for rate in RATES]
        rows.append([point.name, f"{point.threshold:.3f}", *map(_short, estimates)])
        aimed = estimates[0 if point.name == "high-sensitivity" else 1]
        rate = "sensitivity" if point.name == "high-sensitivity" else "specificity"
        if aimed.value < point.target:
            missed = f"{point.target - aimed.value:.3f}"
            reason = "within its interval" if aimed.high >= point.target else "outside its interval"
            remarks.append(
                html.note(
                    f"{point.name}: the target {rate} of {point.target:g}, which was reached on "
                    f"validation, is missed by {missed}, {reason}."
                )
            )
    header = ["operating point", "threshold", "sensitivity", "specificity", "PPV", "NPV"]
    return "".join([html.table(header, rows) if rows else "", *remarks])


def _benefit_table(facts: Facts) -> str:
    """Return the net benefit at some thresholds, with its interval."""
    rows = [
        [name.partition("/")[2], html.number(one.value), html.interval(one.low, one.high),
         html.number(one.baseline)]
        for name, one in facts.estimates.items()
        if name.startswith(f"{NET_BENEFIT}/")
    ]  # fmt: skip
    header = ["threshold", "net benefit", "95&nbsp;% interval", "largest class"]
    return html.table(header, rows)


def subgroup_section(facts: Facts) -> str:
    """Return the primary number for each value of each extra column of the dataset."""
    parts = []
    for column, values in facts.predictions.columns.items():
        names = sorted(set(values.tolist()))
        if len(names) > _MAX_VALUES:
            count = f"{html.text(column)} has {len(names):,} values, and is not shown."
            parts.append(html.note(count))
            continue
        rows = [_subgroup(facts, name, values == name) for name in names]
        header = [
            html.text(column),
            "samples",
            "groups",
            html.metric_name(facts.primary),
            "95&nbsp;% interval",
        ]
        parts.append(html.table(header, rows))
    if parts:
        parts.append(
            html.note(
                f"A subgroup of fewer than {_MIN_GROUPS} groups is only counted. A difference "
                "between subgroups is a reason to look, not a proof."
            )
        )
    return html.section("subgroups", "Subgroups", parts)


def _subgroup(facts: Facts, name: str, is_member: np.ndarray) -> list[str]:
    part = facts.predictions.take(np.flatnonzero(is_member))
    groups = int(part.group_positions.max(initial=-1)) + 1
    cells = [html.text(name) or "-", f"{len(part):,}", f"{groups:,}"]
    if groups < _MIN_GROUPS:
        return [*cells, "", ""]
    metric = facts.metric_of(facts.primary)
    one = estimate_metrics(part, [metric], facts.train_counts)[facts.primary]
    limits = html.text(one.reason) if one.reason else html.interval(one.low, one.high)
    return [*cells, html.number(one.value), limits]
