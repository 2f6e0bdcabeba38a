from __future__ import annotations

from sightx.records.survey import Doubt, Note, Survey, Surveyor


def test_notes_of_one_sort_are_counted_with_their_first_example():
    surveyor = Surveyor()
    surveyor.note("hidden file", "hidden files", ".a")
    surveyor.note("image", "images", "b", count=2000, is_used=True)
    surveyor.note("hidden file", "hidden files", ".c", count=2)
    surveyor.note("folder", "folders", "d", count=0)
    surveyor.note("empty row", "empty rows", "line 3")
    surveyor.doubt("it is strange", "look")

    survey = surveyor.survey()

    assert survey == Survey(
        (
            Note(3, "hidden file", "hidden files", ".a"),
            Note(2000, "image", "images", "b", is_used=True),
            Note(1, "empty row", "empty rows", "line 3"),
        ),
        (Doubt("it is strange", "look"),),
    )
    assert survey.lines() == [
        "not used: 3 hidden files, such as .a",
        "used: 2,000 images, such as b",
        "not used: 1 empty row: line 3",
    ]


def test_a_line_can_be_printed_whatever_a_file_is_called():
    (line,) = Survey((Note(1, "file", "files", "\udcff\n" + "x" * 500),)).lines()
    assert line.encode()
    assert line.isprintable()
    assert len(line) <= 300
