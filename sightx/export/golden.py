"""Eight synthetic images, with which anyone can check that an exported model answers as here."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sightx.data.preprocess import output_shape
from sightx.errors import SpecError
from sightx.registry.kinds import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

    from sightx.inference.onnx_network import OnnxNetwork
    from sightx.inference.predictor import Predictor

FOLDER, ANSWERS = "golden", "golden/golden.json"
_MIN_EDGE = 96
_ORIENTATION, _TURNED = 0x0112, 6
_QUALITY = 90


def golden_images(height: int, width: int) -> dict[str, bytes]:
    """Return the content of eight image files by name, each in another format; no randomness.

    They are `height` x `width` pixels, upright.
    """
    colour = _pattern(height, width)
    image = Image.fromarray(colour)
    grey = image.convert("L")
    deep = np.asarray(grey).astype(np.uint16) * 257
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURNED
    turned = image.transpose(Image.Transpose.ROTATE_90)
    return {
        "colour.jpeg": _encoded(image, "JPEG"),
        "turned.jpeg": _encoded(turned, "JPEG", exif=exif),
        "cmyk.jpeg": _encoded(image.convert("CMYK"), "JPEG"),
        "dark.jpeg": _encoded(Image.fromarray(colour // 4), "JPEG"),
        "grey.png": _encoded(grey, "PNG"),
        "alpha.png": _encoded(_with_alpha(image), "PNG"),
        "deep.png": _encoded(Image.fromarray(deep), "PNG"),
        "palette.png": _encoded(image.quantize(32), "PNG"),
    }


def golden_size(chain: Sequence[Preprocess], shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the height and the width of golden images for a preprocessing chain.

    They are those of the network's input, `shape`, if the chain leaves the size as it is, otherwise
    larger, and not square.
    """
    _, height, width = shape
    try:
        output_shape(chain)
    except SpecError:
        return height, width
    return max(_MIN_EDGE, height + height // 4), max(_MIN_EDGE, width + width // 2)


def golden_answers(
    predictor: Predictor, images: Mapping[str, bytes], int8: OnnxNetwork | None = None
) -> dict[str, Any]:
    """Return a predictor's results for images: the hash of the pixels, and the answer.

    The probabilities of an int8 network, if there is one, are a list `int8`.
    """
    answers = {}
    for name, content in images.items():
        pixels = predictor.preprocess(content)
        (record,) = (answer.to_json() for answer in predictor.grade_pixels(pixels[None]))
        hashes = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "pixels_sha256": pixels_sha256(pixels),
        }
        keys = [key for key in ("grade", "class", "probabilities", "decision") if key in record]
        answers[name] = hashes | {key: record[key] for key in keys}
        if int8:
            answers[name]["int8"] = int8.run(pixels[None])[0][0].tolist()
    return answers


def pixels_sha256(pixels: Tensor) -> str:
    """Return the SHA-256 of preprocessed pixels, uint8 (C, H, W), in this order."""
    return hashlib.sha256(np.ascontiguousarray(pixels.numpy()).tobytes()).hexdigest()


def _pattern(height: int, width: int) -> np.ndarray[Any, Any]:
    """Return a bright disc with structures on a dark background, uint8 (height, width, 3)."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    radius = np.hypot(x, y)
    waves = 0.5 + 0.25 * np.sin(9 * x + 4 * y) + 0.25 * np.cos(13 * y)
    channels = [(150 + 90 * waves), (60 + 100 * waves * (1 - radius / 2)), (20 + 60 * waves)]
    image = np.stack(channels, axis=-1) * (radius < 0.9)[..., None]
    pixels: np.ndarray[Any, Any] = np.rint(image.clip(0, 255)).astype(np.uint8)
    return pixels


def _with_alpha(image: Image.Image) -> Image.Image:
    alpha = np.linspace(255, 64, image.width).round().astype(np.uint8)
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.fromarray(np.repeat(alpha[None], image.height, axis=0)))
    return rgba


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    if kind == "JPEG":
        options["quality"] = _QUALITY
    image.save(buffer, kind, **options)
    return buffer.getvalue()
