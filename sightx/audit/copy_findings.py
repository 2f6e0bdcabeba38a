"""What copies of images mean: leakage, contradictions, and wrong groups."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from sightx.audit.copies import (
    CERTAIN_BITS,
    CERTAIN_CORRELATION,
    LIKELY_BITS,
    LIKELY_CORRELATION,
    Copies,
)
from sightx.audit.findings import MAX_EXAMPLES, AuditFinding, Example, Severity, share
from sightx.data.checks import CONFLICT_SHARE, copies_to_exclude
from sightx.records.table import ImageTable

Array = np.ndarray[Any, Any]

_MIN_GROUP_PAIRS = 5
_CERTAIN = ("exact", "certain")
_LIMITS = (
    f"certain up to {CERTAIN_BITS} of 256 bits and from correlation {CERTAIN_CORRELATION:g}, "
    f"likely up to {LIKELY_BITS} and from {LIKELY_CORRELATION:g}: unrelated photographs of the "
    "retina differ in 29 bits or more"
)


def copy_findings(
    table: ImageTable, copies: Copies, allow: Collection[str] = ()
) -> list[AuditFinding]:
    """Return what the copies mean, the worst first; codes in `allow` are warnings at most."""
    split = table.frame["split"].to_numpy() if "split" in table.frame else None
    across = np.zeros(len(copies), bool)
    if split is not None:
        in_splits = (split[copies.pairs] != "").all(axis=1)
        across = copies.differ(split) & in_splits
    certain = np.isin(copies.kind, _CERTAIN)
    leak: Severity = "warn" if "copies-across-splits" in allow else "refuse"
    sorts = [
        _leaks(table, copies.where(across & certain), "copies-across-splits", leak),
        _leaks(table, copies.where(across & ~certain), "likely-copies-across-splits", "warn"),
        _conflicts(table, copies.where(copies.differ(table.labels) & certain), allow),
        _wrong_groups(table, copies),
        _within(table, copies.where(~across)),
    ]
    return [finding for finding in sorts if finding]


def _examples(copies: Copies, values: Array | None = None) -> tuple[Example, ...]:
    """Return pairs as examples, with a value of each of the two."""
    pairs = copies.pairs[:MAX_EXAMPLES].tolist()
    if values is None:
        notes = list(copies.notes)
    else:
        notes = [
            f"{note}; {values[first]} and {values[second]}"
            for (first, second), note in zip(pairs, copies.notes, strict=False)
        ]
    return tuple(Example(tuple(pair), note) for pair, note in zip(pairs, notes, strict=False))


def _leaks(table: ImageTable, copies: Copies, code: str, severity: Severity) -> AuditFinding | None:
    if not len(copies):
        return None
    likely = "likely " if code.startswith("likely") else ""
    noun = "copy is" if len(copies) == 1 else "copies are"
    values = table.frame["split"].to_numpy()
    return AuditFinding(
        code, severity,
        f"{len(copies)} {likely}{noun} in another split than the original: results on images that "
        "were trained on are too good",
        path="split", number=len(copies), count=len(copies), threshold=f"any; {_LIMITS}",
        hint="look at them, and list the copies in dataset.exclude"
        if likely
        else "keep one of each: sightx audit SPEC --exclude FILE lists the others",
        examples=_examples(copies, values),
    )  # fmt: skip


def _conflicts(table: ImageTable, copies: Copies, allow: Collection[str]) -> AuditFinding | None:
    if not len(copies):
        return None
    number = len(np.unique(copies.pairs)) / len(table)
    is_refused = number > CONFLICT_SHARE and "conflicting-copies" not in allow
    names = np.array(table.classes, dtype=object)[table.labels]
    noun = "copy has" if len(copies) == 1 else "copies have"
    return AuditFinding(
        "conflicting-copies", "refuse" if is_refused else "warn",
        f"{len(copies)} {noun} another label than the original: one of the two labels is wrong",
        path="dataset", number=round(number, 5), count=len(copies),
        threshold=f"any; refused above {CONFLICT_SHARE:g} of the rows",
        hint="correct the labels, or leave both out: sightx audit SPEC --exclude FILE lists them",
        examples=_examples(copies, names),
    )  # fmt: skip


def _wrong_groups(table: ImageTable, copies: Copies) -> AuditFinding | None:
    """Return copies whose images are said to be of different groups."""
    group = table.frame["group"].to_numpy(object)
    is_declared = (group[copies.pairs] != "").all(axis=1)
    chosen = copies.where(copies.differ(group) & is_declared)
    if not len(chosen):
        return None
    is_common = len(chosen) >= min(_MIN_GROUP_PAIRS, max(len(table) / 100, 1))
    noun = "copy has" if len(chosen) == 1 else "copies have"
    return AuditFinding(
        "copies-across-groups", "warn" if is_common else "note",
        f"{len(chosen)} {noun} another group than the original: one patient may have two names",
        path="dataset.group", number=len(chosen), count=len(chosen),
        threshold=f"{_MIN_GROUP_PAIRS} pairs or 1 % of the rows to warn",
        hint="a split by group cannot separate them: correct the groups, or leave out the copies",
        examples=_examples(chosen, group),
    )  # fmt: skip


def _within(table: ImageTable, copies: Copies) -> AuditFinding | None:
    if not len(copies):
        return None
    exact = int((copies.kind == "exact").sum())
    rows = len(np.unique(copies.pairs[:, 1]))
    return AuditFinding(
        "copies", "note",
        f"{share(rows, len(table))} images are copies within their split: {exact} exact, "
        f"{int((copies.kind == 'certain').sum())} certain and "
        f"{int((copies.kind == 'likely').sum())} likely near copies",
        path="dataset", number=len(copies), count=len(copies), threshold=_LIMITS,
        hint="a copy counts twice in training and in every metric",
        examples=_examples(copies),
    )  # fmt: skip


def suggested_exclusions(table: ImageTable, copies: Copies) -> dict[str, str]:
    """Return the copies that should be left out, by path, with the reason.

    Likely copies, which a person should look at, are not among them.
    """
    paths = table.frame["path"].to_numpy(object)
    split = table.frame["split"].to_numpy() if "split" in table.frame else np.full(len(table), "")
    certain = clusters(copies.where(np.isin(copies.kind, _CERTAIN)))
    left_out = copies_to_exclude(table, split, certain)
    return {str(paths[row]): reason for row, reason in left_out.items()}


def clusters(copies: Copies) -> list[list[int]]:
    """Return the rows that are connected by copies, each cluster sorted."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while (above := parent.setdefault(row, row)) != row:
            parent[row] = parent[above]
            row = above
        return row

    for first, second in copies.pairs.tolist():
        parent[root(second)] = root(first)
    members: dict[int, list[int]] = {}
    for row in sorted(parent):
        members.setdefault(root(row), []).append(row)
    return list(members.values())
