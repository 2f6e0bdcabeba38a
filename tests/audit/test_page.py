from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

import sightx
from sightx.audit.audit import audit
from sightx.audit.page import render_page, write_page
from sightx.errors import SpecError
from support.html import Parser


@pytest.fixture
def result(project):
    content = (project.folder / "images" / "0_left.jpg").read_bytes()
    project.add("<b>&.jpg", content, 0, "0", "test")
    project.add("broken.jpg", content[:100], 0, "0")
    return audit(sightx.load(project.spec()))


def test_the_page_is_one_valid_file_with_every_finding(result):
    page = render_page(result)
    parser = Parser()
    parser.feed(page)
    assert parser.open == []
    for finding in result.report.findings:
        assert finding.message in parser.text
    for statement in result.report.statements:
        assert statement in parser.text
    assert "<b>&.jpg" in parser.text  # escaped in the source
    assert all(link.startswith("data:image/jpeg;base64,") for link in parser.links)
    assert "<script" not in page
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    assert len(page) < 2_000_000


def test_the_images_are_small_copies(result):
    sources = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', render_page(result))
    images = [Image.open(io.BytesIO(base64.b64decode(source))) for source in sources]
    assert len(images) > 20
    assert {image.size for image in images} == {(64, 64)}


def test_a_page_is_replaced_but_no_other_file(result, tmp_path):
    page, other = tmp_path / "page.html", tmp_path / "labels.csv"
    write_page(result, page)
    before = page.read_bytes()
    write_page(result, page)
    assert page.read_bytes() == before
    other.write_text("image,label\n")
    with pytest.raises(SpecError, match="is not a page of an audit"):
        write_page(result, other)
    assert other.read_text() == "image,label\n"


def test_a_table_that_cannot_be_read_has_a_page_too(project):
    page = render_page(audit(sightx.load(project.spec(label='"grade"'))))
    assert "missing-column" in page
    assert "nothing else was looked at" in page
