"""`sightx audit`: look at the data of a spec before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sightx.cli.context import find_run
from sightx.cli.options import UserPath, json_output, overrides, print_json, runs_folder

if TYPE_CHECKING:
    from sightx.audit.audit import Audit
    from sightx.data.preprocess import ProgressCallback


@click.command("audit", short_help="Look for what would mislead a model in the data of a spec.")
@click.argument("what", metavar="SPEC|RUN")
@overrides
@runs_folder
@json_output
@click.option(
    "--html", metavar="FILE", type=UserPath(dir_okay=False), help="Write a page with images."
)
@click.option(
    "--exclude",
    metavar="FILE",
    type=UserPath(dir_okay=False),
    help="List rows to leave out, in the form that dataset.exclude takes.",
)
@click.option("--strict", is_flag=True, help="Exit with 2 also if there are only warnings.")
def command(
    what: str,
    overrides: tuple[str, ...],
    runs: Path | None,
    as_json: bool,
    html: Path | None,
    exclude: Path | None,
    strict: bool,
) -> int:
    """Look for leaks, copies, broken files, rare classes and shortcuts in the data of SPEC.

    With a RUN, also list labels that its predictions contradict. Nothing is changed: --exclude
    suggests, and the spec decides. The exit code is 3 if a finding would make a run wrong.
    """
    from sightx import console
    from sightx.audit.page import write_page
    from sightx.errors import DataError, SpecError, counted
    from sightx.io.files import shell_path

    with console.show_progress(as_json, "reading images") as progress:
        result = _audit(what, overrides, runs, progress)
    report = result.report
    if as_json:
        print_json(report.to_json())
    else:
        console.show_audit(report)
    if html:
        write_page(result, html)
        click.echo(f"{html}: written", err=True)
    if exclude:
        file = result.write_exclusions(exclude.absolute())
        use = "nothing has to be left out"
        if count := len(report.suggestions):
            use = f"use it with --set dataset.exclude={shell_path(file)}"
        click.echo(f"{file}: {counted(count, 'row')}; {use}", err=True)
    if report.count("refuse"):
        return DataError.exit_code
    return SpecError.exit_code if strict and report.count("warn") else 0


def _audit(
    what: str, overrides: tuple[str, ...], runs: Path | None, progress: ProgressCallback | None
) -> Audit:
    """Audit the data of a spec, which is a file, or of a run."""
    import sightx
    from sightx.audit.audit import audit, audit_run
    from sightx.io.files import user_path

    path = user_path(what)
    if path.suffix == ".toml" or path.is_file():
        return audit(sightx.load(path, overrides), progress)
    run, _ = find_run(what, runs)
    return audit_run(run, overrides, progress)
