"""The sections of a report with images: the most confident mistakes, and quality by class."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sightx.audit.image_findings import quality_by_class
from sightx.audit.image_properties import read_properties
from sightx.audit.page import jpeg_uri, quality_rows
from sightx.data.cache.file_hashes import stat_files
from sightx.data.dataset import CacheConfig, PreparedDataset
from sightx.data.preprocess import ProgressCallback
from sightx.errors import SightXError, SpecError, counted, one_line
from sightx.inference.explain import Explanation
from sightx.inference.predictor import Predictor
from sightx.records import SPLITS
from sightx.reporting import html
from sightx.reporting.facts import Facts
from sightx.runner.evaluate import load_run_split

_MISTAKES = 12
_MAX_COLUMNS = 12  # classes of a table of quality
_log = logging.getLogger("sightx")


@dataclass(frozen=True)
class Pictures:
    """The images of a split, preprocessed, and the positions of the predictions in it."""

    data: PreparedDataset
    rows: np.ndarray


def read_pictures(facts: Facts, progress: ProgressCallback | None = None) -> Pictures | None:
    """Return the images of the judged split; None, with a warning, if they cannot be read."""
    if facts.split not in SPLITS:
        return None
    try:
        data = load_run_split(facts.run, facts.split, progress=progress)
    except SightXError as error:
        _log.warning("the report has no images: %s", one_line(str(error)))
        return None
    places = {path: row for row, path in enumerate(data.table.frame["path"].tolist())}
    rows = np.array([places.get(key, -1) for key in facts.predictions.keys], dtype=int)
    return Pictures(data, rows)


def confident_mistakes(facts: Facts) -> np.ndarray:
    """Return the positions of wrong decisions, the most confident first.

    Confidence is the probability of the decided class, which is printed beside each.
    """
    predictions = facts.predictions
    wrong = np.flatnonzero(
        (predictions.labels >= 0) & (predictions.labels != predictions.decisions)
    )
    confidence = predictions.probabilities[wrong, predictions.decisions[wrong]]
    mistakes: np.ndarray = wrong[np.argsort(-confidence, kind="stable")]
    return mistakes


def mistake_section(facts: Facts, pictures: Pictures | None) -> str:
    """Return the most confident mistakes, with images and Grad-CAM maps if they can be read."""
    mistakes = confident_mistakes(facts)
    if not len(mistakes):
        return html.section("mistakes", "Mistakes", ["<p>There are none on this split.</p>"])
    shown = mistakes[:_MISTAKES]
    known = int((facts.predictions.labels >= 0).sum())
    of = f"{counted(len(mistakes), 'mistake')} among {counted(known, 'sample')}"
    lead = f"<p>{of}; the most confident:</p>"
    if pictures is None or (pictures.rows[shown] < 0).any():
        rows = [[*_words(facts, row)] for row in shown]
        header = ["image", "true", "predicted", "probability"]
        return html.section("mistakes", "Mistakes", [lead, html.table(header, rows, names=3)])
    grid = "".join(_picture_figures(facts, pictures, shown))
    remark = html.note(
        "Next to each image is its Grad-CAM map (Selvaraju et al., 2017): what raised the score, "
        "from clear (little) over purple, red and orange to light yellow (the most in this image). "
        "It does not prove why (Adebayo et al., 2018)."
    )
    parts = [lead, f'<div class="gallery">{grid}</div>', remark]
    return html.section("mistakes", "Mistakes", parts)


def _words(facts: Facts, row: int) -> Iterator[str]:
    predictions = facts.predictions
    decided = predictions.decisions[row]
    yield html.text(predictions.keys[row])
    yield html.text(predictions.classes[predictions.labels[row]])
    yield html.text(predictions.classes[decided])
    yield f"{predictions.probabilities[row, decided]:.2f}"


def _picture_figures(facts: Facts, pictures: Pictures, shown: np.ndarray) -> Iterator[str]:
    pixels = pictures.data.rows.gather(pictures.rows[shown])
    maps = _explanations(facts, pixels)
    for at, row in enumerate(shown):
        image = np.ascontiguousarray(pixels[at].permute(1, 2, 0).numpy())
        images = [jpeg_uri(image), *([jpeg_uri(maps[at].overlay)] if maps else [])]
        path, true, decided, probability = _words(facts, int(row))
        tags = "".join(f'<img src="{uri}" alt="">' for uri in images)
        yield (
            f"<figure>{tags}<figcaption>{true}, predicted <b>{decided}</b> ({probability})"
            f'<br><span class="soft">{path}</span></figcaption></figure>'
        )


def _explanations(facts: Facts, pixels) -> Sequence[Explanation]:  # type: ignore[no-untyped-def]
    """Return the Grad-CAM map of each image; none if the network cannot be explained."""
    folder = facts.run.directory / "checkpoints" / facts.checkpoint.partition("-exported-")[0]
    try:
        return Predictor.load(folder, "cpu").explain_pixels(pixels)
    except SpecError:
        return ()


def quality_section(
    facts: Facts, pictures: Pictures | None, progress: ProgressCallback | None = None
) -> str:
    """Return the quality of the images of each class, and of those that were judged wrongly."""
    if pictures is None or (pictures.rows < 0).any():
        return ""
    table = pictures.data.table
    images = read_properties(table, stat_files(table), CacheConfig.of(facts.experiment), progress)
    quality = quality_by_class(table, images)
    if len(table.classes) > _MAX_COLUMNS:
        quality = {name: {"all": by_class["all"]} for name, by_class in quality.items()}
    header, rows = quality_rows(quality)
    remark = html.note(
        "Median (lower and upper quartile), as <code>sightx audit</code> measures it. What differs "
        "between classes can be what a model learns."
    )
    parts = [html.table(header, rows), remark, *_recall_by_sharpness(facts, pictures, images.frame)]
    return html.section("quality", "Image quality", parts)


def _recall_by_sharpness(facts: Facts, pictures: Pictures, frame) -> Iterator[str]:  # type: ignore[no-untyped-def]
    """Yield how often thirds of the images, by sharpness, are judged rightly."""
    sharpness = frame["sharpness"].to_numpy()[pictures.rows]
    known = np.flatnonzero(frame["is_known"].to_numpy()[pictures.rows].astype(bool))
    if len(known) < 3 * _MISTAKES:
        return
    is_right = facts.predictions.decisions == facts.predictions.labels
    thirds = np.array_split(known[np.argsort(sharpness[known], kind="stable")], 3)
    shares = [f"{is_right[part].mean():.1%}" for part in thirds]
    yield (
        f"<p>Of the third of images that is least sharp, {shares[0]} are judged rightly; of the "
        f"middle one {shares[1]}, of the sharpest {shares[2]}.</p>"
    )
