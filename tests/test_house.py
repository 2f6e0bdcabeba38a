"""The layout of the package: the import law, the size of files and functions, mirrored tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import sightx
import sightx.plugin

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sightx"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports only from its own room and from rooms to its left, type-checking imports too.
ROOMS = (
    "errors", "seeds", "io", "records", "registry", "spec", "data", "evaluation", "distributed",
    "training", "runs", "run_registry", "board", "trackers", "inference", "runner", "audit",
    "reporting", "export", "serving", "init", "console", "cli", "__main__",
)  # fmt: skip
GUESTS = ("builtin", "testing")  # like other plugins, they import only sightx.plugin
DOORS = {
    "pluggy": ("registry/", "runner/observers.py"),
    "rich": ("console.py", "builtin/observers/"),
    "fastapi": ("serving/",),
    "httptools": ("serving/",),
    "prometheus_client": ("serving/",),
    "python_multipart": ("serving/",),
    "starlette": ("serving/",),
    "uvicorn": ("serving/",),
    "onnx": ("export/",),
    "onnxscript": ("export/",),
    "onnxruntime": ("inference/onnx_network.py", "export/int8.py"),
    "tomllib": ("io/toml.py",),
    "tomli_w": ("io/toml.py",),
    "click": ("cli/", "registry/hooks.py"),
    "mlflow": ("trackers/mlflow.py",),
    "sqlite3": ("run_registry/index.py",),
    "tensorboard": ("builtin/observers/tensorboard.py",),
    "tree_sitter": ("io/toml.py",),
}
HEAVY = ("torch", "torchvision", "pandas", "sklearn", "matplotlib", "scipy")
FILE_LIMIT, FUNCTION_LIMIT = 400, 40

# Modules without a test file that mirrors them, with the one that runs them.
TESTED_ELSEWHERE = {
    "__main__.py": "cli/test_main.py",
    "plugin.py": "test_house.py",
    "builtin/checks/schedule.py": "builtin/checks/test_spec.py",
    "builtin/datasets/exported.py": "builtin/datasets/test_shards.py",
    "builtin/loss_modules.py": "builtin/test_ordinal_losses.py",
    "builtin/sam.py": "training/test_trainer.py",
    "builtin/models/efficientnet_lite_network.py": "builtin/models/test_efficientnet_lite.py",
    "builtin/models/networks.py": "builtin/models/test_models.py",
    "cli/context.py": "cli/test_run.py",
    "cli/archive.py": "cli/test_registry_commands.py",
    "cli/board.py": "cli/test_registry_commands.py",
    "board/export.py": "board/test_page.py",
    "cli/compare.py": "cli/test_registry_commands.py",
    "cli/diff.py": "cli/test_registry_commands.py",
    "cli/import_run.py": "cli/test_registry_commands.py",
    "cli/remove_run.py": "cli/test_registry_commands.py",
    "cli/show_run.py": "cli/test_registry_commands.py",
    "cli/ship.py": "cli/test_registry_commands.py",
    "cli/tag.py": "cli/test_registry_commands.py",
    "cli/evaluate.py": "cli/test_run.py",
    "cli/export.py": "export/test_model.py",
    "cli/options.py": "cli/test_validate.py",
    "cli/tables.py": "cli/test_list_runs.py",
    "console.py": "cli/test_run.py",
    "distributed/failures.py": "runner/test_processes.py",
    "distributed/launch.py": "runner/test_processes.py",
    "distributed/rendezvous.py": "runner/test_processes.py",
    "records/events.py": "training/test_trainer.py",
    "records/origins.py": "runs/test_compatibility.py",
    "records/run.py": "runner/test_observers.py",
    "records/metric_rows.py": "cli/test_registry_commands.py",
    "export/parity.py": "export/test_model.py",
    "inference/answer_rows.py": "cli/test_predict.py",
    "init/image_files.py": "cli/test_predict.py",
    "inference/onnx_network.py": "export/test_model.py",
    "inference/pairs.py": "cli/test_predict.py",
    "serving/errors.py": "serving/test_openapi.py",
    "serving/model_info.py": "serving/test_app.py",
    "serving/settings.py": "cli/test_serve.py",
    "registry/kinds/data.py": "registry/test_kinds.py",
    "registry/kinds/evaluation.py": "registry/test_kinds.py",
    "registry/kinds/training.py": "registry/test_kinds.py",
    "runner/arguments.py": "test_hints.py",
    "runner/interrupts.py": "runner/test_api.py",
    "runner/launch.py": "runner/test_initial_weights.py",
    "spec/sections.py": "cli/test_show_plugin.py",
    "runs/environment.py": "runner/test_api.py",
    "runs/names.py": "runs/test_lookup.py",
    "runs/verdicts.py": "runs/test_compatibility.py",
    "cli/report.py": "reporting/test_report.py",
    "reporting/calibration.py": "reporting/test_report.py",
    "reporting/checklist.py": "reporting/test_report.py",
    "reporting/facts.py": "reporting/test_report.py",
    "reporting/html.py": "reporting/test_report.py",
    "reporting/overview.py": "reporting/test_report.py",
    "reporting/performance.py": "reporting/test_report.py",
    "reporting/pictures.py": "reporting/test_report.py",
    "reporting/provenance.py": "reporting/test_report.py",
    "spec/about.py": "runs/test_sessions.py",
    "runs/scorings.py": "runs/test_sessions.py",
}
# Files that are known to break the import law, with the reason.
UNLAWFUL: dict[str, str] = {}


class Import(NamedTuple):
    """One imported module or name, and the line of the statement."""

    target: str
    line: int


def name_of(path: Path) -> str:
    """Return `data/table.py` for a file of the package."""
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[Import]:
    """Yield every import: at run time, inside functions, and for type checkers."""
    nodes: list[ast.AST] = [tree_of(path)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, node)
            yield from (Import(f"{module}.{alias.name}", node.lineno) for alias in node.names)
        nodes.extend(ast.iter_child_nodes(node))


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """Return the module that a `from ... import` names, made absolute."""
    if not node.level:
        return node.module or ""
    package = ("sightx", *path.relative_to(PACKAGE).parts[: -node.level])
    return ".".join((*package, *filter(None, [node.module])))


def room_of(target: str) -> str:
    """Return the room of `sightx.records.table`; "" for what the package itself exports."""
    parts = target.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*ROOMS, *GUESTS) else ""


def guest_faults(room: str, target: str) -> Iterator[str]:
    """Yield why a guest must not import something."""
    _, first, *rest = target.split(".")
    if first == room or (room == "testing" and first in sightx.__all__):
        return  # contract tests load and run specs as a user does
    if first != "plugin":
        yield "import it from sightx.plugin"
    elif rest[0] not in sightx.plugin.__all__:
        yield "sightx.plugin exports no such name"


def broken_law(path: Path) -> Iterator[str]:
    """Yield every import of a file that the law forbids."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for target, line in imports(path):
        if target.partition(".")[0] != "sightx":
            continue
        place, other = f"{name_of(path)}:{line}: {target}", room_of(target)
        if room in GUESTS:
            yield from (f"{place}: {reason}" for reason in guest_faults(room, target))
        elif (room, other) == ("cli", "testing"):
            continue  # `sightx test-plugin` runs the contract tests
        elif other in GUESTS:
            yield f"{place}: built-ins are loaded like plugins"
        elif other and ROOMS.index(other) > ROOMS.index(room):
            yield f"{place}: {other} is to the right of {room}"
        elif not other and room != "cli":
            yield f"{place}: rooms import from rooms"


def test_the_rooms_are_those_of_the_design() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms - {"__init__", "plugin"} <= {*ROOMS, *GUESTS}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_imports_only_from_its_left(path: Path) -> None:
    if path in (PACKAGE / "__init__.py", PACKAGE / "plugin.py"):
        return
    assert [line for line in broken_law(path) if name_of(path) not in UNLAWFUL] == []


def test_every_forbidden_import_is_detected(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    cases = {
        "data/a.py": "def f():\n    from sightx.cli import main",
        "data/b.py": "from sightx import run",
        "builtin/c.py": "from sightx.registry.kinds import Model",
        "builtin/d.py": "from sightx.plugin import nothing",
        "builtin/h.py": "from sightx import load",
        "cli/e.py": "import sightx.builtin.models",
        "registry/f.py": "from ..spec import merge",
        "data/g.py": "if TYPE_CHECKING:\n    from sightx.runs import lookup",
    }
    for name, code in cases.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
        assert len(list(broken_law(path))) == 1, name
    fine = tmp_path / "data" / "fine.py"
    fine.write_text("from sightx.errors import Problem\n")
    assert list(broken_law(fine)) == []


def test_each_dependency_has_one_door() -> None:
    violations = [
        f"{name_of(path)}:{line}: {target}"
        for path in FILES
        for target, line in imports(path)
        if (doors := DOORS.get(target.partition(".")[0])) and not name_of(path).startswith(doors)
    ]
    assert violations == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LIMIT
    functions = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LIMIT} == {}


@pytest.mark.parametrize("face", [sightx, sightx.plugin], ids=lambda face: face.__name__)
def test_the_public_names_are_sorted_and_each_can_be_imported(face: ModuleType) -> None:
    listed = [name for name in dir(face) if name != "__version__"]
    assert sorted(set(face.__all__)) == sorted(face.__all__) == listed  # ruff keeps the order
    for name in face.__all__:
        assert getattr(face, name) is not None
    assert set(face._LAZY) <= set(face.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        face.nothing  # noqa: B018


def loaded(code: str, folder: Path) -> set[str]:
    """Return the top-level modules that a child process has loaded after running code."""
    code += "\nimport sys; print('\\n' + ' '.join(name for name in sys.modules if '.' not in name))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


COMMANDS = {
    "nothing": "",
    "plugin": "",
    "validate": "validate a.toml",
    "show": "show a.toml",
    "list-plugins": "list-plugins",
    "list-plugins --json": "list-plugins --json",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_light_commands_import_no_heavy_package(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.toml").write_text(
        'name = "a"\n[dataset]\nuse = "eyepacs"\nroot = "@eyepacs"\n[model]\nuse = "resnet50"\n'
        '[[preprocess]]\nuse = "crop-to-fundus"\n[[preprocess]]\nuse = "resize"\nsize = 224\n'
    )
    words = COMMANDS[name].split()
    call = f"try: main({words})\nexcept SystemExit as done: assert not done.code"
    code = (
        f"from sightx.cli.main import main\n{call}"
        if words
        else f"import sightx{'.plugin' if name == 'plugin' else ''}"
    )
    unwanted = {*HEAVY, *([] if "list-plugins" in words else ["rich"])}
    assert loaded(code, tmp_path) & unwanted == set()


def compared_names(path: Path) -> Iterator[str]:
    """Yield every comparison of a component's name with a constant, such as `x.use == "best"`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            values = [
                value for operand in operands for value in getattr(operand, "elts", [operand])
            ]
            attributes = {value.attr for value in values if isinstance(value, ast.Attribute)}
            if attributes & {"name", "use"} and any(isinstance(v, ast.Constant) for v in values):
                yield f"{path}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("room", ["builtin/checks", "data", "evaluation", "inference", "runner",
                                  "runs", "spec", "training"])  # fmt: skip
def test_rules_look_at_traits_and_never_at_the_name_of_a_component(room: str) -> None:
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    assert [line for path in files for line in compared_names(path)] == []


def test_a_comparison_with_the_name_of_a_component_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text('a.name == "best"\nb.c.use in ("x", "y")\na.name == b\na.kind == "c"\n')
    assert [line.partition(": ")[2] for line in compared_names(path)] == [
        "a.name == 'best'", "b.c.use in ('x', 'y')"
    ]  # fmt: skip


def test_every_module_has_a_test_that_mirrors_it() -> None:
    missing = {}
    for path in FILES:
        if path.name == "__init__.py":
            continue
        mirror = ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
        if not mirror.is_file():
            missing[name_of(path)] = mirror
    untested = sorted(set(missing) - set(TESTED_ELSEWHERE))
    assert untested == [], "write their tests, or add them to TESTED_ELSEWHERE"
    missing_tests = {
        name for name, where in TESTED_ELSEWHERE.items() if not (ROOT / "tests" / where).exists()
    }
    assert missing_tests == set()


def test_the_map_in_contributing_has_every_room() -> None:
    _, _, after = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## The map\n")
    section = after.partition("\n#")[0]
    named = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    rooms = {path.relative_to(ROOT).parts[1] for path in FILES if not path.name.startswith("__")}
    assert {f"sightx/{room}" + ("" if room.endswith(".py") else "/") for room in rooms} <= named
    assert [entry for entry in named if not (ROOT / entry).exists()] == []


TEXT_CALLS = {"read_text": 0, "write_text": 1, "open": 1}
"""Calls that take an encoding, and the position from which it must be a keyword."""


def calls_without_encoding(path: Path) -> Iterator[str]:
    """Yield calls that open a text file in the encoding of the locale."""
    for node in ast.walk(tree_of(path)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, keywords = node.func.attr, {keyword.arg for keyword in node.keywords}
        if name not in TEXT_CALLS or "encoding" in keywords:
            continue
        arguments = [part.value for part in node.args if isinstance(part, ast.Constant)]
        modes = [
            text for text in arguments if isinstance(text, str) and text in ("r", "w", "a", "x")
        ]
        of_path = name != "open" and len(node.args) == TEXT_CALLS[name]
        if of_path or (name == "open" and modes and len(node.args) == 1):
            yield f"{name_of(path)}:{node.lineno}: {name} without encoding"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_text_files_are_utf8_in_every_locale(path: Path) -> None:
    faults = [
        fault
        for fault in calls_without_encoding(path)
        if not re.search(r"registry/(loading|provenance)", fault)  # of importlib.metadata
    ]
    assert faults == []
