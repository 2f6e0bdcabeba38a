"""The section of a report about probabilities: reliability, and errors before and after fitting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sightx.evaluation.calibration import CalibrationError, reliability
from sightx.records.predictions import Predictions
from sightx.reporting import html
from sightx.reporting.charts import Axes, Series, chart
from sightx.reporting.facts import Facts
from sightx.runner.scores import calibration


def calibration_section(facts: Facts) -> str:
    """Return the reliability diagram, and the calibration error next to its value by chance."""
    errors = calibration(facts.predictions, facts.recipe)
    if errors is None:
        return ""
    before, after = errors
    rows = [_row("after postprocessing" if before else "as predicted", after)]
    if before:
        rows.insert(0, _row("as the network gives them", before))
    header = ["probabilities", "ECE", "of a calibrated model", "95&nbsp;% of them below", ""]
    remark = html.note(
        "The expected calibration error of 15 bins of equal width (Guo et al., 2017) is above 0 "
        "for calibrated probabilities too; the columns next to it say by how much."
    )
    parts = [html.figures(_charts(facts)), html.table(header, rows), remark]
    return html.section("calibration", "Calibration", parts)


def _row(name: str, error: CalibrationError) -> list[str]:
    numbers = [f"{number:.3f}" for number in error]
    return [name, f"<b>{numbers[0]}</b>", numbers[1], numbers[2], error.verdict]


def _charts(facts: Facts) -> Iterator[str]:
    """Yield the reliability of the most probable class, and of a binary decision."""
    known = facts.predictions.take(np.flatnonzero(facts.predictions.labels >= 0))
    confidence = known.probabilities.max(axis=1).astype(float)
    is_right = known.probabilities.argmax(axis=1) == known.labels
    yield _diagram(
        known, confidence, is_right, "probability of the most probable class", "share right"
    )
    if binary := facts.recipe.binary:
        scores, is_positive = binary.scores(known.probabilities, known.classes), None
        is_positive = binary.is_positive(known)
        yield _diagram(known, scores, is_positive, "probability of positive", "share positive")


def _diagram(
    known: Predictions, probabilities: np.ndarray, is_true: np.ndarray, x: str, y: str
) -> str:
    bins = reliability(probabilities, is_true, known.group_positions)
    series = Series(
        "", [(one.probability, one.rate) for one in bins], "bars", 0,
        lows=[one.low for one in bins], highs=[one.high for one in bins],
    )  # fmt: skip
    ideal = Series("", [(0, 0), (1, 1)], "line", 5, dashed=True)
    drawn = chart(Axes(x, y, (0, 1), (0, 1)), [ideal, series], f"{y} over {x}")
    caption = (
        f"Reliability in {len(bins)} bins of about equally many samples, with 95&nbsp;% intervals."
    )
    return html.figure(drawn, caption)
