"""Golden results: what the shipped specs compute, compared to the bit.

Each shipped spec runs with tiny settings on drawn data. `results.json` holds, per machine, the loss
of every step, the hashes of the final weights and of the predictions, and all metrics. On a machine
that is not in the file, losses must agree with the recorded ones to a relative 1e-3.

A refactoring must not change any of it. To record a new machine, or a change that a decision record
explains: `SIGHTX_REGENERATE=1 python -m pytest tests/golden -m "slow or not slow"`.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import simplejpeg
import torch
import torchvision
from PIL import Image

from sightx import Run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results.json"

SMALL = [
    "training.epochs=2",
    "observer.report.enabled=false",
    "execution.device=cpu",
    "execution.threads=1",
]
RUNS: dict[str, tuple[str, list[str], int]] = {
    # name: spec, overrides, processes
    "catfish": ("catfish_simplenet", ["training.batch_size=8"], 1),
    "cifar10": ("cifar10_cnn", ["training.batch_size=16"], 1),
    "eyepacs": (
        "eyepacs_resnet50",
        ["model.weights=none", "training.batch_size=4", "preprocess.resize.size=64"],
        1,
    ),
    "local-average": (
        "eyepacs_local_average",
        ["model.weights=none", "training.batch_size=4", "preprocess.0.radius=20.0"],
        1,
    ),
    "quickstart": (
        "quickstart",
        ["dataset.patients=400", "dataset.size=32", "preprocess.resize.size=32"],
        1,
    ),
    "quickstart-bf16": (
        "quickstart",
        [
            "dataset.patients=400", "dataset.size=32", "preprocess.resize.size=32",
            "training.precision=bf16", "training.micro_batch_size=12",
            "training.clip_grad_norm=1.0",
        ],
        1,
    ),
    "three-class": (
        "three_class_early_stopping",
        ["dataset.patients=240", "dataset.size=32", "preprocess.resize.size=32"],
        1,
    ),
    "two-processes": (
        "quickstart",
        [
            "dataset.patients=400", "dataset.size=32", "preprocess.resize.size=32",
            "training.micro_batch_size=16", "loss.use=inverse-frequency-cross-entropy",
        ],
        2,
    ),
}  # fmt: skip


def machine() -> str:
    """Name everything that may decide the last bits of a float."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    versions = {
        "torch": torch, "torchvision": torchvision, "numpy": np, "pillow": PIL,
        "simplejpeg": simplejpeg,
    }  # fmt: skip
    packages = ", ".join(f"{name} {module.__version__}" for name, module in versions.items())
    return f"{cpu}, {torch.backends.cpu.get_cpu_capability()}, {packages}"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay a project with the shipped specs, their plugins and the data that they name."""
    root = tmp_path_factory.mktemp("golden")
    shutil.copytree(ROOT / "specs", root / "specs")
    plugins = json.dumps([str(ROOT / "plugins"), str(HERE / "plugins")])
    (root / "pyproject.toml").write_text(
        f'[tool.sightx]\nplugins = {plugins}\nobservers = ["record-losses"]\n'
    )
    places = {name: str(root / name) for name in ("catfish", "cifar10", "eyepacs")}
    text = "".join(f"{name} = {json.dumps(path)}\n" for name, path in places.items())
    (root / "sightx.local.toml").write_text(f"[places]\n{text}")
    draw_catfish(root / "catfish")
    draw_cifar10(root / "cifar10")
    draw_eyepacs(root / "eyepacs")
    return root


def draw(rng: np.random.Generator, size: int, label: int) -> np.ndarray[Any, Any]:
    """Return a noisy gradient, uint8 (size, size, 3), whose brightness tells the class."""
    slope = np.linspace(0, 60, size)[:, None, None] * rng.uniform(-1, 1, 3)
    noise = rng.normal(0, 12, (size, size, 3))
    return (60 + 35 * label + slope + noise).clip(0, 255).astype(np.uint8)


def draw_catfish(root: Path) -> None:
    rng = np.random.default_rng(1)
    for split, count in {"train": 20, "validation": 8, "test": 8}.items():
        for label, name in enumerate(("cat", "fish")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(draw(rng, 80, 2 * label))
                image.save(root / split / name / f"{number}.jpg", quality=90)


def draw_cifar10(root: Path) -> None:
    rng = np.random.default_rng(2)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        labels = [number % 10 for number in range(20)]
        pixels = [draw(rng, 32, label // 2).transpose(2, 0, 1).reshape(-1) for label in labels]
        batch = {b"data": np.stack(pixels), b"labels": labels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def draw_eyepacs(root: Path) -> None:
    rng = np.random.default_rng(3)
    (root / "train").mkdir(parents=True)
    lines = ["image,level"]
    for patient in range(20):
        for eye in ("left", "right"):
            level = patient % 5
            pixels = np.zeros((120, 150, 3), np.uint8)
            pixels[10:110, 20:130] = draw(rng, 120, level)[:100, :110]
            name = f"{patient}_{eye}"
            Image.fromarray(pixels).save(root / "train" / f"{name}.jpeg", quality=92)
            lines.append(f"{name},{level}")
    (root / "trainLabels.csv").write_text("\n".join(lines) + "\n")


def execute(project: Path, runs: Path, spec: str, overrides: list[str], processes: int) -> Run:
    """Run a spec as a command, with one thread per process, and return its run."""
    sets = [option for override in (*SMALL, *overrides) for option in ("--set", override)]
    command = [
        sys.executable, "-m", "sightx", "run", f"specs/{spec}.toml", "--quiet", "--runs", str(runs),
        *sets, *(["--processes", str(processes)] if processes > 1 else []),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Run(next(runs.iterdir()))


def facts(run: Run) -> dict[str, Any]:
    """Return what a run has computed, without times."""
    result = {split: run.result[split] for split in ("validation", "test") if split in run.result}
    metrics = [
        {key: value for key, value in row.items() if key.startswith(("train/", "validation/"))}
        for row in map(json.loads, (run.directory / "metrics.jsonl").read_text().splitlines())
    ]
    return {
        "losses": (run.directory / "losses.txt").read_text().split(),
        "metrics": metrics,
        "result": result,
        "weights": {
            name: _hash(run.checkpoint(name) / "model.safetensors") for name in run.checkpoints
        },
        "predictions": {
            path.name: _hash(path)
            for path in sorted((run.directory / "predictions").iterdir())
            if path.suffix != ".json"  # it repeats the hashes of the others
        },
    }


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def recorded() -> Iterator[dict[str, Any]]:
    """Return the recorded results by machine; with SIGHTX_REGENERATE, write them at the end."""
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    yield results
    if os.environ.get("SIGHTX_REGENERATE"):
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


# Other tests run these two every time: the plugin of the spec, and two processes beside one.
LONG = {
    name: pytest.param(name, marks=pytest.mark.slow) for name in ("local-average", "two-processes")
}


@pytest.mark.parametrize("name", [LONG.get(name, name) for name in RUNS])
def test_shipped_specs_compute_what_they_did(
    name: str, project: Path, tmp_path: Path, recorded: dict[str, Any]
) -> None:
    actual = facts(execute(project, tmp_path / "runs", *RUNS[name]))

    if os.environ.get("SIGHTX_REGENERATE"):
        recorded.setdefault(machine(), {})[name] = actual
    if machine() in recorded:
        expected = recorded[machine()][name]
        assert actual["losses"] == expected["losses"]
        assert actual == expected
    else:
        expected = next(iter(recorded.values()))[name]
        losses, others = (
            np.array([float.fromhex(loss) for loss in run["losses"]]) for run in (actual, expected)
        )
        first = len(losses) // 2  # rounding grows from step to step
        rtol = 2e-2 if "bf16" in name else 1e-3
        np.testing.assert_allclose(losses[:first], others[:first], rtol=rtol)
