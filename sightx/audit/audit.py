"""Audit the data of an experiment: the table, the files, and the pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sightx.audit import copy_findings, image_findings, table_findings
from sightx.audit.copies import Copies, find_copies
from sightx.audit.findings import SEVERITIES, AuditFinding, AuditReport
from sightx.audit.image_properties import ImageProperties, read_properties, read_thumbnails
from sightx.audit.label_doubts import doubt_findings
from sightx.audit.shortcuts import shortcut_findings
from sightx.data.cache.file_hashes import FileStates, stat_files
from sightx.data.checks import excluded_rows
from sightx.data.dataset import CacheConfig, load_table
from sightx.data.preprocess import ProgressCallback
from sightx.errors import DataError, SpecError, counted
from sightx.io import atomic
from sightx.io.csv_cells import csv_bytes
from sightx.records.faults import IncompleteTableError
from sightx.records.predictions import Predictions
from sightx.records.table import ImageTable, count_leaking_groups
from sightx.registry import data_results
from sightx.runner.resume import stored_experiment
from sightx.runs.directory import Run
from sightx.spec import check_runner
from sightx.spec.experiment import Experiment

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Audit:
    """A report, and the table that it is about; None if the table cannot be read."""

    experiment: Experiment
    report: AuditReport
    table: ImageTable | None = None

    def write_exclusions(self, file: Path) -> Path:
        """Write what `dataset.exclude` takes, to a new file, and return its path.

        It lists the suggestions, and what the experiment excludes already.
        """
        rows = [(path, reason) for path, reason, _ in excluded_rows(self.experiment.dataset)]
        rows += self.report.suggestions.items()
        content = csv_bytes(pd.DataFrame(rows, columns=["path", "reason"]))
        with atomic.disk_errors(file.parent):
            return atomic.write_new(file, content)


def audit(
    experiment: Experiment,
    progress: ProgressCallback | None = None,
    predictions: Sequence[Predictions] = (),
) -> Audit:
    """Look at the data of an experiment. Raises ResourceError, PluginError.

    What makes the data unusable is a finding, not an error. With `predictions` of samples that
    were not trained on, the labels that they contradict are listed.
    """
    table, wrong = _load(experiment)
    if table is None:
        statement = "The table of samples cannot be read: nothing else was looked at."
        report = AuditReport(experiment.name, findings=tuple(wrong), statements=(statement,))
        return Audit(experiment, report)
    table, findings = _split(experiment, table)
    findings += wrong + audit_table(experiment, table)
    files, config = stat_files(table), CacheConfig.of(experiment)
    images = read_properties(table, files, config, progress)
    copies = find_copies(images, _used_rows(table), _thumbnail_reader(table, files, config))
    findings += table_findings.bad_image_findings(table, experiment.dataset, images.bad)
    findings += _image_findings(experiment, table, images, copies)
    findings += doubt_findings(table, predictions)
    statements = (
        *_wrong_rows_statement(table, sum(finding.count for finding in wrong)),
        _group_statement(table),
        _copy_statement(table, images, copies),
    )
    report = _report(experiment, table, images, copies, findings, statements)
    return Audit(experiment, report, table)


def audit_run(
    run: Run, changes: Sequence[str] = (), progress: ProgressCallback | None = None
) -> Audit:
    """Look at the data of a run, and at the labels that its predictions contradict.

    `changes` are overrides, such as of where the data are. Raises RunError, SpecError.
    """
    scored = [run.predictions_of(split) for split in ("validation", "test")]
    experiment = stored_experiment(run, changes)
    return audit(experiment, progress, [part for part in scored if part is not None])


def _load(experiment: Experiment) -> tuple[ImageTable | None, list[AuditFinding]]:
    """Return the rows of the table that are right, None if there are none; and what is wrong."""
    try:
        return load_table(experiment.dataset), []
    except IncompleteTableError as error:
        return error.table, table_findings.problem_findings(error.problems, error.rows)
    except (DataError, SpecError) as error:
        return None, table_findings.problem_findings(error.problems)


def _split(experiment: Experiment, table: ImageTable) -> tuple[ImageTable, list[AuditFinding]]:
    """Return the table with its splits, or without them and the reason."""
    try:
        splits = data_results.assigned_splits(experiment.split, table)
    except (DataError, SpecError) as error:
        bare = table.with_frame(table.frame.drop(columns="split", errors="ignore"))
        return bare, table_findings.problem_findings(error.problems)
    return table.with_frame(table.frame.assign(split=splits)), []


def audit_table(experiment: Experiment, table: ImageTable) -> list[AuditFinding]:
    """Return what the table tells; no image is opened."""
    classes = table_findings.class_rows(table)
    has_split = "split" in table.frame
    return [
        *(table_findings.check_findings(experiment, table) if has_split else []),
        *table_findings.class_findings(table, classes),
        *table_findings.drift_findings(table),
        *table_findings.survey_findings(table),
    ]


def _image_findings(
    experiment: Experiment, table: ImageTable, images: ImageProperties, copies: Copies
) -> list[AuditFinding]:
    """Return what the images tell, also to the checks of plugins."""
    found = check_runner.check_results(
        experiment, experiment.context, "audit", table=table, images=images.frame
    )
    return [
        *copy_findings.copy_findings(table, copies, experiment.allow),
        *shortcut_findings(table, images),
        *image_findings.file_findings(images),
        *image_findings.quality_findings(images),
        *(table_findings.finding_of(result) for result in found),
    ]


def _used_rows(table: ImageTable) -> Array:
    """Return the rows in a split; all of them if there are no splits."""
    is_used = table.frame["split"].to_numpy() != "" if "split" in table.frame else [True]
    return np.flatnonzero(np.broadcast_to(is_used, len(table)))


def _thumbnail_reader(table: ImageTable, files: FileStates, config: CacheConfig) -> Any:
    """Return a function that reads the thumbnails of rows."""

    def read(rows: Array) -> Array:
        states = files.states[rows] if len(files.states) else files.states
        return read_thumbnails(table.take(rows), FileStates(states, {}, files.seen), config)

    return read


def _report(
    experiment: Experiment,
    table: ImageTable,
    images: ImageProperties,
    copies: Copies,
    findings: list[AuditFinding],
    statements: tuple[str, ...],
) -> AuditReport:
    paths = table.frame["path"].to_numpy(object)
    names: list[str] = paths.tolist()
    ordered = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    bad = {str(paths[row]): reason for row, reason in sorted(images.bad.items())}
    suggestions: Mapping[str, str] = bad | copy_findings.suggested_exclusions(table, copies)
    return AuditReport(
        experiment.name,
        len(table),
        statements,
        tuple(finding.with_paths(names) for finding in ordered),
        tuple(table_findings.class_rows(table)),
        table_findings.majority_baselines(experiment, table),
        image_findings.quality_by_class(table, images),
        suggestions,
    )


def _wrong_rows_statement(table: ImageTable, count: int) -> Iterator[str]:
    """Yield which rows the other statements are about, if some rows are wrong."""
    if count:
        rows = counted(count, "row")
        yield f"{rows} cannot be used; all numbers are of the other {len(table):,} samples."


def _group_statement(table: ImageTable) -> str:
    groups = table.frame["group"].to_numpy(object)
    names = set(groups[groups != ""])
    if not names:
        return "No groups are declared: images of one patient may be in two splits."
    if "split" not in table.frame:
        return f"The samples are of {len(names):,} groups, and are not divided into splits."
    leaking, known = count_leaking_groups(table.frame)
    alone = int((groups == "").sum())
    rest = f" {alone:,} samples have no group." if alone else ""
    if leaking:
        return f"{leaking:,} of {known:,} groups are in two splits or more.{rest}"
    return f"No group, such as a patient, is in two splits ({known:,} groups).{rest}"


def _copy_statement(table: ImageTable, images: ImageProperties, copies: Copies) -> str:
    is_across = np.ones(len(copies), bool)
    where = "among all images"
    if "split" in table.frame:
        is_across, where = copies.differ(table.frame["split"].to_numpy()), "across splits"
    kinds = copies.kind[is_across].tolist()
    counts = {kind: kinds.count(kind) for kind in ("exact", "certain", "likely")}
    read = int(images.is_known.sum())
    return (
        f"{counts['exact']:,} exact, {counts['certain']:,} certain and {counts['likely']:,} likely "
        f"near copies {where} ({read:,} of {len(table):,} images were compared, each in eight "
        "orientations). Copies that are cropped by more than about 1 % are not recognised."
    )
