from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import sightx
from sightx.audit.audit import audit
from sightx.audit.copies import find_copies
from sightx.audit.image_properties import read_properties, read_thumbnails
from sightx.builtin.datasets.synthetic_fundus.render import render
from sightx.data.cache.file_hashes import stat_files
from sightx.data.dataset import CacheConfig, load_table
from support.images import encode

TRANSPOSE = Image.Transpose
PLANTED = {
    "encoded-40": lambda image: encode(image, "JPEG", quality=40),
    "encoded-15": lambda image: encode(image, "JPEG", quality=15),
    "halved": lambda image: encode(image.resize((48, 48)), "PNG"),
    "doubled": lambda image: encode(image.resize((192, 192), Image.Resampling.BICUBIC), "PNG"),
    "mirrored": lambda image: encode(image.transpose(TRANSPOSE.FLIP_LEFT_RIGHT), "PNG"),
    "flipped": lambda image: encode(image.transpose(TRANSPOSE.FLIP_TOP_BOTTOM), "PNG"),
    "rotated-90": lambda image: encode(image.transpose(TRANSPOSE.ROTATE_90), "JPEG", quality=80),
    "rotated-180": lambda image: encode(image.transpose(TRANSPOSE.ROTATE_180), "PNG"),
    "rotated-270": lambda image: encode(image.transpose(TRANSPOSE.ROTATE_270), "PNG"),
    "transposed": lambda image: encode(image.transpose(TRANSPOSE.TRANSPOSE), "PNG"),
    "transversed": lambda image: encode(image.transpose(TRANSPOSE.TRANSVERSE), "PNG"),
    "grey": lambda image: encode(image.convert("L"), "PNG"),
}


def copies_of(spec):
    experiment = sightx.load(spec)
    table, config = load_table(experiment.dataset), CacheConfig.of(experiment)
    files = stat_files(table)
    images = read_properties(table, files, config)
    rows = np.arange(len(table))
    copies = find_copies(
        images,
        rows,
        lambda some: read_thumbnails(table.take(some), stat_files(table.take(some)), config),
    )
    names = table.frame["path"].to_numpy(object)
    return {
        tuple(sorted(names[pair])): (kind, note)
        for pair, kind, note in zip(copies.pairs, copies.kind, copies.notes, strict=True)
    }


def test_every_planted_copy_is_found_and_no_other_pair(project):
    expected = set()
    for number, (name, plant) in enumerate(PLANTED.items()):
        original = render(5, number, "left", number % 5, 96)
        project.add(f"original-{number}.png", encode(original, "PNG"), 0, f"o{number}")
        project.add(f"z-{name}.png", plant(Image.fromarray(original)), 0, f"c{number}")
        expected.add((f"original-{number}.png", f"z-{name}.png"))
    found = copies_of(project.spec())
    assert set(found) == expected
    notes = {pair[1]: note for pair, (_, note) in found.items()}
    assert ", mirrored:" in notes["z-mirrored.png"]
    assert ", rotated by 90 degrees:" in notes["z-rotated-270.png"]
    assert {kind for kind, _ in found.values()} == {"certain"} | {
        kind for pair, (kind, _) in found.items() if pair[1] == "z-encoded-15.png"
    }


def test_equal_bytes_and_equal_pixels_are_exact_copies(project):
    original = project.folder / "images" / "0_left.jpg"
    project.add("bytes.jpg", original.read_bytes(), 0, "0")
    commented = io.BytesIO()
    Image.open(original).save(commented, "PNG")
    project.add("pixels.png", commented.getvalue(), 0, "0")
    assert copies_of(project.spec()) == {
        ("0_left.jpg", "bytes.jpg"): ("exact", "equal files"),
        ("0_left.jpg", "pixels.png"): ("exact", "equal pixels"),
    }


def test_blank_images_are_copies_only_if_they_have_one_brightness(project):
    for name, value in {"a": 0, "b": 1, "c": 200}.items():
        project.add(f"{name}.png", np.full((40, 40, 3), value, np.uint8), 0, "0", quality=None)
    assert set(copies_of(project.spec())) == {("a.png", "b.png")}


def test_unrelated_photographs_are_not_reported(shared, write_spec):
    folder = shared / "eyepacs256"
    spec = write_spec(
        f'name = "a"\n[dataset]\nuse = "eyepacs"\nroot = "{folder}"\nimages = "images"\n'
        '[[preprocess]]\nuse = "resize"\nsize = 8\n[model]\nuse = "simplenet"\n'
    )
    labels = (folder / "trainLabels.csv").read_text().splitlines()
    few = write_spec("\n".join(labels[:161]) + "\n", "few.csv")
    report = audit(sightx.load(spec, [f"dataset.labels={few}"])).report
    assert report.samples == 160
    assert not [finding for finding in report.findings if "copies" in finding.code]


@pytest.mark.parametrize("rows", [[], [0], [0, 1]])
def test_few_images_have_no_copies(project, rows):
    project.rows = [project.rows[row] for row in rows] or project.rows[:1]
    assert copies_of(project.spec(split="")) == {} if rows == [0, 1] else True
