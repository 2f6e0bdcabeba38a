"""Small data to test components with: images, a table, predictions, a history, a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sightx import Run
    from sightx.plugin import Component, Experiment, History, ImageTable, Observer, Predictions

    Array = np.ndarray[Any, Any]

_SPEC = """
name = "contract"
dataset = { use = "image-folder", root = "data" }
split = { use = "given" }
preprocess = [{ use = "resize", size = 8 }]
normalize = { use = "imagenet" }
model = { use = "simplenet", hidden = [4] }
training = { epochs = 2, batch_size = 4, monitor = "validation/accuracy" }
execution = { device = "cpu", threads = 1 }
"""


def images(
    n: int = 12,
    size: tuple[int, int] = (8, 12),
    channels: int = 3,
    classes: int = 3,
    seed: int = 0,
) -> tuple[Tensor, Array]:
    """Return uint8 (n, channels, *size) and int64 (n,) labels; higher classes are brighter."""
    import numpy as np
    import torch

    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    levels = 40 + 176 * labels / max(classes - 1, 1)
    noise = rng.normal(0, 25, (n, channels, *size))
    pixels = (levels.reshape(-1, 1, 1, 1) + noise).clip(0, 255).astype(np.uint8)
    return torch.from_numpy(pixels), labels


def table(
    n: int = 90,
    classes: int = 3,
    *,
    groups: bool = True,
    split: bool = True,
    ordered: bool = False,
    seed: int = 0,
) -> ImageTable:
    """Return a table of n images in memory.

    A group has three samples of one class; two thirds of the groups are in the train split.
    """
    import numpy as np
    import pandas as pd

    from sightx.plugin import ImageTable

    pixels, _ = images(n, classes=classes, seed=seed)
    rows = np.arange(n)
    group = rows // (3 * classes) * classes + rows % classes
    columns: dict[str, Any] = {
        "path": [f"{row:04}.png" for row in rows],
        "label": rows % classes,
        "group": [f"group{number:03}" if groups else "" for number in group],
    }
    if split:
        splits = np.array(["train", "train", "train", "train", "validation", "test"], dtype=object)
        columns["split"] = splits[group % 6]
    order = np.random.default_rng(seed).permutation(n)
    frame = pd.DataFrame(columns).iloc[order].reset_index(drop=True)
    arrays = pixels.movedim(1, -1).numpy()
    names = tuple(f"class{number}" for number in range(classes))
    return ImageTable(frame, names, arrays.__getitem__, ordered=ordered)


def predictions(
    n: int = 60, classes: int = 4, *, accuracy: float = 0.7, ordered: bool = True, seed: int = 0
) -> Predictions:
    """Return n predictions with the given accuracy, from three sites; arrays are read-only."""
    import numpy as np

    from sightx.plugin import Predictions

    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    is_wrong = np.arange(n) >= round(accuracy * n)
    decisions = (labels + is_wrong * rng.integers(1, classes, n)) % classes
    outputs = rng.normal(0, 1, (n, classes))
    outputs[np.arange(n), decisions] = outputs.max(axis=1, initial=0) + rng.uniform(0.5, 3, n)
    exponentials = np.exp(outputs)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    arrays = (labels, outputs.astype(np.float32), probabilities.astype(np.float32), decisions)
    for array in arrays:
        array.flags.writeable = False
    return Predictions(
        tuple(f"{row:04}.png" for row in range(n)),
        ("",) * n,
        *arrays,
        classes=tuple(f"class{number}" for number in range(classes)),
        ordered=ordered,
        columns={"site": np.array([f"site{row % 3}" for row in range(n)], dtype=object)},
    )


def columns(component: Component, n: int) -> dict[str, Array]:
    """Return texts (n,) of extra columns: `site`, and the one that the field `column` names.

    The latter has the texts 1, 2 and 3, which may be read as names or as numbers.
    """
    import numpy as np

    rows = np.arange(n)
    cells = {"site": np.array([f"site{row % 5 // 4}" for row in rows], dtype=object)}
    if isinstance(name := getattr(component, "column", None), str):
        cells.setdefault(name, np.array([str(row % 3 + 1) for row in rows], dtype=object))
    return cells


def history(*values: float, monitor: str = "validation/accuracy") -> History:
    """Return a history with one accuracy per epoch of a minute; losses are 1 - accuracy."""
    from sightx.plugin import History

    splits = ("train", "validation")
    directions: Any = {
        f"{split}/{name}": direction
        for split in splits
        for name, direction in {"accuracy": "max", "loss": "min"}.items()
    }
    epochs = tuple(
        {f"{split}/accuracy": value for split in splits}
        | {f"{split}/loss": 1 - value for split in splits}
        for value in values
    )
    return History(monitor, directions, epochs, (60.0,) * len(epochs))


def run_experiment(folder: Path, observers: Mapping[str, Observer]) -> Run:
    """Train for two epochs on twelve images, in a folder and with observers; return the run."""
    from sightx import run

    _write_images(folder / "data")
    return run(load_experiment(folder), observers=observers, runs=folder / "runs", quiet=True)


def load_experiment(folder: Path, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Return an experiment on a folder of images, which need not exist yet."""
    from sightx import load

    (folder / "spec.toml").write_text(_SPEC, encoding="utf-8")
    return load(folder / "spec.toml", overrides or {})


def _write_images(root: Path) -> None:
    from PIL import Image

    pixels, labels = images(12, (8, 8), classes=2)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = root / ("train" if number < 8 else "val") / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.movedim(0, -1).numpy()).save(folder / f"{number}.png")
