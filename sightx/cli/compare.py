"""`sightx compare`: metrics of runs on the same samples, with paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightx.cli.context import find_run
from sightx.cli.options import json_output, print_json, runs_folder
from sightx.cli.tables import print_table
from sightx.errors import counted

if TYPE_CHECKING:
    from sightx import Run
    from sightx.run_registry.comparison import Candidate, Comparison, Difference


@click.command("compare", short_help="Compare metrics of runs on the same samples.")
@click.argument("wanted", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--split", default="test", type=click.Choice(["validation", "test"]))
@click.option("--metric", "names", multiple=True, metavar="NAME", help="Show only these.")
@json_output
@runs_folder
def command(
    wanted: tuple[str, ...], split: str, names: tuple[str, ...], as_json: bool, runs: Path | None
) -> None:
    """Compare the first RUN with the others on the same samples of a split.

    Differences have a 95 % interval over groups, such as patients, that are drawn in pairs. Runs
    that differ only in the seed are folded into mean and deviation.
    """
    if len(wanted) == 1:
        raise click.UsageError("name at least two runs")
    opened = [find_run(run, runs)[0] for run in wanted]
    comparison = _compare(opened, split)
    if as_json:
        candidates = [candidate.to_json() for candidate in comparison.candidates]
        value = {"split": split, "samples": comparison.samples, "groups": comparison.groups,
                 "candidates": candidates, "repeats": dict(comparison.repeats)}  # fmt: skip
        print_json(value)
    elif comparison.samples:
        _print(comparison, names)
    else:
        _print_recorded(comparison, names)


def _compare(runs: Sequence[Run], split: str) -> Comparison:
    """Return the comparison of runs; of what they have recorded if one of them was imported."""
    from sightx.evaluation.binary import area_metrics
    from sightx.run_registry.comparison import compare_recorded, compare_runs
    from sightx.runner.resume import stored_experiment

    if any(run.is_imported for run in runs):
        return compare_recorded(runs, split)
    experiment = stored_experiment(runs[0])
    return compare_runs(runs, [*experiment.metric, *area_metrics(experiment.evaluation)], split)


def _print_recorded(comparison: Comparison, names: Sequence[str]) -> None:
    """Print the metrics of runs side by side."""
    candidates = comparison.candidates
    keys = dict.fromkeys(
        key
        for candidate in candidates
        for key in candidate.metrics
        if (key in names if names else "/" not in key)
    )
    rows = [[key, *(_spread(candidate, key) for candidate in candidates)] for key in keys]
    print_table(["metric", *(candidate.name for candidate in candidates)], rows, fit=False)
    click.echo(
        f"{comparison.split} metrics as recorded: an imported run has no predictions, so there are "
        "no intervals, and nothing says that the samples are the same"
    )


def _print(comparison: Comparison, names: Sequence[str]) -> None:
    first, *others = comparison.candidates
    keys = [key for key in first.metrics if (key in names if names else "/" not in key)]
    groups = f", {comparison.groups} groups" if comparison.groups < comparison.samples else ""
    click.echo(f"{comparison.split}: {counted(comparison.samples, 'sample')}{groups}")
    rows, reasons = [], set()
    for key in keys:
        rows.append([key, first.name, _spread(first, key), "", "", ""])
        for other in others:
            difference = other.differences.get(key)
            rows.append(["", other.name, _spread(other, key), *_texts(difference)])
            reasons.add(difference.reason if difference else "")
    header = ["metric", "run", "value", "difference and 95 % interval", "", "detectable"]
    print_table(header, rows, fit=False)
    for reason in sorted(reasons - {""}):
        click.echo(f"no interval: {reason}")
    for repeat, run in comparison.repeats.items():
        click.echo(f"{repeat} repeats {run} and does not count")
    if not others and len(first.runs) == 1:
        click.echo("name a run of another experiment too")
    elif not others:
        click.echo("these runs differ only in the seed: name runs of another experiment too")
    elif any(len(candidate.runs) == 1 for candidate in comparison.candidates):
        click.echo("one seed is one set of weights: run several seeds to compare settings")
    if others:
        click.echo("detectable: a smaller difference would usually be missed on these samples")
    if others and comparison.split == "test":
        click.echo("this is the test split: choose settings with --split validation")


def _spread(candidate: Candidate, key: str) -> str:
    if (spread := candidate.metrics.get(key)) is None:
        return "-"
    deviation = f" ± {spread.deviation:.4f}" if spread.deviation is not None else ""
    return f"{spread.mean:.4f}{deviation}"


def _texts(difference: Difference | None) -> tuple[str, ...]:
    if difference is None:
        return "-", "", ""
    if difference.reason:
        return f"{difference.value:+.4f} -", "no interval", "-"
    verdict = "no detectable difference"
    least = f"{difference.detectable:.2g}" if difference.detectable > 0 else ""
    if difference.is_better is not None:
        verdict = "better" if difference.is_better else "worse"
    limits = f"[{difference.low:+.4f}, {difference.high:+.4f}]"
    return f"{difference.value:+.4f} {limits}", verdict, least
