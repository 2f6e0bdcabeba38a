from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sightx import SpecError, errors
from sightx.plugin import Check, Finding
from sightx.registry.registry import Plugin, Registry
from sightx.spec import error_codes

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sightx"
FILES = sorted(PACKAGE.rglob("*.py"))

# registry/validation_errors.py replaces this code: no problem has it.
INNER = {"table_type"}


def literals(node: ast.expr | None) -> Iterator[str]:
    """Yield the strings that an expression can be: `"a" if x else "b"` is two."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*literals(node.body), *literals(node.orelse))


def helpers(tree: ast.AST) -> dict[str, int]:
    """Return the functions of a module with a parameter `code`, and its position."""
    functions = {
        node.name: [argument.arg for argument in node.args.args]
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    return {name: names.index("code") for name, names in functions.items() if "code" in names}


def imported_helpers(tree: ast.AST) -> dict[str, int]:
    """Return what `from sightx.x.y import name` takes from a module that has such functions."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name: position
        for node in imports
        if (file := ROOT / f"{(node.module or '').replace('.', '/')}.py").is_file()
        for alias in node.names
        if (position := helpers(ast.parse(file.read_text())).get(alias.name)) is not None
    }


def given(tree: ast.AST) -> Iterator[str]:
    """Yield every code that a module gives a problem, directly or through a helper function.

    A helper has a parameter `code`, or returns (code, message, hint). A parameter that is given by
    keyword may also end in `_code`.
    """
    at = {"Problem": 0, "PydanticCustomError": 0, "AuditFinding": 0}
    at |= imported_helpers(tree) | helpers(tree)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        for argument, default in zip(
            function.args.kwonlyargs, function.args.kw_defaults, strict=True
        ):
            yield from literals(default) if argument.arg in ("code", "full_code") else ()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (place := at.get(ast.unparse(node.func))) is not None:
            by_name = (keyword.value for keyword in node.keywords if keyword.arg == "code")
            yield from literals(node.args[place] if len(node.args) > place else next(by_name, None))
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                is_code = keyword.arg == "code" or (keyword.arg or "").endswith("_code")
                yield from literals(keyword.value) if is_code else ()
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code":
            yield from literals(node.value)
    for function in functions:
        if function.returns and ast.unparse(function.returns) in (
            "tuple[str, str, str]", "Explanation",
        ):  # fmt: skip
            yield from returned(function)


def returned(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            yield from literals(node.value.elts[0])


def raised(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield each code that a module raises at once, with the exit code of its error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(inner := node.args[0], ast.Call):
            cls: Any = getattr(errors, ast.unparse(node.func), None)
            if isinstance(cls, type) and ast.unparse(inner.func) == "Problem":
                yield from ((code, cls.exit_code) for code in literals(inner.args[0]))


TREES = {path: ast.parse(path.read_text()) for path in FILES}
USED = {code for tree in TREES.values() for code in given(tree)} - INNER


def test_every_code_of_the_package_is_explained_and_used() -> None:
    known = set(error_codes.catalogue())
    assert sorted(USED - known) == [], "explain them in sightx/spec/error_codes.toml"
    assert sorted(known - USED) == [], "nothing gives these any more"


def test_all_ways_to_give_a_code_are_recognised() -> None:
    tree = ast.parse(
        'Problem("a", "m")\nProblem(code="b", message="m")\nPydanticCustomError("c", "m")\n'
        'def _fail(file, code): pass\n_fail("file", "d")\n_fail("file", code="e")\n'
        'def f() -> tuple[str, str, str]:\n    return "f", "m", ""\n'
        'code = "g" if x else "h"\nraise SpecError(Problem("i" if x else "j", "m"))\n'
        'Problem(code, "m")\nother("k")\ndef h(x, *, code="l"): pass\nx.h(1, full_code="m")\n'
        'from sightx.data.csv_reader import fail\nfail(path, 1, "n", "m")\n'
    )
    assert set(given(tree)) == set("abcdefghijlmn")
    assert list(raised(tree)) == [("i", 2), ("j", 2)]


def test_every_code_has_the_exit_codes_of_its_errors() -> None:
    known = error_codes.catalogue()
    pairs = {pair for tree in TREES.values() for pair in raised(tree)}
    assert len(pairs) > 40
    assert [
        (code, number) for code, number in sorted(pairs) if number not in known[code].exit_codes
    ] == []


def test_entries_are_short_sentences() -> None:
    for code in error_codes.catalogue().values():
        assert code.meaning.endswith("."), code.name
        assert 1 <= len(code.actions) <= 3, code.name
        assert all(
            line.endswith((".", "`")) and len(line) <= 110 for line in (*code.actions, code.meaning)
        )


@pytest.fixture
def registry() -> Registry:
    def find() -> list[Finding]:
        return []

    registry = Registry()
    registry.add(
        Plugin("rules", "rules.py"),
        checks=[
            Check("no-cats", "cats are not fish", find, severity="warning"),
            Check("syntax", "it means something else here", find, "data"),
        ],
    )
    return registry


def test_a_code_is_explained(registry: Registry) -> None:
    assert error_codes.explain("unknown-key", registry) == (
        "unknown-key\n"
        "  The section or its component has no such setting.\n"
        "  Use the name in the message; sightx show-plugin KIND NAME shows all settings.\n"
        "  Exit code 2 (a spec, an override or a command line is wrong)."
    )


def test_codes_of_checks_are_explained_by_their_reasons(registry: Registry) -> None:
    assert error_codes.explain("no-cats", registry) == (
        "no-cats\n"
        "  Cats are not fish.\n"
        "  A check of rules finds this when it reads the spec.\n"
        '  To turn it off, write allow = ["no-cats"] in the spec.\n'
        "  Exit code 0 (a warning; 2 with --strict)."
    )
    own, of_check = error_codes.explain("syntax", registry).split("\n\n")
    assert "not valid TOML" in own
    assert "when it opens the data" in of_check
    assert "Exit code 3 " in of_check
    entry = error_codes.find_code("syntax", registry)
    assert entry is not None
    assert entry.meaning == "It means something else here."
    assert error_codes.find_code("nothing", registry) is None


def test_all_codes_are_listed(registry: Registry) -> None:
    lines = error_codes.explain("list", registry).splitlines()
    assert [line.split()[0] for line in lines] == sorted(
        [*error_codes.catalogue(), "no-cats", "syntax"]
    )


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("uknown-key", "did you mean 'unknown-key'?"),
        ("no-cat", "did you mean 'no-cats'?"),
        ("xyzzy", "sightx validate --explain list shows all codes"),
    ],
)
def test_an_unknown_code_suggests_the_closest(registry: Registry, word: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        error_codes.explain(word, registry)
    assert str(caught.value) == f"error[usage] no code is called {word!r}; {hint}"


def test_the_page_of_the_docs_is_up_to_date() -> None:
    command = [sys.executable, "-m", "sightx.spec.error_codes"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "codes.md").read_text() == done.stdout
    assert all(f"### `{code}`\n" in done.stdout for code in error_codes.catalogue())
    assert "### `step-unreached`\n" in done.stdout
