"""Small worlds to try a component in: pixels, a table, predictions, a history, a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sightx import Run
    from sightx.plugin import History, ImageTable, Observer, Predictions

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
    """Return pixels, uint8 (n, channels, *size), and labels, int64 (n,): brighter is higher."""
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
    """Return samples in memory: three of a class a group, two thirds of them on train."""
    import numpy as np
    import pandas as pd

    from sightx.plugin import ImageTable

    pixels, _ = images(n, classes=classes, seed=seed)
    number = np.arange(n)
    home = number // (3 * classes) * classes + number % classes
    columns: dict[str, Any] = {
        "path": [f"{each:04}.png" for each in number],
        "label": number % classes,
        "group": [f"group{each:03}" if groups else "" for each in home],
    }
    if split:
        sides = np.array(["train", "train", "train", "train", "validation", "test"], dtype=object)
        columns["split"] = sides[home % 6]
    order = np.random.default_rng(seed).permutation(n)
    frame = pd.DataFrame(columns).iloc[order].reset_index(drop=True)
    arrays = pixels.movedim(1, -1).numpy()
    names = tuple(f"class{each}" for each in range(classes))
    return ImageTable(frame, names, arrays.__getitem__, ordered=ordered)


def predictions(
    n: int = 60, classes: int = 4, *, right: float = 0.7, ordered: bool = True, seed: int = 0
) -> Predictions:
    """Return predictions of which a share is right and the rest wrong, all arrays read-only."""
    import numpy as np

    from sightx.plugin import Predictions

    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    wrong = np.arange(n) >= round(right * n)
    decided = (labels + wrong * rng.integers(1, classes, n)) % classes
    outputs = rng.normal(0, 1, (n, classes))
    outputs[np.arange(n), decided] = outputs.max(axis=1, initial=0) + rng.uniform(0.5, 3, n)
    exponentials = np.exp(outputs)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    arrays = (labels, outputs.astype(np.float32), probabilities.astype(np.float32), decided)
    for array in arrays:
        array.flags.writeable = False
    return Predictions(
        tuple(f"{each:04}.png" for each in range(n)),
        ("",) * n,
        *arrays,
        classes=tuple(f"class{each}" for each in range(classes)),
        ordered=ordered,
    )


def history(*values: float, monitor: str = "validation/accuracy") -> History:
    """Return a history of accuracies, one an epoch; losses are 1 less the accuracy."""
    from sightx.plugin import History

    figures = {"accuracy": "max", "loss": "min"}
    sides = ("train", "validation")
    directions: Any = {f"{side}/{key}": way for side in sides for key, way in figures.items()}
    epochs = tuple(
        {f"{side}/accuracy": value for side in sides}
        | {f"{side}/loss": 1 - value for side in sides}
        for value in values
    )
    return History(monitor, directions, epochs)


def watched_run(folder: Path, observers: Mapping[str, Observer]) -> Run:
    """Train two epochs on twelve little images below a folder, watched; return the run."""
    from sightx import load, run

    _write_images(folder / "data")
    (folder / "spec.toml").write_text(_SPEC)
    experiment = load(folder / "spec.toml")
    return run(experiment, observers=observers, runs=folder / "runs")


def _write_images(root: Path) -> None:
    from PIL import Image

    pixels, labels = images(12, (8, 8), classes=2)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        side = "train" if number < 8 else "val"
        folder = root / side / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.movedim(0, -1).numpy()).save(folder / f"{number}.png")
