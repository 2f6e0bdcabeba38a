"""The catalogue of codes: what each means, and what to do.

SightX's own are kept in codes.toml beside this file; those of checks come from a registry.
`python -m sightx.spec.error_codes > docs/codes.md` writes the page of the docs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sightx import errors
from sightx.errors import Problem, SightXError, SpecError, did_you_mean
from sightx.io import toml
from sightx.registry import loading
from sightx.registry.checks import Check
from sightx.registry.project import Project
from sightx.registry.registry import Plugin, Registry

_FILE = Path(__file__).with_name("codes.toml")
_ERRORS = (
    errors.SpecError, errors.DataError, errors.PluginError, errors.RunError,
    errors.NonFiniteError, errors.ResourceError, errors.SightXError,
)  # fmt: skip
_EXITS = {
    0: "a warning; 2 with --strict",
    **{error.exit_code: (error.__doc__ or "").strip(".").lower() for error in _ERRORS},
    SightXError.exit_code: "a bug of SightX",
    130: "stopped from the keyboard",
}
_STAGES = {
    "spec": ("from the spec alone", SpecError.exit_code),
    "data": ("when the data are open", errors.DataError.exit_code),
    "device": ("when the device is known", errors.ResourceError.exit_code),
}
_HEAD = """\
# Codes

Every problem carries a code that is stable: `file:line:column: error[code] path: what; hint`.
`sightx validate --explain CODE` prints an entry, `--explain list` all of them, those of installed
plugins too. This page is written by `python -m sightx.spec.error_codes > docs/codes.md`.
"""


@dataclass(frozen=True)
class Code:
    """Explain one code; `exits` are the exit codes of commands that meet it."""

    name: str
    means: str
    do: tuple[str, ...]
    exits: tuple[int, ...]

    @property
    def exit(self) -> str:
        """Return the exit codes, each with what it says."""
        return ", or ".join(f"{code} ({_EXITS[code]})" for code in self.exits)

    def __str__(self) -> str:
        """Return the entry as a terminal shows it."""
        return "\n".join([self.name, *(f"  {line}" for line in self._lines())])

    def markdown(self) -> str:
        """Return the entry as the docs show it."""
        return f"### `{self.name}`\n\n" + "  \n".join(self._lines())

    def _lines(self) -> list[str]:
        return [self.means, *self.do, f"Exit code {self.exit}."]


@cache
def catalogue() -> dict[str, Code]:
    """Return SightX's own codes by name, sorted."""
    found = toml.read(_FILE).data
    return {
        name: Code(name, entry["means"], tuple(entry["do"]), tuple(entry["exit"]))
        for name, entry in sorted(found.items())
    }


def check_codes(registry: Registry) -> list[Code]:
    """Return the codes of all checks, each explained by what the check says of itself, sorted."""
    found = [_of_check(check, plugin) for check, plugin in registry.checks]
    return sorted(found, key=lambda code: code.name)


def find_code(name: str, registry: Registry | None) -> Code | None:
    """Return the entry of a code; that of a check comes first."""
    brought = check_codes(registry) if registry else []
    return next((code for code in brought if code.name == name), catalogue().get(name))


def explain(name: str, registry: Registry) -> str:
    """Return what a code means; for `list`, a line for each. Raises SpecError with the nearest."""
    known = sorted([*catalogue().values(), *check_codes(registry)], key=lambda code: code.name)
    if name == "list":
        width = max(len(code.name) for code in known)
        return "\n".join(f"{code.name:{width}}  {code.means}" for code in known)
    found = [str(code) for code in known if code.name == name]
    if not found:
        hint = did_you_mean(name, [code.name for code in known])
        hint = hint or "sightx validate --explain list shows all codes"
        raise SpecError(Problem("usage", f"no code is called {name!r}", hint))
    return "\n\n".join(found)


def page() -> str:
    """Return the page of the docs: SightX's own codes, then those of the checks that ship."""
    registry = loading.load_registry(Project(Path()))
    shipped = Registry(
        checks=[pair for pair in registry.checks if pair[1].place == loading.BUILTIN]
    )
    sections = {"SightX's own": list(catalogue().values()), "Checks": check_codes(shipped)}
    return "\n".join([_HEAD, *(_section(title, found) for title, found in sections.items())])


def _of_check(check: Check, plugin: Plugin) -> Code:
    when, code = _STAGES[check.stage]
    reason = check.reason[:1].upper() + check.reason[1:].rstrip(".") + "."
    do = [f"A check of {plugin.distribution or plugin.name} finds it {when}."]
    warning = check.severity == "warning"
    if warning:
        do.append(f'If it is meant: allow = ["{check.code}"] in the spec.')
    return Code(check.code, reason, tuple(do), (0 if warning else code,))


def _section(title: str, found: Sequence[Code]) -> str:
    return "\n\n".join([f"## {title}", *(code.markdown() for code in found)]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
