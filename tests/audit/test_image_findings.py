from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

import sightx
from sightx.audit.audit import audit
from sightx.audit.image_findings import quality_findings
from sightx.audit.image_properties import ImageProperties
from sightx.audit.quality import QualityMeasures
from support.images import encode


def test_files_that_are_read_in_a_way_that_surprises(project, eyes, codes):
    image = Image.fromarray(eyes["5_left"][0]).rotate(30)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.asarray(image.rotate(40).convert("L")).astype(np.uint16) * 257
    project.add("print.jpg", encode(image.convert("CMYK"), "JPEG"), 0, "a")
    project.add("turned.jpg", encode(image.rotate(15), "JPEG", exif=exif), 0, "b")
    project.add("deep.png", encode(deep, "PNG"), 0, "c")
    frames = [image.rotate(60), image.rotate(80)]
    moving = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    project.add("moving.gif", moving, 0, "d")
    project.add("wide.png", encode(np.asarray(image.resize((600, 20))), "PNG"), 0, "e")
    findings = codes(audit(sightx.load(project.spec())).report)
    examples = {
        code: (finding.examples[0].paths[0], finding.examples[0].note)
        for code, finding in findings.items()
        if finding.examples
    }
    assert examples["cmyk"] == ("print.jpg", "mode CMYK")
    assert examples["exif-rotated"] == ("turned.jpg", "orientation 6")
    assert examples["deep-colour"] == ("deep.png", "bits 16")
    assert examples["several-frames"] == ("moving.gif", "frames 2")
    assert examples["extreme-size"] == ("wide.png", "600 x 20")
    odd = ("cmyk", "exif-rotated", "deep-colour", "several-frames", "extreme-size")
    assert {(findings[code].severity, findings[code].count) for code in odd} == {("note", 1)}


def test_usual_files_are_not_mentioned(project, codes):
    findings = codes(audit(sightx.load(project.spec())).report)
    assert set(findings) <= {"quality", "uncertain-recall"}


def test_the_worst_images_come_first_and_are_described(project, eyes, codes):
    image = Image.fromarray(eyes["7_left"][0])
    project.add("blurred.jpg", np.asarray(image.filter(ImageFilter.GaussianBlur(5))), 1, "a")
    project.add("dark.jpg", np.asarray(image.rotate(50).point(lambda v: v // 6)), 1, "b")
    finding = codes(audit(sightx.load(project.spec())).report)["quality"]
    notes = {example.paths[0]: example.note for example in finding.examples}
    assert notes["blurred.jpg"].startswith(("blurred: sharpness 0.0", "flat: contrast 0.0"))
    assert notes["dark.jpg"].startswith(("dark: brightness 0.1", "flat: contrast 0.0"))
    assert finding.count >= 2
    assert finding.message.endswith(f"the examples are its {len(finding.examples)} worst")
    assert finding.severity == "note"


def test_among_equal_images_the_lowest_ranked_are_nothing_unusual():
    frame = pd.DataFrame([QualityMeasures(*np.full(len(QualityMeasures._fields), 0.5))] * 9)
    images = ImageProperties(frame.assign(is_known=True), np.zeros((9, 4), np.uint64), [], {})
    (finding,) = quality_findings(images)
    assert finding.message.startswith("0 of 9 images are far below")
    assert finding.message.endswith("the examples are the lowest-ranked, nothing unusual")


def test_quality_is_listed_by_class(project):
    quality = audit(sightx.load(project.spec())).report.quality
    assert set(quality) == set(QualityMeasures._fields)
    low, median, high = quality["sharpness"]["0"]
    assert 0 < low <= median <= high
    assert set(quality["sharpness"]) == {"all", "0", "1", "2"}
