"""Settings, and where needed data, with which the built-in components can be tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sightx import Component
from sightx.testing.worlds import images, table

Settings = dict[str, Any]


def built_in(cls: type[Component]) -> Callable[[Path], Settings] | None:
    """Return the example of a built-in component that does not do with its defaults."""
    if cls.__module__.partition(".")[0] != "sightx":
        return None
    return _EXAMPLES.get((cls.kind, cls.name))


def _fixed(**settings: Any) -> Callable[[Path], Settings]:
    return lambda folder: settings


def _csv(folder: Path) -> Settings:
    """Write four photographs of two classes and two patients."""
    names = [f"{number}.png" for number in range(4)]
    _write(folder, names)
    labels = ("ill", "well", "well", "ill")
    lines = [f"{names[n]},{labels[n]},p{n // 2}" for n in range(4)]
    (folder / "labels.csv").write_text("\n".join(["image,label,patient", *lines, ""]))
    return {"root": folder, "group": "patient"}


def _eyepacs(folder: Path) -> Settings:
    """Write both eyes of two patients."""
    names = [f"{patient}_{eye}" for patient in (10, 13) for eye in ("left", "right")]
    _write(folder / "train", [f"{name}.jpeg" for name in names])
    lines = [f"{name},{grade}" for grade, name in enumerate(names)]
    (folder / "trainLabels.csv").write_text("\n".join(["image,level", *lines, ""]))
    return {"root": folder}


def _image_folder(folder: Path) -> Settings:
    """Write a side of two classes for training and one for validation."""
    for side in ("train", "val"):
        for name in ("cat", "fish"):
            _write(folder / side / name, ["0.png", "1.png"])
    return {"root": folder}


def _cifar10(folder: Path) -> Settings:
    """Write the six batches with three pictures each."""
    from multiprocessing.reduction import ForkingPickler  # writes here, and reads nowhere

    import numpy as np

    root = folder / "cifar-10-batches-py"
    root.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {b"data": np.zeros((3, 3072), np.uint8), b"labels": [0, 5, 9]}
        (root / name).write_bytes(ForkingPickler.dumps(batch, protocol=2))
    return {"root": folder}


def _listed(folder: Path) -> Settings:
    """Write the sides of half the samples of the table that splits are tried on."""
    frame = table().frame
    half = frame[frame["group"] < "group015"]
    half[["path", "split"]].to_csv(folder / "split.csv", index=False)
    return {"file": folder / "split.csv"}


def _write(folder: Path, names: list[str]) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(names, images(len(names), (16, 24))[0], strict=True):
        Image.fromarray(pixels.movedim(0, -1).numpy()).save(folder / name)


_EXAMPLES: dict[tuple[str, str], Callable[[Path], Settings]] = {
    ("augment", "color-jitter"): _fixed(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    ("augment", "rotate"): _fixed(degrees=30.0),
    ("dataset", "cifar10"): _cifar10,
    ("dataset", "csv"): _csv,
    ("dataset", "eyepacs"): _eyepacs,
    ("dataset", "image-folder"): _image_folder,
    ("dataset", "synthetic-fundus"): _fixed(patients=10, size=32),
    ("model", "torchvision"): _fixed(arch="shufflenet_v2_x0_5"),
    ("normalize", "values"): _fixed(mean=[0.4, 0.5, 0.6], deviation=[0.2, 0.2, 0.3]),
    ("prepare", "center-crop"): _fixed(size=[24, 32]),
    ("prepare", "resize"): _fixed(size=[24, 32]),
    ("split", "listed"): _listed,
}
