"""Every kind of plugin as `new-plugin` writes it: imported, validated, tested, installed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from sightx.registry.kinds import KINDS
from support.plugins import install_editable

OTHERS = ["checks", "commands"]
ALL = [*(cls.kind for cls in KINDS), *OTHERS]
HEAVY = {"model": ["network"], "loss": ["modules"]}
CHILD = """
import json, sys
import pytest, sightx
specs, tests = json.loads(sys.argv[1])
for spec in specs:
    sightx.load(spec)
sys.exit(pytest.main(["-q", "--import-mode=importlib", "-p", "no:cacheprovider", "-c", sys.argv[2],
                      "-W", "error", *tests]))
"""


@pytest.fixture
def packages(sightx, working_folder: Path) -> dict[str, Path]:
    """A package of each kind."""
    for kind in ALL:
        assert sightx("new-plugin", f"sx-{kind}", "--kind", kind).code == 0
    return {kind: working_folder / f"sx-{kind}" for kind in ALL}


def environment(*paths: Path) -> dict[str, str]:
    inherited = os.environ.get("PYTHONPATH")
    joined = os.pathsep.join([*map(str, paths), *([inherited] if inherited else [])])
    return {**os.environ, "PYTHONPATH": joined, "OMP_NUM_THREADS": "1"}


def test_every_kind_validates_and_passes_its_own_tests(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("sightx.testing")
    site = tmp_path / "site"
    for package in packages.values():
        install_editable(package, site)
    specs = [str(next((p / "specs").glob("*.toml"))) for p in packages.values()]
    tests = [str(p / "tests") for p in packages.values()]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([specs, tests]), os.devnull],
        env=environment(site, *(package / "src" for package in packages.values())),
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_packages_are_complete(packages: dict[str, Path]) -> None:
    for kind, package in packages.items():
        files = {path.relative_to(package).as_posix() for path in package.rglob("*.*")}
        main = kind if kind in OTHERS else "components"
        assert files == {
            "pyproject.toml", "README.md", f"src/sx_{kind}/__init__.py",
            f"src/sx_{kind}/{main}.py", f"src/sx_{kind}/py.typed",
            f"tests/test_sx_{kind}.py", f"specs/sx-{kind}.toml",
            *(f"src/sx_{kind}/{module}.py" for module in HEAVY.get(kind, ())),
        }  # fmt: skip
        for path in package.rglob("*.*"):
            text = path.read_text()
            assert "$" not in text, path
            assert all(len(line) <= 100 for line in text.splitlines()), path
        for path in package.rglob("*.py"):
            code = ast.parse(path.read_text())
            assert not [node for node in ast.walk(code) if isinstance(node, ast.Pass)], path
        metadata = tomllib.loads((package / "pyproject.toml").read_text())
        assert metadata["project"]["entry-points"]["sightx"] == {f"sx-{kind}": f"sx_{kind}"}
        assert metadata["build-system"]["build-backend"] == "hatchling.build"


def outer_venv(folder: Path) -> str:
    """Create a virtual environment that sees the packages of this one; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    outer = [path for path in sys.path if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})\n" for path in outer]
    (next(folder.glob("lib/*/site-packages")) / "outer.pth").write_text("".join(lines))
    return str(folder / "bin" / "python")


@pytest.mark.slow
def test_every_kind_can_be_installed_tested_and_run(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("hatchling")
    python = outer_venv(tmp_path / "venv")
    editable = [option for package in packages.values() for option in ("-e", str(package))]
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", *editable],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for kind, package in packages.items():
        tested = subprocess.run(
            [python, "-m", "pytest", "-q"],
            cwd=package, capture_output=True, text=True, check=False, env=environment(),
        )  # fmt: skip
        assert tested.returncode == 0, tested.stdout
        run = subprocess.run(
            [python, "-m", "sightx", "run", f"specs/sx-{kind}.toml", "--quiet"],
            cwd=package, capture_output=True, text=True, check=False, env=environment(),
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        recorded = json.loads((Path(run.stdout.strip()) / "environment.json").read_text())
        origins = [*recorded["components"], *recorded["observers"]]
        if kind in OTHERS:
            continue
        (mine,) = [origin for origin in origins if origin["name"] == f"sx-{kind}"]
        assert (mine["kind"], mine["distribution"]) == (kind, f"sx-{kind}")


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("metric", ["sx_tiny.py"]),
        ("model", ["sx_tiny/__init__.py", "sx_tiny/components.py", "sx_tiny/network.py"]),
        ("loss", ["sx_tiny/__init__.py", "sx_tiny/components.py", "sx_tiny/modules.py"]),
    ],
)
def test_a_local_plugin_goes_into_the_projects_folder(
    sightx, working_folder: Path, child, kind: str, files: list[str]
) -> None:
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    done = sightx("new-plugin", "sx-tiny", "--kind", kind, "--file")
    assert done.code == 0
    *written, following = done.out.splitlines()
    assert written == [*(str(working_folder / "mine" / file) for file in files),
                       str(working_folder / "specs" / "sx-tiny.toml")]  # fmt: skip
    assert following == "next: sightx test-plugin sx_tiny; sightx run specs/sx-tiny.toml"
    assert child("validate", "specs/sx-tiny.toml").code == 0
    tested = child("test-plugin", "sx_tiny")
    assert (tested.code, tested.out.splitlines()[-1][-11:]) == (0, " 0 failures"), tested.out
    listed = json.loads(child("list-plugins", kind, "--json").out)["components"]
    (mine,) = [item for item in listed if item["name"] == "sx-tiny"]
    component = working_folder / "mine" / files[-2 if len(files) > 1 else 0]
    assert mine["place"].startswith(f"{component}:")
    assert f"class SxTiny({kind.capitalize()})" in component.read_text()


def test_a_local_plugin_needs_a_folder(sightx, working_folder: Path) -> None:
    done = sightx("new-plugin", "sx-tiny", "--kind", "metric", "--file")
    assert (done.code, done.out) == (2, "")
    assert done.lines[0].startswith("error[usage] this project has no plugin folder; write ")
    done = sightx("new-plugin", "sx-tiny", "--kind", "metric", "--file", "--output", "elsewhere")
    assert done.code == 0
    assert (working_folder / "elsewhere" / "sx_tiny.py").is_file()
    assert done.out.splitlines()[-1].startswith(
        'next: add "elsewhere" to plugins below [tool.sightx]'
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("random", "'random' is a module of Python's standard library"),
        ("torch", "a module 'torch' is installed already"),
        ("rich", "a module 'rich' is installed already"),
        ("class", "'class' is not a plugin name"),
        ("3d", "'3d' is not a plugin name"),
        ("my plugin", "'my plugin' is not a plugin name"),
        ("../up", "'../up' is not a plugin name"),
        ("a--b", "'a--b' is not a plugin name"),
        ("Big", "'Big' is not a plugin name"),
        ("resnet50", "the model 'resnet50' is provided by builtin (sightx "),
    ],
)
def test_an_invalid_or_taken_name_is_refused(
    sightx, working_folder: Path, name: str, message: str
) -> None:
    done = sightx("new-plugin", name, "--kind", "model")
    assert done.code == 2
    assert done.lines[0].startswith(f"error[usage] {message}")
    assert list(working_folder.iterdir()) == []


def test_nothing_is_overwritten(sightx, working_folder: Path) -> None:
    (working_folder / "sx-one").mkdir()
    (working_folder / "sx-one" / "precious").write_text("")
    done = sightx("new-plugin", "sx-one", "--kind", "loss")
    assert (done.code, done.lines) == (
        2, ["error[usage] sx-one exists already; nothing is overwritten; choose another name"]
    )  # fmt: skip
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["."]\n')
    (working_folder / "specs").mkdir()
    (working_folder / "specs" / "sx-two.toml").write_text("mine")
    assert sightx("new-plugin", "sx-two", "--kind", "loss", "--file").code == 2
    assert (working_folder / "specs" / "sx-two.toml").read_text() == "mine"
    assert not (working_folder / "sx_two").exists()


def test_an_unknown_kind_is_refused_with_a_suggestion(sightx) -> None:
    done = sightx("new-plugin", "sx-one", "--kind", "modle")
    assert (done.code, done.lines) == (
        2, ["error[usage] no kind is called 'modle'; did you mean 'model'?"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"), [("loss", "loss"), ("component", "model"), ("conv-net", "model")]
)
def test_the_name_of_the_class_does_not_clash_with_other_names_in_its_file(
    sightx, working_folder: Path, name: str, kind: str
) -> None:
    assert sightx("new-plugin", name, "--kind", kind).code == 0
    code = (working_folder / name / "src" / name.replace("-", "_") / "components.py").read_text()
    classes = [node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ClassDef)]
    title = "".join(part.capitalize() for part in [*name.split("-"), kind])
    assert title in classes
    assert len(set(classes)) == len(classes)


def test_the_templates_are_in_the_wheel() -> None:
    folder = resources.files("sightx.cli") / "templates"
    names = {entry.name for entry in folder.iterdir()}
    parts = {f"{kind}.{part}" for kind in ALL for part in ("component", "test")}
    parts |= {f"{kind}.readme" for kind in OTHERS}
    parts |= {f"{kind}.{module}" for kind, modules in HEAVY.items() for module in modules}
    shared = {"contract_test", "hook", "package", "pyproject", "readme", "spec"}
    assert names == {f"{part}.tmpl" for part in parts | shared}
    wheel = pytest.importorskip("hatchling.builders.wheel")
    root = Path(__file__).parents[2]
    builder = wheel.WheelBuilder(str(root))
    shipped = {
        Path(file.distribution_path).name
        for file in builder.recurse_included_files()
        if file.distribution_path.startswith("sightx/cli/templates/")
    }
    assert shipped == names


def test_a_local_plugin_may_have_checks_or_a_command(sightx, working_folder: Path, child) -> None:
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    for kind in OTHERS:
        assert sightx("new-plugin", f"sx-{kind}-tiny", "--kind", kind, "--file").code == 0
    warned = child("validate", "specs/sx-checks-tiny.toml", "--set", "training.batch_size=30")
    assert "warning[sx-checks-tiny] training.batch_size: 30 is not a multiple of 8" in warned.err
    printed = child("sx-commands-tiny", "specs/sx-commands-tiny.toml")
    assert printed.out.splitlines()[0] == "dataset synthetic-fundus 1"
    for kind, title in (("checks", "check"), ("commands", "command")):
        tested = child("test-plugin", f"sx_{kind}_tiny")
        assert tested.code == 0, tested.out
        assert tested.out.startswith(f"{title} sx-{kind}-tiny: ")
    assert (
        sightx("new-plugin", "sx-x", "--kind", "check")
        .lines[-1]
        .endswith("no kind is called 'check'; did you mean 'checks'?")
    )
