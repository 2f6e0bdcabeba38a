"""What the files and the pixels of images tell, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sightx.audit.file_facts import MODES
from sightx.audit.findings import MAX_EXAMPLES, AuditFinding, Example
from sightx.audit.image_properties import ImageProperties
from sightx.audit.quality import QUALITY_DIRECTIONS, QualityMeasures
from sightx.audit.statistics import robust_z
from sightx.records.table import ImageTable

Array = np.ndarray[Any, Any]

_FENCE = 3.0  # interquartile ranges beyond the quartiles (J. W. Tukey, 1977)
_MIN_RANGE = np.log(2) / _FENCE  # of a logarithm, so that a factor below 2 is never extreme
_UNUSUAL_Z = 3.5
_FAULTS = {
    "sharpness": "blurred: sharpness {:.3f}, median {:.3f}",
    "contrast": "flat: contrast {:.3f}, median {:.3f}",
    "unevenness": "unevenly lit: unevenness {:.3f}, median {:.3f}",
    "brightness": "dark: brightness {:.2f}, median {:.2f}",
    "disc": "little is visible: the bright area is {:.1%} of the image, median {:.1%}",
    "clipped": "overexposed: {:.1%} of the bright area is saturated, median {:.1%}",
}
"""The fault of an image whose worst measure this is, with its value and that of most images."""


def file_findings(images: ImageProperties) -> list[AuditFinding]:
    """Return files that are read, but not as their makers may expect."""
    frame = images.frame
    is_file = images.is_known & (frame["format"] > 0).to_numpy()
    findings = (
        _fact_finding(
            frame, "several-frames", is_file & (frame["frames"] > 1).to_numpy(), "frames",
            "several frames or pages: only the first is used",
            "store the one that is meant as an image file",
        ),
        _fact_finding(
            frame, "cmyk", is_file & (frame["mode"] == MODES.index("CMYK")).to_numpy(), "mode",
            "the colours of print (CMYK), which are converted to RGB",
            "convert them with the profile that they were made for",
        ),
        _fact_finding(
            frame, "deep-colour", is_file & (frame["bits"] > 8).to_numpy(), "bits",
            "more than 8 bits per channel: the high byte is used",
            "map the values that matter to 0..255, for example by a window",
        ),
        _fact_finding(
            frame, "exif-rotated", is_file & (frame["orientation"] > 1).to_numpy(), "orientation",
            "an orientation in EXIF: SightX turns them, other programs may not",
            "store the pixels upright",
        ),
        _size_finding(frame, is_file),
    )  # fmt: skip
    return [finding for finding in findings if finding]


def _fact_finding(
    frame: pd.DataFrame, code: str, chosen: Array, fact: str, what: str, hint: str
) -> AuditFinding | None:
    """Return the files that a fact is remarkable of."""
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return None
    values = [
        MODES[value] if fact == "mode" else str(value)
        for value in frame[fact].to_numpy()[rows[:MAX_EXAMPLES]]
    ]
    examples = tuple(
        Example((int(row),), f"{fact} {value}") for row, value in zip(rows, values, strict=False)
    )
    message = f"{len(rows)} {'image has' if len(rows) == 1 else 'images have'} {what}"
    return AuditFinding(
        code, "note", message, number=len(rows), threshold="any", hint=hint, count=len(rows),
        examples=examples,
    )  # fmt: skip


def _size_finding(frame: pd.DataFrame, is_file: Array) -> AuditFinding | None:
    """Return images whose area or aspect ratio is far from that of most."""
    rows = np.flatnonzero(is_file)
    if not len(rows):
        return None
    width, height = (frame[name].to_numpy(float)[rows] for name in ("width", "height"))
    is_extreme = _is_extreme(np.log(width * height)) | _is_extreme(np.log(width / height))
    extreme = rows[is_extreme]
    if not len(extreme):
        return None
    area = np.abs(np.log(width * height) - np.median(np.log(width * height)))[is_extreme]
    examples = tuple(
        Example((int(row),), f"{frame['width'][row]} x {frame['height'][row]}")
        for row in extreme[np.argsort(-area, kind="stable")][:MAX_EXAMPLES]
    )
    usual = f"{np.median(width):.0f} x {np.median(height):.0f}"
    verb = "image has" if len(extreme) == 1 else "images have"
    message = f"{len(extreme)} {verb} an extreme size or aspect ratio; the median is {usual}"
    return AuditFinding(
        "extreme-size", "note", message, number=len(extreme), count=len(extreme),
        threshold="3 interquartile ranges beyond the quartiles of log area or log aspect, and at "
        "least a factor of 2: resizing then loses detail or shape",
        hint="look at them: they may be thumbnails, scans or screenshots", examples=examples,
    )  # fmt: skip


def _is_extreme(values: Array) -> Array:
    """Return which values lie far beyond the quartiles, bool (N,)."""
    low, high = np.percentile(values, [25, 75])
    fence = _FENCE * max(high - low, _MIN_RANGE)
    extreme: Array = (values < low - fence) | (values > high + fence)
    return extreme


def quality_findings(images: ImageProperties) -> list[AuditFinding]:
    """Return the images of the worst quality, compared with the others of the same dataset."""
    rows = np.flatnonzero(images.is_known)
    if not len(rows):
        return []
    names = list(QUALITY_DIRECTIONS)
    columns = [images.frame[name].to_numpy(float)[rows] for name in names]
    signs = [-1 if QUALITY_DIRECTIONS[name] == "max" else 1 for name in names]
    scores = np.stack(
        [sign * robust_z(column) for sign, column in zip(signs, columns, strict=True)]
    )
    worst, measure = scores.max(axis=0), scores.argmax(axis=0)
    order = np.argsort(-worst, kind="stable")[:MAX_EXAMPLES]
    examples = tuple(
        Example((int(rows[at]),), _describe(images.frame, int(rows[at]), names[measure[at]]))
        for at in order
    )
    unusual = int((worst > _UNUSUAL_Z).sum())
    verb = "image is" if len(rows) == 1 else "images are"
    shown = f"its {len(examples)} worst" if unusual else "the lowest-ranked, nothing unusual"
    message = (
        f"{unusual:,} of {len(rows):,} {verb} far below the usual quality of this dataset in one "
        f"measure; the examples are {shown}"
    )
    return [
        AuditFinding(
            "quality", "note", message, number=unusual, count=unusual, examples=examples,
            threshold=f"{_UNUSUAL_Z:g} robust standard deviations from the median of this dataset: "
            "there is no absolute limit, because cameras differ",
            hint="look at them, and list those that nobody could grade in dataset.exclude",
        )
    ]  # fmt: skip


def _describe(frame: pd.DataFrame, row: int, name: str) -> str:
    return _FAULTS[name].format(frame[name][row], frame[name][frame["is_known"]].median())


def quality_by_class(
    table: ImageTable, images: ImageProperties
) -> Mapping[str, Mapping[str, Sequence[float]]]:
    """Return the quartiles of each measure of quality for each class, and for all samples."""
    known, labels = images.is_known, table.labels
    rows = {"all": known} | {
        name: known & (labels == label) for label, name in enumerate(table.classes)
    }
    return {
        measure: {
            name: np.percentile(images.frame[measure][chosen], [25, 50, 75]).round(4).tolist()
            for name, chosen in rows.items()
            if chosen.any()
        }
        for measure in QualityMeasures._fields
    }
