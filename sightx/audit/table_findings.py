"""What the table of samples tells before an image is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from sightx.audit.findings import AuditFinding, ClassRow, Example, Severity, share
from sightx.audit.statistics import chi_square_p, expected_half_width, total_variation
from sightx.data.checks import check_bad_images
from sightx.errors import DataError, Problem, counted
from sightx.evaluation.metrics import compute_metrics
from sightx.records import SPLITS
from sightx.records.predictions import Predictions
from sightx.records.table import ImageTable
from sightx.registry.kinds import Dataset
from sightx.spec import check_runner
from sightx.spec.check_runner import CheckResult
from sightx.spec.experiment import Experiment

Array = np.ndarray[Any, Any]

_MIN_GROUPS = 10  # of a class in a split that measures it: the interval is then about +- 0.26
_DRIFT, _DRIFT_P = 0.05, 0.001
_SEVERITIES: Mapping[str, Severity] = {"error": "refuse", "warning": "warn"}


def check_findings(experiment: Experiment, table: ImageTable) -> list[AuditFinding]:
    """Return what the checks of the stage data find: the same that a run and validate report."""
    results = check_runner.check_results(experiment, experiment.context, "data", table=table)
    return [finding_of(result) for result in results]


def finding_of(result: CheckResult) -> AuditFinding:
    """Return the result of a check, or of reading the table, as a finding."""
    problem = result.problem
    place = f"{problem.place}: " if problem.line and not problem.path else ""
    return AuditFinding(
        problem.code,
        _SEVERITIES[problem.severity],
        f"{place}{problem.message}",
        path=problem.path or "dataset",
        hint=problem.hint,
        count=len(result.rows),
        examples=tuple(Example((int(row),)) for row in result.rows),
    )


def problem_findings(problems: Sequence[Problem], rows: Sequence[int] = ()) -> list[AuditFinding]:
    """Return problems as findings, such as those of rows that cannot be read.

    `rows` are the numbers of rows that the problems are about, if they are known.
    """
    counts = rows or (0,) * len(problems)
    findings = [finding_of(CheckResult(problem)) for problem in problems]
    return [replace(item, count=n) for item, n in zip(findings, counts, strict=True)]


def bad_image_findings(
    table: ImageTable, dataset: Dataset, bad: Mapping[int, str]
) -> list[AuditFinding]:
    """Return the images that are missing or cannot be read, by the rules of a run."""
    if not bad:
        return []
    examples = tuple(Example((row,), reason) for row, reason in sorted(bad.items()))
    count, number = len(bad), len(bad) / len(table)
    try:
        check_bad_images(table, bad, dataset, None)
    except DataError as error:
        message, hint = error.problems[0].message, error.problems[0].hint
        severity: Severity = "refuse"
    else:
        message = f"{share(count, len(table))} images cannot be read, and are skipped"
        severity, hint = "warn", ""
    limit = f"{dataset.bad_images_at_most:g}" if dataset.on_bad_image == "skip" else "0"
    return [
        AuditFinding(
            "bad-images", severity, message, number=number, hint=hint, count=count,
            threshold=f"share {limit}: dataset.on_bad_image is {dataset.on_bad_image!r}",
            examples=examples,
        )
    ]  # fmt: skip


def survey_findings(table: ImageTable) -> list[AuditFinding]:
    """Return what the dataset did not use, such as images that no row names."""
    return [
        AuditFinding("unused-data", "note", str(note), count=note.count)
        for note in table.survey.notes
    ]


def split_rows(table: ImageTable) -> dict[str, Array]:
    """Return the positions of each split that has samples; all as train without a split."""
    if "split" not in table.frame:
        return {"train": np.arange(len(table))}
    names = table.frame["split"].to_numpy()
    rows = {split: np.flatnonzero(names == split) for split in SPLITS}
    return {split: positions for split, positions in rows.items() if len(positions)}


def class_rows(table: ImageTable) -> list[ClassRow]:
    """Return the samples and groups of each class of each split."""
    groups, rows = table.groups, []
    for split, positions in split_rows(table).items():
        labels = table.labels[positions]
        for label, name in enumerate(table.classes):
            of_class = positions[labels == label]
            count = len(set(groups[of_class]))
            is_measured = count and split != "train"
            width = round(expected_half_width(count), 3) if is_measured else None
            rows.append(ClassRow(split, name, len(of_class), count, width))
    return rows


def class_findings(table: ImageTable, rows: Sequence[ClassRow]) -> list[AuditFinding]:
    """Return classes that too few groups have to measure their recall."""
    is_grouped = bool((table.frame["group"] != "").any())
    findings = []
    for split in ("validation", "test"):
        rare = [row for row in rows if row.split == split and 0 < row.groups < _MIN_GROUPS]
        if not rare:
            continue
        noun = "group" if is_grouped else "sample"
        listed = ", ".join(
            f"{row.name} ({counted(row.groups, noun)}: about +-{row.half_width:.2f})"
            for row in rare
        )
        findings.append(
            AuditFinding(
                "uncertain-recall", "warn",
                f"the {split} split has too few {noun}s to measure the recall of {listed}",
                path="split",
                number=min(row.groups for row in rare), count=len(rare),
                threshold=f"{_MIN_GROUPS} {noun}s: a recall of 0.5 then has a 95 % interval of "
                "about +-0.26",
                hint="collect more, merge classes, or judge the class over several splits",
            )
        )  # fmt: skip
    return findings


def drift_findings(table: ImageTable) -> list[AuditFinding]:
    """Return pairs of splits whose classes are distributed differently."""
    rows, findings = split_rows(table), []
    groups = table.groups
    counts = {
        split: _effective_counts(table.labels[positions], groups[positions], len(table.classes))
        for split, positions in rows.items()
    }
    for one, other in combinations(counts, 2):
        distance = total_variation(counts[one], counts[other])
        p = chi_square_p(np.stack([counts[one], counts[other]]))
        if distance > _DRIFT and p < _DRIFT_P:
            findings.append(
                AuditFinding(
                    "class-drift", "warn",
                    f"the classes of {one} and {other} are distributed differently: "
                    f"{100 * distance:.0f} % of the samples would need another class",
                    path="split", number=round(distance, 4),
                    threshold=f"total variation {_DRIFT:g} with p < {_DRIFT_P:g}, over groups: a "
                    "test of many samples alone finds differences that do not matter",
                    hint='divide the classes alike: split.use = "stratified" or "grouped"',
                )
            )  # fmt: skip
    return findings


def _effective_counts(labels: Array, groups: Array, classes: int) -> Array:
    """Return the samples per class, scaled to the number of groups.

    Samples of one group are not independent (J. N. K. Rao and A. J. Scott, 1981).
    """
    counts = np.bincount(labels, minlength=classes).astype(float)
    return counts * len(set(groups)) / len(labels)


def majority_baselines(experiment: Experiment, table: ImageTable) -> dict[str, dict[str, float]]:
    """Return all metrics of always predicting the class that is the most frequent in training."""
    rows = split_rows(table)
    train = rows.get("train", np.arange(len(table)))
    prior = np.bincount(table.labels[train], minlength=len(table.classes)) / len(train)
    baselines: dict[str, dict[str, float]] = {}
    for split in ("validation", "test"):
        if split in rows:
            predictions = _constant_predictions(table, rows[split], prior)
            values = compute_metrics(predictions, experiment.metric, split)
            shown = {name: value for name, value in values.items() if name.count("/") == 1}
            baselines[split] = {name.partition("/")[2]: v for name, v in shown.items()}
    return baselines


def _constant_predictions(table: ImageTable, rows: Array, prior: Array) -> Predictions:
    """Return predictions of the shares of classes for every sample."""
    probabilities = np.tile(prior, (len(rows), 1)).astype(np.float32)
    return Predictions(
        keys=tuple(table.frame["path"].to_numpy(object)[rows]),
        groups=tuple(table.frame["group"].to_numpy(object)[rows]),
        labels=table.labels[rows],
        outputs=np.log(np.maximum(probabilities, 1e-12)),
        probabilities=probabilities,
        decisions=np.full(len(rows), int(prior.argmax())),
        classes=table.classes,
        ordered=table.ordered,
    )
