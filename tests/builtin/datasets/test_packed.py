"""The dataset `packed`: training, further preprocessing, and prediction."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

import sightx
from sightx import DataError, PluginError, Predictor
from sightx.builtin.datasets.packed import Packed
from sightx.export.pack import write_pack
from sightx.plugin import Traits
from sightx.runner.evaluate import evaluate
from sightx.runs.compatibility import IncompatibleResumeError

SPEC = """
name = "photographs"
[dataset]
use = "csv"
root = "photographs"
group = "patient"
extra_columns = ["camera"]
[split]
use = "grouped"
test = 0.25
validation = 0.25
[[preprocess]]
use = "grayscale"
[[preprocess]]
use = "resize"
size = 24
[normalize]
use = "dataset"
[model]
use = "simplenet"
hidden = [6]
[training]
epochs = 2
batch_size = 8
[execution]
device = "cpu"
"""


@pytest.fixture
def photographs(tmp_path):
    """Write 32 photographs that a JPEG decoder may reduce, of two classes and 16 patients."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photographs"
    folder.mkdir()
    lines = ["image,label,patient,camera"]
    for number in range(32):
        size = (200 + number, 180)
        level = 60 + 120 * (number // 2 % 2)
        pixels = rng.normal(level, 40, (size[1] // 4, size[0] // 4, 3)).clip(0, 255)
        image = Image.fromarray(pixels.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.jpg", quality=95)
        label, camera = "dark" if level < 100 else "light", f"c{number % 3}"
        lines.append(f"{number}.jpg,{label},p{number // 2},{camera}")
    (folder / "labels.csv").write_text("\n".join([*lines, ""]))
    return folder


@pytest.fixture
def original(photographs, write_spec):
    return sightx.load(write_spec(SPEC))


@pytest.fixture
def pack(original, tmp_path):
    write_pack(original, tmp_path / "pack", tmp_path / "bad")
    return tmp_path / "pack"


def outcome(run):
    """Return what must not depend on how images are stored."""
    times = [name for name in run.metrics if name.startswith(("seconds", "images", "data_wait"))]
    result = {key: value for key, value in run.result.items() if key != "seconds"}
    return (
        (run.checkpoint() / "model.safetensors").read_bytes(),
        result,
        run.metrics.drop(columns=times).to_dict("list"),
        run.predictions("test").to_dict("list"),
        run.data["id"],
    )


def test_a_pack_trains_and_predicts_as_the_originals_do(original, pack, photographs, tmp_path):
    files = sorted(photographs.glob("*.jpg"))
    before = sightx.run(original, runs=tmp_path / "runs")
    photographs.rename(tmp_path / "elsewhere")  # they are not needed any more
    experiment = sightx.load(pack / "spec.toml")
    assert experiment.preprocess == ()
    assert experiment.id != original.id
    after = sightx.run(experiment, runs=tmp_path / "runs")
    assert outcome(after) == outcome(before)
    assert after.predictions("test")["camera"].isin(["c0", "c1", "c2"]).all()

    (tmp_path / "elsewhere").rename(photographs)
    scored = evaluate(after, "test").metrics
    assert scored == pytest.approx(before.result["test"])
    one, two = (Predictor.load(run.directory, "cpu") for run in (before, after))
    assert one.recipe.min_decoded_size == two.recipe.min_decoded_size == (42, 42)
    probabilities = [
        [prediction.probabilities for prediction in predictor.predict_all(files)]
        for predictor in (one, two)
    ]
    assert probabilities[0] == probabilities[1]


def test_the_pixels_are_those_of_the_chain(original, pack, photographs):
    from sightx.data.decode.decoder import min_decoded_size
    from sightx.data.preprocess import preprocess_image

    table = sightx.load(pack / "spec.toml").dataset.table()
    assert table.shape == (3, 24, 24)
    for index in (0, 17, 31):
        data = (photographs / table.frame["path"].iat[index]).read_bytes()
        wanted = preprocess_image(
            data, original.preprocess, min_decoded_size(original.preprocess, "scaled")
        )
        assert (table.read(index) == wanted.movedim(0, -1).numpy()).all()
    assert table.frame["group"].tolist() == [f"p{n // 2}" for n in range(32)]


@pytest.mark.parametrize("decode", ["scaled", "exact"])
def test_a_chain_continues_that_of_the_pack(original, tmp_path, decode):
    origin = sightx.load(original.context.path, [f'dataset.decode="{decode}"'])
    write_pack(origin, tmp_path / "pack", tmp_path / "bad")
    options = ['preprocess=[{ use = "grayscale", channels = 1 }, { use = "resize", size = 8 }]']
    further = sightx.load(tmp_path / "pack" / "spec.toml", options)
    run = sightx.run(further, runs=tmp_path / "runs")
    predictor = Predictor.load(run.directory, "cpu")
    assert [each.name for each in predictor.recipe.preprocess] == [
        "grayscale", "resize", "grayscale", "resize",
    ]  # fmt: skip
    assert predictor.recipe.shape == (1, 8, 8)
    assert predictor.recipe.min_decoded_size == ((42, 42) if decode == "scaled" else None)

    listed = run.predictions("test")
    stored = run.predictions_of("test").probabilities
    for path, row in zip(listed["path"], stored, strict=True):
        shares = predictor.predict(original.dataset.root / path).probabilities
        assert [share.probability for share in shares] == pytest.approx(row.tolist(), abs=1e-6)


def test_a_pack_of_a_pack_has_the_whole_chain(pack, tmp_path):
    options = ['preprocess=[{ use = "grayscale", channels = 1 }]']
    write_pack(sightx.load(pack / "spec.toml", options), tmp_path / "second", tmp_path / "bad")
    first = sightx.load(pack / "spec.toml").dataset.table()
    second = sightx.load(tmp_path / "second" / "spec.toml").dataset.table()
    assert [step["preprocess"]["use"] for step in second.chain] == [
        "grayscale", "resize", "grayscale",
    ]  # fmt: skip
    assert second.decoded == first.decoded == ("scaled", 2)
    assert second.frame["sha256"].tolist() == first.frame["sha256"].tolist()
    assert second.shape == (1, 24, 24)
    grey = sightx.load(
        tmp_path / "second" / "spec.toml", ['preprocess=[{ use = "resize", size = 8 }]']
    )
    assert sightx.run(grey, runs=tmp_path / "runs").result["status"] == "finished"


@pytest.mark.parametrize(
    "change", ['dataset.decode="exact"', 'preprocess=[{use="resize", size=24}]']
)
def test_a_run_does_not_resume_with_another_pack(original, pack, tmp_path, change):
    again = sightx.load(original.context.path)
    run = sightx.run(sightx.load(pack / "spec.toml", ["training.epochs=1"]), runs=tmp_path / "runs")
    longer = ["training.epochs=2"]
    for experiment in (again, sightx.load(original.context.path, [change])):
        shutil.rmtree(pack)
        write_pack(experiment, pack, tmp_path / "bad")
        if experiment is again:  # the same chain again is the same pack
            sightx.resume(run, changes=longer)
    longer = ["training.epochs=3"]
    with pytest.raises(
        IncompatibleResumeError, match=r"data-changed\] the pack was preprocessed differently"
    ):
        sightx.resume(run, changes=longer)
    assert sightx.resume(run, changes=longer, allow_data_change=True).result["epoch"] >= 1


def test_its_default_chain_is_empty(write_spec):
    written = 'name = "a"\n[dataset]\nuse = "packed"\nroot = "x"\nshape = [3, 8, 8]\n[model]\n'
    experiment = sightx.load(write_spec(written + 'use = "simplenet"\n'))
    assert experiment.preprocess == ()
    assert experiment.dataset.traits() == Traits(shape=(3, 8, 8))


def test_a_spec_must_agree_with_the_pack(pack):
    classes = ("dark", "light")
    right = {"groups": True, "shape": (3, 24, 24), "extra_columns": ("camera",)}
    assert len(Packed(root=pack, **right).table()) == 32
    for settings, path in (
        ({"shape": (3, 24, 25)}, "dataset.shape"),
        ({"ordered": True}, "dataset.ordered"),
        ({"classes": classes[::-1]}, "dataset.classes"),
        ({"extra_columns": ()}, "dataset.extra_columns"),
    ):
        with pytest.raises(DataError) as caught:
            Packed(root=pack, **(right | settings)).table()
        assert caught.value.problems[0].path == path


def test_a_missing_component_is_named_before_training(pack, tmp_path):
    description = json.loads((pack / "pack.json").read_text())
    step = description["chain"][0]
    step["preprocess"]["use"] = step["origin"]["name"] = "unheard-of"
    step["origin"] |= {"distribution": "fundi", "version": "3.1"}
    (pack / "pack.json").write_text(json.dumps(description))
    with pytest.raises(PluginError, match=r"unheard-of.*the run had it from fundi 3\.1"):
        sightx.run(sightx.load(pack / "spec.toml"), runs=tmp_path / "runs")


def test_a_changed_component_is_a_warning_at_prediction(pack, tmp_path, caplog):
    description = json.loads((pack / "pack.json").read_text())
    description["chain"][1]["origin"]["revision"] = -1
    (pack / "pack.json").write_text(json.dumps(description))
    run = sightx.run(sightx.load(pack / "spec.toml"), runs=tmp_path / "runs")
    with caplog.at_level(logging.WARNING):
        Predictor.load(run.directory, "cpu")
    assert "the preprocess 'resize' of builtin has changed: revision -1 then" in caplog.text
