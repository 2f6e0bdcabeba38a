"""Sections of a report about where a run comes from: purpose, spec, environment, scorings."""

from __future__ import annotations

from collections.abc import Iterator

from sightx.errors import counted
from sightx.registry.components import to_plain
from sightx.reporting import html
from sightx.reporting.facts import Facts
from sightx.reporting.overview import seconds_text
from sightx.runs.scorings import read_test_scorings
from sightx.spec.render import render_tables


def about_section(facts: Facts) -> str:
    """Return what the authors of the spec say of the model; gaps are named."""
    fields = to_plain(facts.experiment.about) if facts.experiment.about else {}
    names = ("purpose", "data_source", "limitations", "licence", "contact")
    rows = [[name.replace("_", " "), html.text(fields[name])] for name in names if fields.get(name)]
    missing = [name for name in names if not fields.get(name)]
    parts = [html.table(["", ""], rows, names=2)] if rows else []
    if missing:
        listed = ", ".join(name.replace("_", " ") for name in missing)
        parts.append(
            f'<p class="gap">Not stated in <code>[about]</code> of the spec: {listed}.</p>'
        )
    warning = "<p><b>Not a diagnosis, and not a medical device.</b></p>"
    return html.section("about", "About", [warning, *parts])


def spec_section(facts: Facts) -> str:
    """Return the whole experiment, with the origin of each value."""
    origins = facts.run.read_json("origins.json")
    text = render_tables(facts.run.tables, origins)
    parts = [
        html.folded(
            "Show the whole spec, with every default", f"<pre>{html.text_block(text)}</pre>"
        )
    ]
    overrides = facts.run.environment.get("overrides", ())
    if overrides:
        listed = " ".join(f"<code>--set {html.text(one)}</code>" for one in overrides)
        parts.insert(0, f"<p>Overrides on the command line: {listed}</p>")
    return html.section("spec", "Spec", [*parts, *_components(facts)])


def _components(facts: Facts) -> Iterator[str]:
    """Yield the plugins that components come from."""
    rows = [
        [
            html.text(f"{one.get('kind', '')} {one.get('name', '')}"),
            html.text(one.get("plugin", "")),
            html.text(one.get("version", "")),
            html.text(one.get("revision", "")),
        ]
        for one in facts.run.environment.get("components", ())
    ]
    if rows:
        body = html.table(["component", "plugin", "version", "revision"], rows, names=4)
        yield html.folded(f"Show the {counted(len(rows), 'component')}", body)


def environment_section(facts: Facts) -> str:
    """Return machine, versions and ids, and how often the test split was scored."""
    environment, result = facts.run.environment, facts.run.result
    device = environment.get("device", {})
    packages = environment.get("packages", {})
    rows = [
        ["run", facts.run.id],
        ["started", environment.get("started", "")],
        ["duration", seconds_text(float(result.get("seconds", 0)))],
        ["status", facts.run.status],
        ["experiment id", environment.get("id", "")],
        ["data id", facts.run.data.get("id", "")],
        ["weights", result.get("weights", "")],
        ["commit", environment.get("commit", "")],
        ["device", f"{device.get('name', '')} {device.get('model', '')}"],
        ["processes", environment.get("processes", "")],
        ["platform", environment.get("platform", "")],
        ["python", environment.get("python", "")],
        *([name, version] for name, version in packages.items()),
    ]
    shown = [[html.text(name), html.text(value)] for name, value in rows if str(value).strip()]
    body = html.folded("Show versions and ids", html.table(["", ""], shown, names=2))
    return html.section("environment", "Environment", [*_scorings(facts), body])


def _scorings(facts: Facts) -> Iterator[str]:
    """Yield how often the test split of the run was scored: each time is a chance to choose."""
    if scorings := read_test_scorings(facts.run):
        checkpoints = {one["checkpoint"] for one in scorings}
        yield (
            f"<p>The test split was scored {counted(len(scorings), 'time')} by this run, with "
            f"{counted(len(checkpoints), 'checkpoint')}.</p>"
        )
