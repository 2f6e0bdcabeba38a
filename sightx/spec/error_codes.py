"""The catalogue of error codes: what each means, and what to do.

SightX's own codes are in error_codes.toml; those of checks come from a registry.
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
from sightx.registry.hooks import Check
from sightx.registry.introspection import docstring
from sightx.registry.loading import load_registry
from sightx.registry.project import Project
from sightx.registry.registry import Plugin, Registry

_FILE = Path(__file__).with_name("error_codes.toml")
_ERRORS = (
    errors.SpecError, errors.DataError, errors.PluginError, errors.RunError,
    errors.NonFiniteError, errors.ResourceError,
)  # fmt: skip
_EXIT_CODES = {
    0: "a warning; 2 with --strict",
    **{error.exit_code: docstring(error).strip(".").lower() for error in _ERRORS},
    SightXError.exit_code: "a bug in SightX",
    130: "stopped from the keyboard",
}
_STAGES = {
    "spec": ("when it reads the spec", SpecError.exit_code),
    "data": ("when it opens the data", errors.DataError.exit_code),
    "device": ("when it knows the device", errors.ResourceError.exit_code),
    "audit": ("when sightx audit has read the images", errors.DataError.exit_code),
}
_HEAD = """\
# Error codes

Every problem has a stable code: `file:line:column: error[code] key: message; hint`.
`sightx validate --explain CODE` prints an entry, and `--explain list` lists all codes, including
those of installed plugins. `python -m sightx.spec.error_codes > docs/codes.md` writes this page.
"""


@dataclass(frozen=True)
class ErrorCode:
    """An entry of the catalogue; `exit_codes` are those of commands that end with it."""

    name: str
    meaning: str
    actions: tuple[str, ...]
    exit_codes: tuple[int, ...]

    def __str__(self) -> str:
        """Return the entry as a terminal shows it."""
        return "\n".join([self.name, *(f"  {line}" for line in self._lines())])

    def to_markdown(self) -> str:
        """Return the entry as the docs show it."""
        return f"### `{self.name}`\n\n" + "  \n".join(self._lines())

    def _lines(self) -> list[str]:
        exits = ", or ".join(f"{code} ({_EXIT_CODES[code]})" for code in self.exit_codes)
        return [self.meaning, *self.actions, f"Exit code {exits}."]


@cache
def catalogue() -> dict[str, ErrorCode]:
    """Return SightX's own codes by name, sorted."""
    return {
        name: ErrorCode(name, entry["meaning"], tuple(entry["do"]), tuple(entry["exit"]))
        for name, entry in sorted(toml.read(_FILE).data.items())
    }


def check_codes(registry: Registry) -> list[ErrorCode]:
    """Return the codes of all checks, each explained by the check's reason, sorted."""
    codes = [_code_of_check(check, plugin) for check, plugin in registry.checks]
    return sorted(codes, key=lambda code: code.name)


def find_code(name: str, registry: Registry | None) -> ErrorCode | None:
    """Return the entry of a code; if a check has the same code, that of the check."""
    of_checks = check_codes(registry) if registry else []
    return next((code for code in of_checks if code.name == name), catalogue().get(name))


def explain(name: str, registry: Registry) -> str:
    """Return the entries of a code, or for `list` one line for each code.

    Raises SpecError if there is no such code.
    """
    codes = sorted([*catalogue().values(), *check_codes(registry)], key=lambda code: code.name)
    if name == "list":
        width = max(len(code.name) for code in codes)
        return "\n".join(f"{code.name:{width}}  {code.meaning}" for code in codes)
    entries = [str(code) for code in codes if code.name == name]
    if not entries:
        hint = did_you_mean(name, [code.name for code in codes])
        hint = hint or "sightx validate --explain list shows all codes"
        raise SpecError(Problem("usage", f"no code is called {name!r}", hint))
    return "\n\n".join(entries)


def docs_page() -> str:
    """Return the page of the docs: SightX's own codes, then those of the built-in checks."""
    registry = load_registry(Project(Path()))
    builtin = Registry(checks=[pair for pair in registry.checks if pair[1].is_builtin])
    sections = {"Codes of SightX": list(catalogue().values()), "Checks": check_codes(builtin)}
    return "\n".join([_HEAD, *(_section(title, codes) for title, codes in sections.items())])


def _code_of_check(check: Check, plugin: Plugin) -> ErrorCode:
    when, exit_code = _STAGES[check.stage]
    meaning = check.reason[:1].upper() + check.reason[1:].rstrip(".") + "."
    actions = [f"A check of {plugin.distribution or plugin.name} finds this {when}."]
    is_warning = check.severity == "warning"
    if is_warning:
        actions.append(f'To turn it off, write allow = ["{check.code}"] in the spec.')
    return ErrorCode(check.code, meaning, tuple(actions), (0 if is_warning else exit_code,))


def _section(title: str, codes: Sequence[ErrorCode]) -> str:
    return "\n\n".join([f"## {title}", *(code.to_markdown() for code in codes)]) + "\n"


if __name__ == "__main__":
    print(docs_page(), end="")
