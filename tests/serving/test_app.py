"""The routes: the answers of `predict`, one form of errors, and what they say of the model."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightx import Predictor, Run
from sightx.export.golden import golden_images
from sightx.export.model import export_model
from sightx.inference.pairs import combine_eyes
from sightx.serving.model_info import read_about
from support.commands import sightx_main
from support.images import encode, photo
from support.serving import CARD, TestServer, running, wait_until


def equal_images() -> dict[str, bytes]:
    """Images in eight forms of JPEG and PNG, turned in all eight ways, and in other formats."""
    images = golden_images(40, 56)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        images[f"turned-{orientation}.jpeg"] = encode(photo(), "JPEG", exif=exif)
    deep = (photo()[..., 0].astype(np.uint16) << 8) + 99
    return images | {
        "a.tiff": encode(photo(), "TIFF"), "deep.tiff": encode(deep, "TIFF"),
        "a.webp": encode(photo(), "WEBP", lossless=True), "a.bmp": encode(photo(), "BMP"),
    }  # fmt: skip


def test_python_the_command_an_evaluation_and_http_give_equal_answers(  # V07
    server: TestServer, predictor: Predictor, trained: Run, tmp_path: Path, capsys
) -> None:
    (tmp_path / "images").mkdir()
    for name, content in equal_images().items():
        (tmp_path / "images" / name).write_bytes(content)
    files = sorted((tmp_path / "images").iterdir())
    expected = [predictor.predict(file).to_json() for file in files]
    assert len({json.dumps(record) for record in expected}) > 8

    assert sightx_main("predict", str(trained.directory), *map(str, files), "--json") == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == [{"file": str(file), **record}
                       for file, record in zip(files, expected, strict=True)]  # fmt: skip

    labels = [f"images/{file.name},{number % 2}" for number, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *labels, ""]))
    run = Run(shutil.copytree(trained.directory, tmp_path / "runs" / trained.id))
    assert sightx_main("evaluate", str(run.directory), "--data", str(tmp_path / "labels.csv")) == 0
    (table,) = (run.directory / "predictions").glob("data-*.csv")
    evaluated = run.predictions_of(table.stem)
    rows = zip(evaluated.keys, evaluated.probabilities.tolist(), strict=True)
    shares = {Path(key).name: row for key, row in rows}

    for file, record in zip(files, expected, strict=True):
        content = file.read_bytes()
        assert predictor.predict(content).to_json() == record
        with file.open("rb") as opened:
            assert predictor.predict(opened).to_json() == record
        assert shares[file.name] == [one["probability"] for one in record["probabilities"]]
        kind = "image/png" if file.suffix == ".png" else "image/jpeg"
        raw = server.ask("POST", "/v1/predict", content, content_type=kind)
        form = server.post_form("/v1/predict", ("image", content))
        if file.suffix in (".png", ".jpeg"):
            body = json.dumps(record, separators=(",", ":")).encode()
            assert (raw.status, raw.content, form.content) == (200, body, body)
        else:
            assert raw.code == form.code == "not_jpeg_or_png"


def test_an_answer_names_class_model_and_request(  # V19
    server: TestServer, predictor: Predictor, trained: Run, image: bytes
) -> None:
    answer = server.predict(image)
    weights = (trained.checkpoint() / "model.safetensors").read_bytes()
    assert answer.json["outcome"] == "graded"
    assert (answer.json["grade"], answer.json["class"]) == (1, "light")
    assert [share["class"] for share in answer.json["probabilities"]] == ["dark", "light"]
    assert answer.json["model"] == {
        "id": f"{trained.id}@{trained.checkpoint().name}",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "experiment_sha256": trained.environment["id"],
        "engine": "torch",
    }
    assert len(answer.headers["x-request-id"]) == 16
    assert answer.headers["server-timing"].endswith('desc="batch 1"')
    assert answer.headers["cache-control"] == "no-store"


def test_a_pair_has_the_worse_grade(server: TestServer, predictor: Predictor, image: bytes) -> None:
    dark = encode(np.full((20, 24, 3), 60, np.uint8), "PNG")
    answer = server.post_form("/v1/predict/pair", ("left", image), ("right", dark))
    eyes = predictor.predict(image), predictor.predict(dark)
    assert answer.json == combine_eyes(None, *eyes).to_json()
    assert (answer.json["class"], answer.json["from"]) == ("light", "both")
    broken = server.post_form("/v1/predict/pair", ("left", image), ("right", dark[:-20]))
    assert broken.code == "truncated"
    assert broken.json["error"]["message"].startswith("right: ")
    assert server.predict(image, "/v1/predict/pair").code == "unsupported_media_type"


def test_an_explanation_is_the_picture_of_explain(
    server: TestServer, predictor: Predictor, image: bytes
) -> None:
    answer = server.predict(image, "/v1/explain")
    assert answer.headers["content-type"] == "image/png"
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.array_equal(picture, predictor.explain(image).overlay)


def test_the_model_says_what_a_client_may_send(server: TestServer, predictor: Predictor) -> None:
    model = server.ask("GET", "/v1/model").json
    assert model["classes"] == ["dark", "light"]
    assert model["model"] == predictor.model.model_dump()
    assert model["limits"]["max_bytes"] == server.service.settings.max_bytes
    assert (model["ordered"], model["can_explain"], model["batch_sizes"]) == (True, True, [1])
    assert "Not a diagnosis" in model["notice"]
    assert (model["card"], model["figures"], model["judges_quality"]) == (CARD, [], False)


def test_a_run_and_its_export_say_the_same_of_themselves(trained: Run, tmp_path: Path) -> None:
    export_model(trained, tmp_path / "model", format="safetensors")
    model = Predictor.load(tmp_path / "model", "cpu").model
    exported, own = read_about(tmp_path / "model", model), read_about(trained.checkpoint(), model)
    assert exported.figures == own.figures
    values = {f"{one.split}/{one.metric}": one.value for one in own.figures}
    assert values == trained.result["validation"] | trained.result["test"]
    assert own.card.startswith("# tiny")
    assert "Not a diagnosis" in exported.card


HTML = b"<html><body>" + b"x" * 500
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_jpeg_or_png"),
        (HTML, "not_jpeg_or_png"),
        (SVG, "not_jpeg_or_png"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not_jpeg_or_png"),
        (b"%PDF-1.7\n", "not_jpeg_or_png"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "not_jpeg_or_png"),
        (encode(photo(), "TIFF"), "not_jpeg_or_png"),
        (encode(photo(), "GIF"), "not_jpeg_or_png"),
        (encode(photo(), "WEBP"), "not_jpeg_or_png"),
        (encode(photo(), "JPEG")[:-100], "truncated"),
        (encode(photo(), "PNG")[:-100], "truncated"),
        (encode(photo(), "PNG").replace(b"IDAT", b"IDAX"), "unreadable"),
    ],
)
def test_what_is_not_an_image_is_refused_by_its_kind(  # V06
    server: TestServer, content: bytes, code: str
) -> None:
    answer = server.predict(content)
    assert (answer.status, answer.code) == (422, code)
    assert "0x" not in answer.content.decode()


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "hint"),
    [
        ("GET", "/v1/predict", 405, "method_not_allowed", "send POST"),
        ("GET", "/../etc/passwd", 404, "not_found", "GET /openapi.json lists them"),
        ("GET", "/page/../../app.py", 404, "not_found", "GET /openapi.json lists them"),
        ("GET", "/docs", 404, "not_found", "GET /openapi.json lists them"),
        ("POST", "/v1/predict/", 404, "not_found", "GET /openapi.json lists them"),
        ("PUT", "/v1/model", 405, "method_not_allowed", "send GET"),
        ("POST", "/openapi.json", 405, "method_not_allowed", "send GET"),
    ],
)
def test_other_addresses_and_methods_get_the_same_form_of_error(  # V20
    server: TestServer, method: str, path: str, status: int, code: str, hint: str
) -> None:
    answer = server.ask(method, path)
    assert (answer.status, answer.code) == (status, code)
    assert answer.json["error"]["hint"] == hint


def test_a_broken_component_is_an_internal_error_without_its_text(
    server: TestServer, predictor: Predictor, image: bytes, monkeypatch, caplog
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("Jane Doe")

    monkeypatch.setattr(predictor, "preprocess", fail)
    answer = server.predict(image)
    assert (answer.status, answer.code) == (500, "internal")
    monkeypatch.undo()
    assert server.predict(image).status == 200
    assert "Jane" not in answer.content.decode() + caplog.text
    wait_until(lambda: "ValueError at " in caplog.text)


def test_an_ungradable_image_has_no_grade_and_counts(judge: Predictor, image: bytes) -> None:
    black = encode(np.zeros((20, 24, 3), np.uint8), "PNG")
    with running(judge, max_batch=1) as server:
        poor, ungradable = server.predict(image).json, server.predict(black).json
        assert poor == judge.predict(image).to_json()
        assert (poor["outcome"], poor["quality"]["verdict"]) == ("graded", "poor")
        assert ungradable == judge.predict(black).to_json()
        assert set(ungradable) == {"format", "outcome", "quality", "model"}
        assert ungradable["quality"]["reasons"] == ["low-brightness"]
        pair = server.post_form("/v1/predict/pair", ("left", black), ("right", image)).json
        assert (pair["outcome"], pair["from"]) == ("graded", "right")
        counted = server.ask("GET", "/metrics").content.decode()
        assert 'sightx_answers_total{class="",outcome="ungradable"} 2.0' in counted
        assert 'sightx_quality_total{verdict="poor"} 2.0' in counted
