"""Neither the identity nor the order of classes comes from how their labels are written."""

from __future__ import annotations

import pytest

from sightx.data import classes
from sightx.data.classes import (
    class_key,
    class_name,
    class_positions,
    find_classes,
    known_scale,
    likely_order,
    require_order,
)
from sightx.errors import LINE_LIMIT, DataError, SpecError

CAFE = ("caf\u00e9", "cafe\u0301")  # composed and decomposed


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (("0", "0.0", "00", "0.", "-0", "+0", " 0 "), "0"),
        (("10", "10.0", "010"), "10"),
        (("1.5", "1.50", "01.5"), "1.5"),
        (("-1", "-1.0", "-01"), "-1"),
        (("cat", " cat", "cat\u00a0", "\ufeffcat", "cat\u200b", "cat\t"), "cat"),
        (CAFE, CAFE[0]),
        (("A1", "\uff21\uff11"), "A1"),
        (("7", "\uff17"), "7"),
        (("\u72ac\u3000", "\u72ac"), "\u72ac"),
    ],
)
def test_spellings_of_one_class_are_one_class(spellings: tuple[str, ...], name: str) -> None:
    assert {class_key(spelling) for spelling in spellings} == {name}
    assert find_classes({**dict.fromkeys(spellings, 2), "zoo": 1}) == tuple(sorted([name, "zoo"]))
    positions = class_positions(spellings, ["zoo", spellings[-1]])
    assert positions == dict.fromkeys(spellings, 1)


def test_a_class_with_one_spelling_keeps_it() -> None:
    assert find_classes({"01": 3, "02": 1}) == ("01", "02")
    assert find_classes({"1.0": 3, "2.0": 1}) == ("1.0", "2.0")
    assert class_name(" No DR ") == "No DR"


@pytest.mark.parametrize(
    ("more", "fewer"),
    [
        ("cat", "Cat"),
        ("No DR", "no_dr"),
        ("No-DR", "No DR"),
        ("no  dr", "no dr"),
        ("stra\u00dfe", "STRASSE"),
        ("m2", "m\u00b2"),
        ("a b", "a\u00a0b"),
    ],
)
def test_labels_that_may_be_one_class_are_named_with_their_counts(more: str, fewer: str) -> None:
    with pytest.raises(DataError) as caught:
        find_classes({fewer: 3, "zoo": 1, more: 1200}, "labels.csv")
    (problem,) = caught.value.problems
    assert (problem.code, problem.file) == ("class-spelling", "labels.csv")
    assert f"{more!r} (1,200) and {fewer!r} (3)" in problem.message
    assert "dataset.classes" in problem.hint


def test_numbers_and_signs_are_no_spelling() -> None:
    assert find_classes({"-1": 1, "1": 1}) == ("-1", "1")
    assert find_classes({"A": 1, "A+": 1, "A-": 1}) == ("A", "A+", "A-")
    assert find_classes({"1e3": 1, "1000": 1}) == ("1000", "1e3")
    assert class_positions(["A", "a"], ["a", "A"]) == {"A": 1, "a": 0}
    assert class_positions(["Cat", "x"], ["cat"]) == {}


@pytest.mark.parametrize(
    ("form", "number"),
    [
        ("0x1F", "31"), ("0b11", "3"), ("1_000", "1000"), ("1,000", "1000.0"),
        ("1,234,567", "1234567"),
        ("2,5", "2.5"), ("\u0661", "1"), ("0X1f", "0x1F"),
    ],
)  # fmt: skip
def test_other_forms_of_a_number_are_named(form: str, number: str) -> None:
    with pytest.raises(DataError, match="class-spelling") as caught:
        find_classes({form: 2, number: 3, "7": 1})
    assert repr(form) in str(caught.value)
    assert find_classes({form: 2, "7": 1, "0b": 1, "1e3": 1}) == tuple(
        sorted([form, "7", "0b", "1e3"])
    )


def test_the_value_of_a_number_is_exact() -> None:
    keys = {"+007": "7", "-0.0": "0", "100": "100", "1.50": "1.5", ".5": "0.5", "5.": "5"}
    keys |= {"-00.10": "-0.1", "000": "0", "-3": "-3"}
    assert {name: class_key(name) for name in keys} == keys
    assert len(find_classes({f"{10**40}{digit}": 1 for digit in range(3)})) == 3


def test_numbers_are_sorted_by_their_value_and_names_by_spelling() -> None:
    assert find_classes(dict.fromkeys(["10", "2", "0", "1"], 1)) == ("0", "1", "2", "10")
    assert find_classes(dict.fromkeys(["10.0", "9.5", "-3"], 1)) == ("-3", "9.5", "10.0")
    assert find_classes(dict.fromkeys(["10", "2", "none"], 1)) == ("10", "2", "none")


SCALES = [
    ["none", "mild", "moderate", "severe", "proliferative"],
    ["No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"],
    ["No DR", "Mild NPDR", "Moderate NPDR", "Severe NPDR", "PDR"],
    ["normal", "mild", "severe"],
    ["Healthy", "Doubtful", "Minimal", "Moderate", "Severe"],
    ["NonDemented", "VeryMildDemented", "MildDemented", "ModerateDemented"],
    ["healthy", "mild disease", "severe disease"],
    ["low", "medium", "high"],
    ["LOW_RISK", "MEDIUM_RISK", "HIGH_RISK"],
    ["small", "medium", "large"],
    ["bad", "fair", "good", "excellent"],
    ["stage I", "stage II", "stage III", "stage IV"],
]


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale[1])
def test_known_scales_have_their_order(scale: list[str]) -> None:
    assert known_scale(sorted(scale)) == tuple(scale)
    assert likely_order(sorted(scale)) == tuple(scale)


@pytest.mark.parametrize(
    "names",
    [
        ["cat", "dog", "fish"],
        ["mild", "dog"],
        ["benign", "malignant"],
        ["none", "normal"],
        ["mild"],
    ],
)
def test_other_names_are_no_scale(names: list[str]) -> None:
    assert known_scale(names) == ()


def test_numbers_in_names_give_a_likely_order_but_no_scale() -> None:
    names = ["grade10", "grade2", "grade1"]
    assert likely_order(names) == ("grade1", "grade2", "grade10")
    assert likely_order(["10-19", "0-2", "3-9"]) == ("0-2", "3-9", "10-19")
    assert known_scale(names) == ()
    assert likely_order(["grade10", "stage2"]) == ()


def test_no_step_of_a_scale_is_there_twice() -> None:
    for scale in classes.SCALES:
        steps = [word for step in scale for word in step]
        assert len(set(steps)) == len(steps)


def test_an_unknown_order_shows_the_alphabetical_and_proposes_the_likely_one() -> None:
    require_order(["0", "1", "2", "10"])
    with pytest.raises(SpecError) as caught:
        require_order(["mild", "moderate", "none", "severe"])
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == ("order-unknown", "dataset.ordered")
    assert "alphabetical one: mild, moderate, none, severe" in problem.message
    assert 'classes = ["none", "mild", "moderate", "severe"]' in problem.hint


def test_an_order_that_nothing_suggests_is_left_to_the_user() -> None:
    with pytest.raises(SpecError) as caught:
        require_order(["amber", "blue"])
    assert 'classes = ["amber", "blue"], but' in str(caught.value)
    with pytest.raises(SpecError) as caught:
        require_order(
            [
                f"a class with a long name {number} {letter}"
                for number, letter in enumerate("abcdefgh")
            ]
        )
    (problem,) = caught.value.problems
    assert len(str(problem)) <= LINE_LIMIT
    assert problem.hint.endswith("the lowest first")
