"""Settings, and data if needed, to test the built-in components with."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sightx.plugin import Component
from sightx.testing.fixtures import images, table

Settings = dict[str, Any]


def builtin_example(cls: type[Component]) -> Callable[[Path], Settings] | None:
    """Return the example of a built-in component that cannot be tested with its defaults."""
    if cls.__module__.partition(".")[0] != "sightx":
        return None
    return EXAMPLES.get((cls.kind, cls.name))


def _fixed(**settings: Any) -> Callable[[Path], Settings]:
    return lambda folder: settings


def _csv(folder: Path) -> Settings:
    """Write four images of two classes and two patients."""
    names = [f"{number}.png" for number in range(4)]
    _write(folder, names)
    labels = ("ill", "well", "well", "ill")
    lines = [f"{names[n]},{labels[n]},p{n // 2}" for n in range(4)]
    (folder / "labels.csv").write_text(
        "\n".join(["image,label,patient", *lines, ""]), encoding="utf-8"
    )
    return {"root": folder, "group": "patient"}


def _eyepacs(folder: Path) -> Settings:
    """Write images of both eyes of two patients."""
    names = [f"{patient}_{eye}" for patient in (10, 13) for eye in ("left", "right")]
    _write(folder / "train", [f"{name}.jpeg" for name in names])
    lines = [f"{name},{grade}" for grade, name in enumerate(names)]
    (folder / "trainLabels.csv").write_text(
        "\n".join(["image,level", *lines, ""]), encoding="utf-8"
    )
    return {"root": folder}


def _image_folder(folder: Path) -> Settings:
    """Write images of two classes for training and validation."""
    for split in ("train", "val"):
        for name in ("cat", "fish"):
            _write(folder / split / name, ["0.png", "1.png"])
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


def _shards(folder: Path) -> Settings:
    """Write a tar file of four images, and its index."""
    names = [f"{number}.png" for number in range(4)]
    _write(folder / "images", names)
    rows = ["path,label,group,split,sha256,shard,key,offset,size"]
    with tarfile.open(folder / "shard-000000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, name in enumerate(names):
            content = (folder / "images" / name).read_bytes()
            place = f"shard-000000.tar,{number},{tar.offset + 512},{len(content)}"
            rows.append(f"{_sample(number, content)},{place}")
            tar.add(folder / "images" / name, name)
    size = (folder / "shard-000000.tar").stat().st_size
    shards = {"shards": [{"name": "shard-000000.tar", "size": size}]}
    return _write_index(folder, "shards.json", rows, shards)


def _packed(folder: Path) -> Settings:
    """Write the pixels of four images, and their index."""
    pixels = images(4, (16, 24))[0].numpy()
    rows, records = ["path,label,group,split,sha256"], b""
    for number, row in enumerate(pixels):
        content = row.tobytes()
        rows.append(_sample(number, content))
        records += hashlib.sha256(content).digest() + zlib.crc32(content).to_bytes(4, "little")
    pixels_folder = folder / "pixels"
    pixels_folder.mkdir()
    (pixels_folder / "rows.bin").write_bytes(pixels.tobytes())
    (pixels_folder / "index.bin").write_bytes(records)
    (pixels_folder / "about.json").write_text(
        json.dumps({"format": 1, "shape": [3, 16, 24]}), encoding="utf-8"
    )
    resized = {"preprocess": {"use": "resize", "size": [16, 24]}, "origin": {"name": "resize"}}
    pack = {"chain": [resized], "decode": "exact", "decoded_for": 1, "source": {}}
    return {**_write_index(folder, "pack.json", rows, pack), "shape": [3, 16, 24]}


def _sample(number: int, content: bytes) -> str:
    """Return the row of one of four images in an index."""
    label, split = ("ill", "well")[number % 2], ("train", "validation")[number // 2]
    return f"{number}.png,{label},p{number // 2},{split},{hashlib.sha256(content).hexdigest()}"


def _write_index(folder: Path, name: str, rows: list[str], more: Settings) -> Settings:
    """Write an index and a description like `sightx prepare`."""
    described = {"classes": ["ill", "well"], "ordered": False, "samples": 4, **more}
    (folder / "index.csv").write_text("\n".join([*rows, ""]), encoding="utf-8")
    (folder / name).write_text(json.dumps(described), encoding="utf-8")
    return {"root": str(folder), "groups": True, "split": True}


def _listed(folder: Path) -> Settings:
    """Write the splits of half of the samples of `table()`."""
    frame = table().frame
    half = frame[frame["group"] < "group015"]
    half[["path", "split"]].to_csv(folder / "split.csv", index=False)
    return {"file": folder / "split.csv"}


def _write(folder: Path, names: list[str]) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(names, images(len(names), (16, 24))[0], strict=True):
        Image.fromarray(pixels.movedim(0, -1).numpy()).save(folder / name)


EXAMPLES: dict[tuple[str, str], Callable[[Path], Settings]] = {
    ("augment", "color-jitter"): _fixed(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    ("augment", "rotate"): _fixed(degrees=30.0),
    ("average", "swa"): _fixed(start_epoch=2),
    ("optimizer", "sam"): _fixed(base={"use": "sgd", "momentum": 0.9}),
    ("dataset", "cifar10"): _cifar10,
    ("dataset", "csv"): _csv,
    ("dataset", "eyepacs"): _eyepacs,
    ("dataset", "image-folder"): _image_folder,
    ("dataset", "packed"): _packed,
    ("dataset", "shards"): _shards,
    ("dataset", "synthetic-fundus"): _fixed(patients=10, size=32),
    ("loss", "sample-weighted"): _fixed(base={"use": "cross-entropy"}, column="weight"),
    ("metric", "by-column"): _fixed(base={"use": "accuracy"}, column="site", levels=["site1"]),
    ("model", "coral-head"): _fixed(base={"use": "simple-cnn", "widths": [4]}),
    ("model", "torchvision"): _fixed(arch="shufflenet_v2_x0_5"),
    ("normalize", "values"): _fixed(mean=[0.4, 0.5, 0.6], deviation=[0.2, 0.2, 0.3]),
    ("preprocess", "center-crop"): _fixed(size=[24, 32]),
    ("preprocess", "resize"): _fixed(size=[24, 32]),
    ("sampler", "balanced-by-column"): _fixed(column="site"),
    ("split", "listed"): _listed,
    ("stopping", "time-limit"): _fixed(minutes=10),
}
