"""What an audit finds, as records that the terminal, JSON and HTML show alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from sightx.runs.directory import finite_or_null

Severity = Literal["refuse", "warn", "note"]
SEVERITIES: tuple[Severity, ...] = ("refuse", "warn", "note")
MAX_EXAMPLES = 20


@dataclass(frozen=True)
class Example:
    """Samples that show a finding: one, or copies of one another.

    `rows` are their positions in the table, `note` is what is remarkable about them.
    """

    rows: tuple[int, ...]
    note: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditFinding:
    """One thing that a reader should know before training.

    Attributes:
        code: Stable name of the kind of finding.
        severity: "refuse" if a run would be wrong, "warn" if results may mislead, else "note".
        message: A sentence.
        path: The key of the spec, or the column, that it is about.
        number: What was measured; None if nothing was.
        threshold: The limit for the number, with its reason; "" for none.
        hint: What to do; "" for nothing.
        count: The number of samples, pairs or groups that are concerned.
        examples: Up to 20 of them, the most remarkable first.
    """

    code: str
    severity: Severity
    message: str
    path: str = "dataset"
    number: float | None = None
    threshold: str = ""
    hint: str = ""
    count: int = 0
    examples: tuple[Example, ...] = ()

    def with_paths(self, paths: Sequence[str]) -> AuditFinding:
        """Return the finding with the paths of its examples, of which it keeps 20."""
        examples = tuple(
            replace(example, paths=tuple(str(paths[row]) for row in example.rows))
            for example in self.examples[:MAX_EXAMPLES]
        )
        return replace(self, examples=examples)


@dataclass(frozen=True)
class ClassRow:
    """One class of a split.

    `half_width` is about that of the 95 % interval of its recall: None without samples, and in the
    train split, where it is not measured.
    """

    split: str
    name: str
    samples: int
    groups: int
    half_width: float | None


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Attributes:
        name: The name of the experiment.
        samples: The number of samples; 0 if the table cannot be read.
        statements: What was checked and holds, in sentences.
        findings: All findings, the severest first.
        classes: The samples of each class of each split.
        baselines: The metrics of always predicting the most frequent class, by split.
        quality: Median, lower and upper quartile of each measure of quality, by class.
        suggestions: Rows that should be left out, by path, with the reason.
    """

    name: str
    samples: int = 0
    statements: tuple[str, ...] = ()
    findings: tuple[AuditFinding, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    quality: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    suggestions: Mapping[str, str] = field(default_factory=dict)

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; undefined numbers are None."""
        plain: dict[str, Any] = finite_or_null(asdict(self))
        return {"schema_version": 1, **plain}


def share(count: int, total: int) -> str:
    """Return "12 of 1,000 (1.2 %)"."""
    return f"{count:,} of {total:,} ({100 * count / max(total, 1):.2g} %)"
