"""Completion in shells: commands, options, runs, keys of runs, components, and keys for `--set`.

`_SIGHTX_COMPLETE=bash_source sightx` prints the script of a shell, and the script asks `sightx` at
every Tab. An answer must come at once, so nothing heavy is imported: what plugins provide is in a
file in the user's cache, which is written anew when the project or the installed packages change.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    shell_complete,
    split_arg_string,
)

from sightx.io import atomic
from sightx.io.files import read_json, user_cache

_MOST = 40  # runs that are proposed
_PROJECT_FILES = ("pyproject.toml", "sightx.local.toml")


def complete(group: click.Group, variable: str) -> int:
    """Answer a shell, which asks by a variable, and return the exit code."""
    add_completion_class(_Bash)
    try:
        return shell_complete(group, {}, "sightx", variable, os.environ[variable])
    except Exception:  # whatever it is, a shell is the wrong place to tell
        return 1


def add_types(command: click.Command) -> click.Command:
    """Return a command whose parameters know what to propose, by their names."""
    for parameter in command.params:
        if proposal := _PROPOSALS.get(parameter.name or ""):
            parameter.type = proposal
    return command


class _Bash(BashComplete):
    """Bash splits words at `=` and `:`; this reads the line itself, and answers with the rest."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' item type value
    COMPREPLY=()
    for item in $(env COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" \\
            %(complete_var)s=bash_complete "$1"); do
        IFS=, read -r type value <<< "$item"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value"); [[ $value == *= ]] && compopt -o nospace ;;
        esac
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
    _incomplete = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words behind the command, and the word that is completed."""
        line = os.environ["COMP_LINE"].encode()[: int(os.environ["COMP_POINT"])].decode()
        words = split_arg_string(line)[1:]
        self._incomplete = "" if line[-1:].isspace() or not words else words.pop()
        return words, self._incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return a proposal without what stands before the last `=` or `:` of the word."""
        cut = max(self._incomplete.rfind("="), self._incomplete.rfind(":")) + 1
        return f"{item.type},{str(item.value)[cut:]}"


class _Proposal(click.ParamType):  # type: ignore[type-arg]  # older ones are not generic
    """A text of which some values are proposed."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the proposals that begin with a text."""
        try:
            values = list(self.values(ctx, incomplete))
        except Exception:  # no project, no runs folder
            return []
        return [CompletionItem(value) for value in values if value.startswith(incomplete)]

    def values(self, ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return what may be proposed."""
        raise NotImplementedError


class RunName(_Proposal):
    """The newest runs, or those that begin with what is typed; a path is left to the shell."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the proposals; for a path those of the shell."""
        if "/" in incomplete and not incomplete.startswith("best:"):
            return [CompletionItem(incomplete, type="file")]
        return super().shell_complete(ctx, param, incomplete)

    def values(self, ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return ids of runs, `last`, and `best:KEY` of each validation metric."""
        if incomplete.startswith("best:"):
            return (f"best:{key}" for key in _run_keys(ctx) if key.startswith("validation/"))
        with os.scandir(_runs(ctx)) as entries:
            ids = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
        matching = sorted((id_ for id_ in ids if id_.startswith(incomplete)), reverse=True)
        return ["last", "best:", *matching[:_MOST]]


class RunKey(_Proposal):
    """Keys of runs: settings, metrics and facts; the last of several that commas join."""

    def __init__(self, end: str = "") -> None:
        self._end = end

    def values(self, ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return the keys that the runs of the project have."""
        start = incomplete[: incomplete.rfind(",") + 1]
        return (f"{start}{key}{self._end}" for key in _run_keys(ctx))


class SpecKey(_Proposal):
    """`KEY=` of a spec, and behind it the values that are known."""

    def values(self, ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return keys, or values of a key."""
        keys: Mapping[str, list[str]] = facts()["keys"]
        key, is_value, _ = incomplete.partition("=")
        if is_value:
            return (f"{key}={value}" for value in keys.get(key, ()))
        return (f"{name}=" for name in keys)


class KindName(_Proposal):
    """Kinds of components, and sections of a spec."""

    def values(self, ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return their names."""
        components = facts()["components"]
        sections = facts()["sections"] if ctx.info_name == "show-plugin" else []
        return [*components, *sections]


class ComponentName(_Proposal):
    """Components of the kind that stands before."""

    def values(self, ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return their names."""
        kind = str(ctx.params.get("kind"))
        names: list[str] = facts()["components"].get(kind, [])
        return names if ctx.info_name == "show-plugin" else []


_PROPOSALS: Mapping[str, _Proposal] = {
    "again": RunName(),
    "columns": RunKey(),
    "conditions": RunKey("="),
    "fold": RunKey(),
    "kind": KindName(),
    "name": ComponentName(),
    "overrides": SpecKey(),
    "run": RunName(),
    "sort": RunKey(),
    "wanted": RunName(),
    "where": RunKey(),
}


def _runs(ctx: click.Context) -> Path:
    """Return the folder of runs."""
    return Path(ctx.params.get("runs") or facts()["runs"])


def _run_keys(ctx: click.Context) -> list[str]:
    """Return the keys of runs, from the index as it is: comparing it with the runs takes longer."""
    from sightx.run_registry.index import read_keys

    return read_keys(_runs(ctx))


def facts() -> dict[str, Any]:
    """Return what the project of the working directory has: its runs folder, components, keys."""
    folder = Path.cwd()
    file = user_cache() / f"completion-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.json"
    known = read_json(file)
    if known and all(_stamp(path) == stamp for path, stamp in known["stamps"].items()):
        return known
    new = _read_facts(folder)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace(file, json.dumps(new).encode())
    except OSError:
        pass  # the next answer takes as long
    return new


def _read_facts(folder: Path) -> dict[str, Any]:
    """Read what `facts` returns from the project and its plugins."""
    import sysconfig

    from sightx.registry.kinds import KINDS
    from sightx.registry.loading import load_registry
    from sightx.registry.project import find_project
    from sightx.spec.sections import own_sections, top_level_keys

    project = find_project(folder)
    entries = load_registry(project).entries()
    components = {
        kind.kind: sorted({e.component.name for e in entries if e.component.kind == kind.kind})
        for kind in KINDS
    }
    keys: dict[str, list[str]] = {name: [] for name in top_level_keys()}
    for section, settings in own_sections().items():
        keys |= {f"{section}.{name}": choices for name, choices in _choices(settings)}
    for entry in entries:
        kind = entry.component.kind
        keys[f"{kind}.use"] = components[kind]
        keys |= {f"{kind}.{name}": choices for name, choices in _choices(entry.component)}
    watched = [sysconfig.get_path("purelib"), str(Path(__file__).parent), *_project_files(folder)]
    for plugins in project.plugins:
        watched += [str(plugins), *map(str, Path(plugins).glob("*.py"))]
    return {
        "runs": str(project.runs),
        "components": components,
        "sections": sorted(own_sections()),
        "keys": dict(sorted(keys.items())),
        "stamps": {path: _stamp(path) for path in watched},
    }


def _choices(settings: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield each field of a class of settings, and the values of one that has few."""
    from typing import Literal, get_args, get_origin

    for name, field in settings.model_fields.items():
        kind = field.annotation
        choices = list(map(str, get_args(kind))) if get_origin(kind) is Literal else []
        yield name, ["true", "false"] if kind is bool else choices


def _project_files(folder: Path) -> Iterator[str]:
    for parent in (folder, *folder.parents):
        yield from (str(parent / name) for name in _PROJECT_FILES)


def _stamp(path: str) -> int:
    """Return when a file or folder changed; 0 if it does not exist."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0
