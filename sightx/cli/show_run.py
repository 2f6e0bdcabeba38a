"""`sightx show-run`: everything about one run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightx.cli.context import find_run_directory
from sightx.cli.diff import print_changes
from sightx.cli.options import json_output, print_json, runs_folder
from sightx.cli.tables import cell_text, duration_text, print_table
from sightx.errors import counted, one_line
from sightx.records.metric_rows import metric_rows

if TYPE_CHECKING:
    from sightx.run_registry.description import Description

_SHOWN = ("dataset", "split", "model", "loss", "optimizer", "scheduler")


@click.command("show-run", short_help="Show everything about a run.")
@click.argument("run")
@json_output
@runs_folder
def command(run: str, as_json: bool, runs: Path | None) -> None:
    """Show what RUN was, on what data, its result, where it trained, and where it comes from.

    RUN is an id, a unique part of one, an experiment's name, `last`, a path, @TAG, or best:KEY
    such as best:validation/qwk.
    """
    from sightx.run_registry.description import describe_run

    directory, _ = find_run_directory(run, runs)
    description = describe_run(directory)
    if as_json:
        print_json(asdict(description))
    else:
        _print(description)


def _print(run: Description) -> None:
    values = run.values
    _line("run", f"{values['id']}  {values.get('status', '')}  {values.get('tags', '')}")
    for key in ("error", "note"):
        if text := values.get(key):
            _line(key, one_line(str(text)))
    components = (f"{key} {values[f'{key}.use']}" for key in _SHOWN if f"{key}.use" in values)
    _line("experiment", ", ".join([*components, *_main_settings(run)]))
    _line("trained", ", ".join(_trained(values)))
    for session in run.sessions:
        duration = duration_text(float(session["seconds"]))
        text = f"{cell_text('started', session['started'])} on {session['host']}, {duration}"
        _line("session", f"{text}, {session['status'] or values.get('status', 'not ended')}")
    _print_results(run)
    for parent in run.parents:
        _line("parent", f"{parent['run']} ({parent['why']})")
    for child in run.children:
        _line("child", child)
    if run.changes:
        _line("from parent", "")
        print_changes(run.changes)
    from sightx.io.system import format_bytes

    _line("disk", format_bytes(run.size))


def _trained(values: Mapping[str, object]) -> Iterator[str]:
    """Yield how long a run trained and where, as far as that is recorded."""
    epochs = values.get("training.epochs")
    done = int(str(values.get("epoch", 0)))
    yield (
        counted(done, "epoch")
        if epochs is None
        else f"{done} of {counted(int(str(epochs)), 'epoch')}"
    )
    if "seed" in values:
        yield f"seed {values['seed']}"
    if device := values.get("device"):
        yield str(device)


def _main_settings(run: Description) -> Iterator[str]:
    """Yield the settings that most often differ between runs, as far as they are known."""
    sizes = [key for key in run.values if re.fullmatch(r"preprocess\..+\.size", key)]
    keys = {"lr": "optimizer.lr", "batch size": "training.batch_size"}
    keys |= {"image size": sizes[-1]} if sizes else {}
    for name, key in keys.items():
        if key in run.values:
            yield f"{name} {cell_text(key, run.values[key])}"


def _print_results(run: Description) -> None:
    for split, counts in run.counts.items():
        if sum(counts):
            text = f"{counted(sum(counts), 'sample')} ({', '.join(map(str, counts))})"
            _line("data", f"{split}: {text}; majority class {run.majority[split]:.1%}")
    if run.checkpoint and run.checkpoint_epoch:
        epochs = counted(int(run.values.get("epoch", 0)), "epoch")
        _line("metrics", f"{run.checkpoint} of {epochs}: epoch {run.checkpoint_epoch}")
    result = {**run.metrics, **run.estimates}
    for split in run.metrics:
        (_, *header), *rows = metric_rows(result, split)
        print_table([split, *header], rows, fit=False)
    own, all_runs = run.test_scorings
    if all_runs is not None:
        others = f"{_times(all_runs)} by all runs here"
        own_text = f"scored {_times(own)} by this run" if own else "not scored by this run"
        _line("test", f"{own_text}, {others}")


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, counted(number, "time"))


def _line(name: str, text: str) -> None:
    click.echo(f"{name:<12}{text}".rstrip())
