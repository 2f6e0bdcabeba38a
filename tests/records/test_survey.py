from __future__ import annotations

from sightx.records.survey import Doubt, Note, Survey, Surveyor


def test_notes_of_one_sort_are_counted_with_their_first_example():
    surveyor = Surveyor()
    surveyor.note("hidden files", ".a")
    surveyor.note("images", "b", count=2000, is_used=True)
    surveyor.note("hidden files", ".c", count=2)
    surveyor.note("nothing", "d", count=0)
    surveyor.doubt("it is strange", "look")

    survey = surveyor.survey()

    assert survey == Survey(
        (Note(3, "hidden files", ".a"), Note(2000, "images", "b", is_used=True)),
        (Doubt("it is strange", "look"),),
    )
    assert survey.lines() == [
        "not used: 3 hidden files, such as .a",
        "used: 2,000 images, such as b",
    ]


def test_a_line_can_be_printed_whatever_a_file_is_called():
    (line,) = Survey((Note(1, "files", "\udcff\n" + "x" * 500),)).lines()
    assert line.encode()
    assert line.isprintable()
    assert len(line) <= 300
