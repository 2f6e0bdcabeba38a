"""Measure `sightx audit`: the search for near copies, what it finds, and what a whole audit takes.

    python benchmarks/audit.py [--photographs FOLDER] [--rows 35126]

`--photographs` names a folder of JPEGs of unrelated patients in `<patient>_<side>` files, such as
EyePACS; without it the pictures are rendered. Every part prints its bar.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import sightx
from sightx.audit.audit import audit, audit_table
from sightx.audit.file_facts import read_facts
from sightx.audit.near_pairs import near_pairs
from sightx.audit.shortcuts import file_columns, probe
from sightx.builtin.datasets.synthetic_fundus.render import render
from sightx.data.dataset import load_split_table

Transpose = Image.Transpose
PLANTED: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG 40": lambda image: encoded(image, 40),
    "JPEG 15": lambda image: encoded(image, 15),
    "halved": lambda image: encoded(image.resize((image.width // 2, image.height // 2)), 90),
    "mirrored": lambda image: encoded(image.transpose(Transpose.FLIP_LEFT_RIGHT), 85),
    "rotated by 90": lambda image: encoded(image.transpose(Transpose.ROTATE_90), 85),
    "rotated by 270": lambda image: encoded(image.transpose(Transpose.ROTATE_270), 85),
}
SPEC = """name = "audited"
[dataset]
use = "csv"
root = "."
group = "patient"
[split]
use = "grouped"
[[preprocess]]
use = "resize"
size = 32
[model]
use = "simple-cnn"
"""


def encoded(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def near_copies() -> None:
    rng = np.random.default_rng(0)
    for count, words, limit, bar in ((35_126, 4, 20, 1), (1_000_000, 1, 3, 20)):
        hashes = rng.integers(0, 2**64, (count, words), dtype=np.uint64)
        hashes[rng.choice(count, count // 50)] = hashes[rng.choice(count, count // 50)]
        taken = seconds(lambda hashes=hashes, limit=limit: near_pairs(hashes, limit))
        print(f"near copies among {count:,} hashes of {64 * words} bits, up to {limit} different: "
              f"{taken:.2f} s (bar {bar} s)")  # fmt: skip


def pictures(folder: Path | None) -> Iterator[tuple[str, str, Image.Image]]:
    """Yield name, patient and image of one eye of each patient."""
    if folder is None:
        for patient in range(200):
            yield (
                f"{patient}.jpg",
                str(patient),
                Image.fromarray(render(0, patient, "left", patient % 5, 256)),
            )
        return
    for file in sorted(folder.glob("*.jp*g")):
        yield file.name, file.stem.partition("_")[0], Image.open(file).convert("RGB")


def planted(folder: Path | None) -> None:
    with tempfile.TemporaryDirectory() as place:
        root, rows, expected = Path(place), [], 0
        for number, (name, patient, image) in enumerate(pictures(folder)):
            (root / name).write_bytes(encoded(image, 92))
            rows.append((name, number % 2, patient))
            if number % 20 == 0:  # one eye in twenty has one copy, of each sort in turn
                sort = list(PLANTED)[number // 20 % len(PLANTED)]
                (root / f"copy-{name}").write_bytes(PLANTED[sort](image))
                rows.append((f"copy-{name}", number % 2, patient))
                expected += 1
        report = audited(root, rows)
    counts = report["findings"]["copies"]["count"] if "copies" in report["findings"] else 0
    eyes = len(rows) - expected
    print(f"planted copies found: {counts} of {expected} (bar: all), and no other pair among "
          f"{eyes * (eyes - 1) // 2:,}: {counts == expected}")  # fmt: skip


def audited(root: Path, rows: list[tuple[str, int, str]]) -> dict[str, dict[str, dict[str, int]]]:
    pd.DataFrame(rows, columns=["image", "label", "patient"]).to_csv(root / "labels.csv")
    (root / "spec.toml").write_text(SPEC, encoding="utf-8")
    report = audit(sightx.load(root / "spec.toml")).report
    return {"findings": {finding.code: {"count": finding.count} for finding in report.findings}}


def shortcuts() -> None:
    images = [Image.fromarray(render(1, patient, "left", 0, 64)) for patient in range(600)]
    labels = np.random.default_rng(0).integers(0, 2, len(images))
    for name, qualities, bar in (("two sources", (92, 85), "> 0.95"), ("one", (85, 85), "< 0.70")):
        files = [
            encoded(image, qualities[label]) for image, label in zip(images, labels, strict=True)
        ]
        facts = file_columns(pd.DataFrame([read_facts(file)._asdict() for file in files]))
        result = probe(facts, labels, np.arange(len(images)))
        print(f"shortcut probe, {name}: AUC {result.auc:.3f} (bar {bar})")


def whole(rows: int) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for row in range(rows):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC)
            (root / f"{row}.jpg").write_bytes(encoded(image, 80))
        grades = rng.choice(5, rows, p=[0.735, 0.07, 0.15, 0.025, 0.02])
        table = pd.DataFrame({"image": [f"{row}.jpg" for row in range(rows)], "label": grades,
                              "patient": np.arange(rows) // 2})  # fmt: skip
        table.to_csv(root / "labels.csv", index=False)
        (root / "spec.toml").write_text(SPEC, encoding="utf-8")
        experiment = sightx.load(root / "spec.toml")
        taken = seconds(
            lambda: audit_table(experiment, load_split_table(experiment.dataset, experiment.split))
        )
        print(f"table of {rows:,} rows: {taken:.2f} s (bar 2 s)")
        first, second = (seconds(lambda: audit(experiment)) for _ in range(2))
        print(f"audit of {rows:,} images: {first:.0f} s, {1e3 * first / rows:.1f} ms per image; "
              f"again: {second:.1f} s (bar: seconds)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--rows", type=int, default=35_126)
    arguments = parser.parse_args()
    near_copies()
    shortcuts()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SIGHTX_CACHE"] = cache
        planted(arguments.photographs)
        whole(arguments.rows)


if __name__ == "__main__":
    main()
