from __future__ import annotations

import numpy as np
import pytest

import sightx
from sightx.audit import image_properties
from sightx.audit.image_properties import ImageProperties, read_properties, read_thumbnails
from sightx.audit.perceptual_hash import perceptual_hash
from sightx.audit.quality import measure_quality
from sightx.builtin.datasets.synthetic_fundus import SyntheticFundus
from sightx.data.cache.file_hashes import stat_files
from sightx.data.dataset import CacheConfig, load_table
from support.images import encode


@pytest.fixture
def experiment(project):
    project.add("same.jpg", (project.folder / "images" / "0_left.jpg").read_bytes(), 0, "0")
    project.add("broken.jpg", b"\xff\xd8\xff", 0, "0")
    return sightx.load(project.spec())


def read(experiment, progress=None) -> ImageProperties:
    table = load_table(experiment.dataset)
    return read_properties(table, stat_files(table), CacheConfig.of(experiment), progress)


def test_properties_are_those_of_each_image(experiment, eyes):
    images = read(experiment)
    frame = images.frame
    assert frame["is_known"].tolist() == [True] * 33 + [False]
    assert images.bad == {33: "truncated"}
    assert set(frame["width"][:33]) == {64}
    assert np.array_equal(images.hashes[0], images.hashes[32])
    assert frame["pixels"][0] == frame["pixels"][32] != frame["pixels"][1]
    assert images.contents[0] == images.contents[32] != ""


def test_quality_and_hash_are_those_of_a_copy_of_256_pixels(tmp_path, project, eyes):
    from sightx.builtin.datasets.synthetic_fundus.render import render

    pixels = render(1, 0, "left", 0, 256)
    project.add("large.png", pixels, 0, "0", quality=None)
    images = read(sightx.load(project.spec()))
    row = images.frame.iloc[-1]
    expected = measure_quality(pixels)._asdict()
    assert {name: pytest.approx(row[name]) for name in expected} == expected
    grey = (pixels @ np.float32([0.299, 0.587, 0.114])).reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.array_equal(images.hashes[-1], perceptual_hash(grey))


def test_an_image_is_read_once_per_content(experiment, cache_root, monkeypatch):
    first = read(experiment)
    calls = []
    monkeypatch.setattr(image_properties, "measure_quality", lambda copy: calls.append(1))
    second = read(experiment)
    assert calls == []
    assert second.frame.equals(first.frame)
    (folder,) = (cache_root / "pixels").iterdir()
    assert 120 <= (folder / "rows.bin").stat().st_size / 32 + 36 <= 150  # bytes per content


def test_the_cache_lists_what_it_holds(experiment, capsys):
    from sightx import console
    from sightx.data.cache.store import PixelCache

    read(experiment)
    cache = CacheConfig.of(experiment).cache
    assert isinstance(cache, PixelCache)
    console.show_cache_entries(cache.root, cache.entries())
    assert "properties of images, for sightx audit" in capsys.readouterr().out


def test_without_a_cache_the_properties_are_the_same(experiment, monkeypatch, tmp_path):
    expected = read(experiment)
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIGHTX_CACHE", str(tmp_path / "file" / "cache"))
    progress = []
    images = read(experiment, lambda done, total: progress.append((done, total)))
    assert images.frame.equals(expected.frame)
    assert images.bad == expected.bad
    assert progress[-1] == (34, 34)


def test_images_that_are_not_files_have_no_facts_of_files(write_spec):
    table = load_table(SyntheticFundus(patients=10, size=32))
    spec = write_spec(
        'name = "a"\n[dataset]\nuse = "synthetic-fundus"\n[[preprocess]]\nuse = "resize"\n'
        'size = 8\n[model]\nuse = "simplenet"\n'
    )
    config = CacheConfig.of(sightx.load(spec))
    images = read_properties(table, stat_files(table), config)
    assert set(images.frame["format"]) == {0}
    assert (images.frame["sharpness"] > 0).all()
    thumbnails = read_thumbnails(table, stat_files(table), config)
    assert thumbnails.shape == (20, 32, 32)
    assert thumbnails.std() > 10


def test_grey_and_large_images_are_read_as_well(project):
    project.add("grey.png", encode(np.full((9, 7), 70, np.uint8), "PNG"), 0, "0")
    frame = read(sightx.load(project.spec())).frame
    assert (frame["width"].iloc[-1], frame["height"].iloc[-1]) == (7, 9)
    assert frame["brightness"].iloc[-1] == pytest.approx(70 / 255)
