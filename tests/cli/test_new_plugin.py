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

ALL = [cls.kind for cls in KINDS]
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
def packages(sightx, here: Path) -> dict[str, Path]:
    """A package of each kind."""
    for kind in ALL:
        assert sightx("new-plugin", f"sx-{kind}", "--kind", kind).code == 0
    return {kind: here / f"sx-{kind}" for kind in ALL}


def lay(package: Path, site: Path) -> None:
    """Write what pip leaves of an editable install: a dist-info, and a path to the source."""
    said = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = site / f"{said['name'].replace('-', '_')}-{said['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {said['name']}\nVersion: {said['version']}\n"
    )
    points = said["entry-points"]["sightx"].items()
    lines = ["[sightx]", *(f"{name} = {value}" for name, value in points)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def environment(*paths: Path) -> dict[str, str]:
    joined = os.pathsep.join(map(str, paths))
    return {**os.environ, "PYTHONPATH": joined, "OMP_NUM_THREADS": "1"}


def test_every_kind_validates_and_passes_its_own_tests(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("sightx.testing")
    site = tmp_path / "site"
    for package in packages.values():
        lay(package, site)
    specs = [str(next((p / "specs").glob("*.toml"))) for p in packages.values()]
    tests = [str(p / "tests") for p in packages.values()]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([specs, tests]), os.devnull],
        env=environment(site, *(package / "src" for package in packages.values())),
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_written_is_whole(packages: dict[str, Path]) -> None:
    for kind, package in packages.items():
        files = {path.relative_to(package).as_posix() for path in package.rglob("*.*")}
        assert files == {
            "pyproject.toml", "README.md", f"src/sx_{kind}/__init__.py", f"src/sx_{kind}/py.typed",
            f"tests/test_sx_{kind}.py", f"specs/sx-{kind}.toml",
        }  # fmt: skip
        for path in package.rglob("*.*"):
            text = path.read_text()
            assert "$" not in text, path
            assert all(len(line) <= 100 for line in text.splitlines()), path
        code = ast.parse((package / "src" / f"sx_{kind}" / "__init__.py").read_text())
        assert not [node for node in ast.walk(code) if isinstance(node, ast.Pass)]
        said = tomllib.loads((package / "pyproject.toml").read_text())
        assert said["project"]["entry-points"]["sightx"] == {f"sx-{kind}": f"sx_{kind}"}
        assert said["build-system"]["build-backend"] == "hatchling.build"


def outer_venv(folder: Path) -> str:
    """Make a fresh environment that sees what this one has, and return its Python."""
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
    editable = [word for package in packages.values() for word in ("-e", str(package))]
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
        brought = [*recorded["components"], *recorded["observers"]]
        (mine,) = [each for each in brought if each["name"] == f"sx-{kind}"]
        assert (mine["kind"], mine["distribution"]) == (kind, f"sx-{kind}")


def test_one_file_goes_into_the_projects_folder(sightx, here: Path, child) -> None:
    (here / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    done = sightx("new-plugin", "sx-tiny-net", "--kind", "model", "--file")
    assert done.code == 0
    assert (here / "mine" / "sx_tiny_net.py").is_file()
    assert done.out.splitlines()[-1] == (
        f"next: sightx test-plugin sx_tiny_net; sightx run {here}/specs/sx-tiny-net.toml"
    )
    assert child("validate", "specs/sx-tiny-net.toml").code == 0
    listed = json.loads(child("list-plugins", "model", "--json").out)["components"]
    (mine,) = [item for item in listed if item["name"] == "sx-tiny-net"]
    assert mine["place"].startswith(str(here / "mine" / "sx_tiny_net.py:"))
    assert "class SxTinyNet(Model)" in (here / "mine" / "sx_tiny_net.py").read_text()


def test_one_file_needs_a_folder(sightx, here: Path) -> None:
    done = sightx("new-plugin", "sx-tiny", "--kind", "loss", "--file")
    assert (done.code, done.out) == (2, "")
    assert done.lines[0].startswith("error[usage] this project has no folder of plugins; write ")
    done = sightx("new-plugin", "sx-tiny", "--kind", "loss", "--file", "--output", "there")
    assert done.code == 0
    assert (here / "there" / "sx_tiny.py").is_file()
    assert done.out.splitlines()[-1].startswith('next: add "there" to plugins below [tool.sightx]')


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("random", "'random' is a module of Python's standard library"),
        ("torch", "a module 'torch' is installed already"),
        ("rich", "a module 'rich' is installed already"),
        ("class", "'class' is no name for a plugin"),
        ("3d", "'3d' is no name for a plugin"),
        ("my plugin", "'my plugin' is no name for a plugin"),
        ("../up", "'../up' is no name for a plugin"),
        ("a--b", "'a--b' is no name for a plugin"),
        ("Big", "'Big' is no name for a plugin"),
        ("resnet50", "the model 'resnet50' is brought by builtin (sightx "),
    ],
)
def test_a_name_that_cannot_be_is_refused(sightx, here: Path, name: str, message: str) -> None:
    done = sightx("new-plugin", name, "--kind", "model")
    assert done.code == 2
    assert done.lines[0].startswith(f"error[usage] {message}")
    assert list(here.iterdir()) == []


def test_nothing_is_overwritten(sightx, here: Path) -> None:
    (here / "sx-one").mkdir()
    (here / "sx-one" / "precious").write_text("")
    done = sightx("new-plugin", "sx-one", "--kind", "loss")
    assert (done.code, done.lines) == (
        2, ["error[usage] sx-one is there already; nothing is overwritten; choose another name"]
    )  # fmt: skip
    (here / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["."]\n')
    (here / "specs").mkdir()
    (here / "specs" / "sx-two.toml").write_text("mine")
    assert sightx("new-plugin", "sx-two", "--kind", "loss", "--file").code == 2
    assert (here / "specs" / "sx-two.toml").read_text() == "mine"
    assert not (here / "sx_two.py").exists()


def test_an_unknown_kind_is_met_with_the_nearest(sightx) -> None:
    done = sightx("new-plugin", "sx-one", "--kind", "modle")
    assert (done.code, done.lines) == (
        2, ["error[usage] no kind is called 'modle'; did you mean 'model'?"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"), [("loss", "loss"), ("component", "model"), ("focal", "loss")]
)
def test_a_class_never_takes_a_name_that_its_file_needs(
    sightx, here: Path, name: str, kind: str
) -> None:
    assert sightx("new-plugin", name, "--kind", kind).code == 0
    code = (here / name / "src" / name / "__init__.py").read_text()
    classes = [node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ClassDef)]
    assert f"{name.capitalize()}{kind.capitalize()}" in classes
    assert len(set(classes)) == len(classes)


def test_the_templates_are_in_the_wheel() -> None:
    folder = resources.files("sightx.cli") / "templates"
    names = {entry.name for entry in folder.iterdir()}
    parts = {f"{kind}.{part}.tmpl" for kind in ALL for part in ("component", "test", "spec")}
    assert names == parts | {"common.tmpl", "pyproject.tmpl", "readme.tmpl"}
    wheel = pytest.importorskip("hatchling.builders.wheel")
    root = Path(__file__).parents[2]
    builder = wheel.WheelBuilder(str(root))
    shipped = {
        Path(file.distribution_path).name
        for file in builder.recurse_included_files()
        if file.distribution_path.startswith("sightx/cli/templates/")
    }
    assert shipped == names
