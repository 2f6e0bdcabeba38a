"""Render the report of a run as one HTML file: no script, no other file, no foreign host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sightx.data.preprocess import ProgressCallback
from sightx.io import atomic
from sightx.reporting import html
from sightx.reporting.calibration import calibration_section
from sightx.reporting.checklist import checklist_section
from sightx.reporting.facts import Facts, read_facts
from sightx.reporting.overview import (
    data_section,
    is_better,
    tiles,
    training_section,
    verdict,
)
from sightx.reporting.performance import (
    class_section,
    confusion_section,
    decision_section,
    numbers_section,
    roc_section,
    subgroup_section,
)
from sightx.reporting.pictures import Pictures, mistake_section, quality_section, read_pictures
from sightx.reporting.provenance import about_section, environment_section, spec_section
from sightx.run_registry.find import open_run
from sightx.runs import sums
from sightx.runs.directory import Run

FILE = "report.html"
_CSS = Path(__file__).with_name("report.css")
_SECTIONS = (
    ("numbers", "Numbers"), ("confusion", "Confusion"), ("classes", "Classes"),
    ("decision", "Decision"), ("roc", "Ranking"), ("calibration", "Calibration"),
    ("subgroups", "Subgroups"), ("mistakes", "Mistakes"), ("quality", "Quality"),
    ("data", "Data"), ("training", "Training"), ("about", "About"), ("spec", "Spec"),
    ("environment", "Environment"), ("checklist", "Guidelines"),
)  # fmt: skip


def write_report(
    run: Run | str | Path,
    split: str = "",
    *,
    rivals: Sequence[Run] = (),
    images: bool = True,
    file: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Path:
    """Write the report of a run, and return its path.

    That is by default report.html in its directory, or report-NAME.html for a split that is given
    and not the test split.

    Args:
        run: The run, or what `sightx.open_run` takes; it needs predictions of the split.
        split: The name of predictions; by default test, or validation if test was not scored.
        rivals: Runs to compare with on the same samples.
        images: Whether to show images, which are read again.
        file: Where to write.
        progress: Called with (done, total) while images are read.

    Raises RunError, DataError.
    """
    judged = open_run(run)
    page = render_report(judged, split, rivals=rivals, images=images, progress=progress)
    name = FILE if split in ("", "test") else f"report-{split}.html"
    target = file or judged.directory / name
    with atomic.disk_errors(target.parent):
        atomic.replace(target, page.encode())
    if file is None:
        sums.update_sums(judged.directory, [name])
    return target


def render_report(
    run: Run,
    split: str = "",
    *,
    rivals: Sequence[Run] = (),
    images: bool = True,
    progress: ProgressCallback | None = None,
) -> str:
    """Return the report as HTML; see `write_report`."""
    facts = read_facts(run, split, rivals)
    pictures = read_pictures(facts, progress) if images else None
    sections = _sections(facts, pictures, progress)
    body = "\n".join([_header(facts), _navigation(sections), *sections.values()])
    title = html.text(f"{facts.experiment.name}: report")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>\n<style>\n{_CSS.read_text(encoding='utf-8')}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _sections(
    facts: Facts, pictures: Pictures | None, progress: ProgressCallback | None
) -> dict[str, str]:
    """Return the HTML of each section that has something to show, by its name."""
    rendered = {
        "numbers": numbers_section(facts),
        "confusion": confusion_section(facts),
        "classes": class_section(facts),
        "decision": decision_section(facts),
        "roc": roc_section(facts),
        "calibration": calibration_section(facts),
        "subgroups": subgroup_section(facts),
        "mistakes": mistake_section(facts, pictures),
        "quality": quality_section(facts, pictures, progress),
        "data": data_section(facts),
        "training": training_section(facts),
        "about": about_section(facts),
        "spec": spec_section(facts),
        "environment": environment_section(facts),
        "checklist": checklist_section(facts),
    }
    return {name: text for name, text in rendered.items() if text}


def _header(facts: Facts) -> str:
    started = str(facts.run.environment.get("started", ""))[:10]
    line = (
        f"{html.text(facts.run.id)} · {started} · predictions of <b>{html.text(facts.split)}</b> "
        f"by checkpoint {html.text(facts.checkpoint)}"
    )
    kind = "lead good" if is_better(facts) else "lead"
    warning = ""
    if facts.split != "test":
        words = "this is not the test split"
        if facts.is_other_data:
            words = "other data; sightx evaluate says how many of them the run was trained on"
        warning = f'<p class="warning">Judged on {html.text(facts.split)}: {words}.</p>'
    return (
        f'<header><h1>{html.text(facts.experiment.name)}</h1><p class="soft">{line}</p>'
        f'<p class="{kind}">{verdict(facts)}</p>{warning}{tiles(facts)}</header>'
    )


def _navigation(sections: dict[str, str]) -> str:
    links = "".join(
        f'<a href="#{name}">{title}</a>' for name, title in _SECTIONS if name in sections
    )
    return f"<nav>{links}</nav>"
