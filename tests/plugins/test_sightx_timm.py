"""The package through its entry point; what needs timm itself is tested in the package."""

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


def test_the_package_brings_one_model_through_its_entry_point(sightx_timm: Path) -> None:
    found = loading.load_registry(project.find_project(ROOT))
    (entry,) = [entry for entry in found.entries("model") if entry.component.name == "timm"]
    assert str(entry.plugin) == "timm (sightx-timm 0.1.0)"
    assert entry.summary == "Any image network of timm."
    assert entry.place.startswith(str(PACKAGE / "src"))
    assert found.find("model", "timm") is found.find("model", "sightx-timm:timm")


def test_the_scan_of_the_projects_folder_passes_over_a_package_with_a_pyproject() -> None:
    found = loading.load_registry(project.find_project(ROOT))
    own = {plugin.name: plugin.state for plugin in found.plugins if not plugin.distribution}
    assert own == {"alerts": "loaded", "local_average": "loaded"}


def test_the_shipped_spec_uses_it_without_importing_timm_or_torch(sightx_timm: Path) -> None:
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


def test_settings_are_refused_at_their_place(sightx_timm: Path) -> None:
    sets = ["model.weights=imagenet", "model.drop_rate=1.0", "model.drop_pth_rate=0.1"]
    with pytest.raises(sightx.SpecError) as caught:
        sightx.load(SPEC, sets)
    said = {problem.path: problem for problem in caught.value.problems}
    assert set(said) == {"model.weights", "model.drop_rate", "model.drop_pth_rate"}
    assert said["model.drop_pth_rate"].hint == "did you mean 'drop_path_rate'?"


def test_the_spec_names_the_distribution_that_it_lacks() -> None:
    if importlib.util.find_spec("sightx_timm"):
        pytest.skip("sightx-timm is installed here")
    with pytest.raises(sightx.SpecError, match=r"eyepacs_timm\.toml:9:1: .*sightx-timm"):
        sightx.load(SPEC)


def test_what_it_depends_on_is_declared() -> None:
    said = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    names = {line.partition(">")[0] for line in said["dependencies"]}
    assert names == {"sightx", "timm"}
    assert "timm" not in (ROOT / "pyproject.toml").read_text()


def test_without_timm_a_run_says_how_to_get_it(
    sightx_timm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    model = sightx.load(SPEC).model
    assert isinstance(model, Model)
    with pytest.raises(sightx.PluginError, match=r"no-timm.*pip install timm"):
        model.normalization()


@pytest.mark.slow
def test_its_own_tests_pass(sightx_timm: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    paths = os.pathsep.join([str(sightx_timm), str(PACKAGE / "src"), *sys.path])
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE)],
        check=True, cwd=sightx_timm, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip


@pytest.mark.slow
def test_pip_installs_it(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="pip cannot build here without a connection")
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
    assert predicted.decision in run.data["classes"]
