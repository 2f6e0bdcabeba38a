"""The package through its entry point; tests that need timm are in the package."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sightx
from sightx.plugin import Model
from sightx.registry import loading, project

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "plugins" / "sightx-timm"
SPEC = ROOT / "plugins" / "sightx-timm" / "specs" / "eyepacs_timm.toml"


def test_the_package_provides_one_model_through_its_entry_point(sightx_timm: Path) -> None:
    registry = loading.load_registry(project.find_project(ROOT))
    (entry,) = [entry for entry in registry.entries("model") if entry.component.name == "timm"]
    assert str(entry.plugin) == "timm (sightx-timm 0.1.0)"
    assert entry.summary == "Any image network of timm."
    assert entry.place.startswith(str(PACKAGE / "src"))
    assert registry.find("model", "timm") is registry.find("model", "sightx-timm:timm")


def test_the_project_does_not_load_the_package_from_its_plugin_folder() -> None:
    registry = loading.load_registry(project.find_project(ROOT))
    own = {plugin.name: plugin.state for plugin in registry.plugins if not plugin.distribution}
    assert own == {"alerts": "loaded", "local_average": "loaded"}


def test_the_shipped_spec_loads_without_importing_timm_or_torch(sightx_timm: Path) -> None:
    code = (
        "import sys, sightx; e = sightx.load(sys.argv[1]); print(e.tables()['model']);"
        "print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    paths = os.pathsep.join([str(sightx_timm), str(PACKAGE / "src")])
    done = subprocess.run(
        [sys.executable, "-c", code, str(SPEC)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    model, imported = done.stdout.splitlines()
    assert "'use': 'sightx-timm:timm'" in model
    assert "'weights': 'pretrained'" in model
    assert imported == "[]"


def test_wrong_settings_are_refused_with_their_keys(sightx_timm: Path) -> None:
    sets = ["model.weights=imagenet", "model.drop_rate=1.0", "model.drop_pth_rate=0.1"]
    with pytest.raises(sightx.SpecError) as caught:
        sightx.load(SPEC, sets)
    problems = {problem.path: problem for problem in caught.value.problems}
    assert set(problems) == {"model.weights", "model.drop_rate", "model.drop_pth_rate"}
    assert problems["model.drop_pth_rate"].hint == "did you mean 'drop_path_rate'?"


def test_without_the_package_the_error_names_it() -> None:
    if importlib.util.find_spec("sightx_timm"):
        pytest.skip("sightx-timm is installed here")
    with pytest.raises(sightx.SpecError, match=r"eyepacs_timm\.toml:9:1: .*sightx-timm"):
        sightx.load(SPEC)


def test_dependencies_are_declared() -> None:
    metadata = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    names = {line.partition(">")[0] for line in metadata["dependencies"]}
    assert names == {"sightx", "timm"}
    assert "timm" not in (ROOT / "pyproject.toml").read_text()


def test_without_timm_the_error_explains_how_to_install_it(
    sightx_timm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    model = sightx.load(SPEC).model
    assert isinstance(model, Model)
    with pytest.raises(sightx.PluginError, match=r"no-timm.*pip install timm"):
        model.normalization()


@pytest.mark.slow
def test_the_tests_of_the_package_pass(sightx_timm: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    paths = os.pathsep.join([str(sightx_timm), str(PACKAGE / "src"), *sys.path])
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE)],
        check=True, cwd=sightx_timm, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip


@pytest.mark.slow
def test_pip_installs_the_package(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="pip cannot build the package without a connection")
    words = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", *words, "--target", str(tmp_path), str(PACKAGE)], check=True
    )
    assert (tmp_path / "sightx_timm" / "__init__.py").is_file()
    (info,) = tmp_path.glob("sightx_timm-*.dist-info/entry_points.txt")
    assert info.read_text().split() == ["[sightx]", "timm", "=", "sightx_timm"]


@pytest.mark.slow
def test_a_network_of_timm_trains(sightx_timm: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    sets = [
        "dataset.use=synthetic-fundus", "dataset.patients=400", "model.arch=resnet10t",
        "model.weights=none", "preprocess=[{use = 'resize', size = 64}]", "training.epochs=1",
    ]  # fmt: skip
    run = sightx.run(sightx.load(SPEC, sets), runs=tmp_path / "runs")
    assert run.result["status"] == "finished"
    assert "test/qwk" in run.result["test"]
    image = tmp_path / "eye.png"
    from PIL import Image

    Image.new("RGB", (80, 60), (120, 60, 30)).save(image)
    predicted = sightx.Predictor.load(run.directory).predict(image)
    assert predicted.class_name in run.data["classes"]
