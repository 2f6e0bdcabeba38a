"""The first sections of a report: the verdict, the data, and the curves of training."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sightx.errors import counted
from sightx.evaluation.binary import AUC
from sightx.evaluation.intervals import Interval
from sightx.records import SPLITS
from sightx.records.table import count_leaking_groups
from sightx.reporting import html
from sightx.reporting.charts import Axes, Series, chart
from sightx.reporting.facts import Facts

_TILES = ("qwk", "balanced-accuracy", "accuracy", AUC, "auc", "ece")
_MAX_TILES = 4


def verdict(facts: Facts) -> str:
    """Return in a sentence whether the run beats the largest class, and other runs."""
    metric = html.metric_name(facts.primary)
    sentence = f"{_against(facts, facts.advantage, 'always predicting the largest class')}"
    where = f"on {counted(len(facts.predictions), f'{facts.split} sample')}"
    if facts.has_groups:
        where += f" of {counted(facts.groups, 'group')}"
    rivals = "".join(
        f"; {_against(facts, one, f'run {html.text(name)}', start=False)}"
        for name, one in facts.rivals.items()
    )
    value = facts.estimates[facts.primary]
    return f"{sentence}, {html.text(where)}{rivals}. {metric} is {html.number(value.value)}."


def _against(facts: Facts, one: Interval, other: str, *, start: bool = True) -> str:
    """Return how the primary number differs from that of another, with its interval."""
    metric = html.metric_name(facts.primary)
    if math.isnan(one.value):
        reason = html.text(facts.estimates[facts.primary].reason) or "it is undefined"
        words = f"no difference of {metric} from {other} can be computed ({reason})"
        return words[0].upper() + words[1:] if start else words
    is_up = facts.estimates[facts.primary].direction == "max"
    is_different = one.low > 0 or one.high < 0
    if one.reason:
        is_different = not math.isclose(one.value, 0, abs_tol=1e-9)
        split = html.text(facts.split)
        limits = f"the {split} split is too easy or too small for an interval of the difference"
    elif is_different:
        low, high = sorted((abs(one.low), abs(one.high)))
        limits = f"{low:.2f} to {high:.2f}"
    else:
        limits = f"{one.low:+.2f} to {one.high:+.2f}"
    words = f"no detectable difference of {metric} from {other} ({limits})"
    if is_different:
        verb = "beats" if (one.value > 0) == is_up else "is worse than"
        words = f"{verb} {other} by {abs(one.value):.2f} {metric} ({limits})"
    return words[0].upper() + words[1:] if start else words


def is_better(facts: Facts) -> bool:
    """Return whether the run is detectably better than the largest class."""
    one, direction = facts.advantage, facts.estimates[facts.primary].direction
    return one.low > 0 if direction == "max" else one.high < 0


def tiles(facts: Facts) -> str:
    """Return the most telling numbers, large."""
    names = [name for name in dict.fromkeys([facts.primary, *_TILES]) if name in facts.estimates]
    if AUC in names and "auc" in names:
        names.remove("auc")
    parts = []
    for name in names[:_MAX_TILES]:
        one = facts.estimates[name]
        below = html.text(one.reason) or html.interval(one.low, one.high)
        parts.append(
            f'<div class="tile"><div class="soft">{html.metric_name(name)}</div>'
            f'<div class="number">{html.number(one.value)}</div><div>{below}</div>'
            f'<div class="soft">largest class {html.number(one.baseline)}</div></div>'
        )
    return f'<div class="tiles">{"".join(parts)}</div>'


def data_section(facts: Facts) -> str:
    """Return the samples of each class and split, and what is known of their groups."""
    data = facts.run.data
    counts, classes = data["counts"], data["classes"]
    shown = [split for split in SPLITS if sum(counts[split])]
    rows = [
        [html.text(name), *(_share(counts[split], number) for split in shown)]
        for number, name in enumerate(classes)
    ]
    rows.append(["all", *(f"<b>{sum(counts[split]):,}</b>" for split in shown)])
    parts = [html.table(["class", *shown], rows), *_group_statement(facts)]
    if facts.is_other_data:
        parts.insert(0, html.note("These are the data of the run, not those judged here."))
    if skipped := data.get("skipped"):
        first, reason = next(iter(skipped.items()))
        left_out = f"{counted(len(skipped), 'image')} left out, first {first} ({reason})"
        parts.append(f"<p>{html.text(left_out)}; data.json has all reasons.</p>")
    for warning in facts.run.result.get("warnings", ()):
        parts.append(f'<p class="warning">{html.text(warning)}</p>')
    parts += [html.note(html.text(line)) for line in data.get("unused", ())]
    return html.section("data", "Data and split", parts)


def _share(counts: list[int], number: int) -> str:
    return f'{counts[number]:,} <span class="soft">{counts[number] / sum(counts):.1%}</span>'


def _group_statement(facts: Facts) -> Iterator[str]:
    """Yield whether a group is in two splits, as split.csv says."""
    samples = facts.run.samples
    if samples is None or "group" not in samples:
        return
    leaking, count = count_leaking_groups(samples)
    if not count:
        yield "<p>No groups are declared: images of one patient may be in two splits.</p>"
        return
    if leaking:
        yield (
            f'<p class="warning">{leaking:,} of {counted(count, "group")} are in two splits '
            "or more: the numbers below are too good.</p>"
        )
    else:
        known = counted(count, "group")
        yield f"<p>No group, such as a patient, is in two splits ({known}).</p>"


def training_section(facts: Facts) -> str:
    """Return the curves over the epochs."""
    epochs = facts.run.metrics
    if "epoch" not in epochs or not len(epochs):
        return ""
    monitor, best = facts.experiment.training.monitor, facts.run.result.get("epoch")
    columns = [[("train/loss", 0), ("validation/loss", 1)], [("train/accuracy", 0)]]
    columns[1] += [("validation/accuracy", 1)]
    if monitor not in ("train/loss", "validation/loss", "train/accuracy", "validation/accuracy"):
        columns[1].append((monitor, 2))
    charts = []
    for names, title in zip(columns, ("loss", "metric"), strict=True):
        lines = []
        for name, colour in names:
            if name in epochs:
                values = epochs[name].astype(float).to_numpy()
                pairs = zip(epochs["epoch"].tolist(), values.tolist(), strict=True)
                points = [(x, y) for x, y in pairs if math.isfinite(y)]
                lines.append(Series(name, points, "line", colour, dashed=colour == 0))
                chosen = [(x, y) for x, y in points if x == best]
                lines.append(Series("", chosen, "dots", colour))
        drawn = chart(Axes("epoch", title, whole=True), lines, f"{title} over the epochs")
        if drawn:
            charts.append(html.figure(drawn, _epoch_caption(facts, best)))
    return html.section("training", "Training", [html.figures(charts)])


def _epoch_caption(facts: Facts, best: object) -> str:
    if best is None:
        return ""
    name = html.text(facts.run.result.get("checkpoint", ""))
    return f"Dots: the checkpoint {name}, after epoch {best}."


def seconds_text(seconds: float) -> str:
    """Return a duration as a person would say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{np.round(seconds, 1):g} s"
