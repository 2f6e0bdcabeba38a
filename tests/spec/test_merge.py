# ruff: noqa: E501 - lines of output are not broken
from __future__ import annotations

from pathlib import Path

import pytest

from sightx import SpecError
from sightx.io import toml
from sightx.io.toml import Position
from sightx.spec import merge

TEXT = """\
seed = 1
[optimizer]
use = "adam"
lr = 0.1
[[augment]]
use = "flip"
[[augment]]
use = "rotate"
degrees = 90
[model]
hidden = [3, 4]
"""


def applied(*overrides: str, text: str = TEXT) -> toml.Document:
    spec = toml.parse(text.encode(), "a.toml")
    assert merge.apply_overrides(spec, overrides) == []
    return spec


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("name=a-b", ("name",), "a-b"),
        ("optimizer.lr=1e-3", ("optimizer", "lr"), 1e-3),
        ("augment.rotate.degrees=45", ("augment", 1, "degrees"), 45),
        ("augment.1.degrees=45", ("augment", 1, "degrees"), 45),
        ("augment.flip.p=1", ("augment", 0, "p"), 1),
        ('augment.0={use = "crop"}', ("augment", 0), {"use": "crop"}),
        ("model.hidden.1=9", ("model", "hidden"), [3, 9]),
        ("model.hidden=[]", ("model", "hidden"), []),
        ("training.epochs=5", ("training", "epochs"), 5),
        ("a.b.c=true", ("a", "b"), {"c": True}),
        ('loss={use = "x"}', ("loss", "use"), "x"),
    ],
)
def test_an_override_sets_one_value(
    override: str, path: tuple[str | int, ...], value: object
) -> None:
    spec = applied(override)
    result: object = spec.data
    for part in path:
        result = result[part]  # type: ignore[index]
    assert result == value
    assert spec.position(path).file in (f"--set {override}", "a.toml")


def test_a_changed_use_replaces_the_table_but_the_same_use_does_not() -> None:
    assert applied("optimizer.use=sgd").data["optimizer"] == {"use": "sgd"}
    assert applied("optimizer.use=adam").data["optimizer"] == {"use": "adam", "lr": 0.1}
    assert applied("augment.rotate.use=shift").data["augment"][1] == {"use": "shift"}
    later = applied("optimizer.lr=5", "optimizer.use=sgd", "optimizer.momentum=0.9")
    assert later.data["optimizer"] == {"use": "sgd", "momentum": 0.9}


def test_a_key_use_at_the_top_of_a_spec_replaces_nothing() -> None:
    assert applied("use=x").data == {**toml.parse(TEXT.encode(), "").data, "use": "x"}


def test_the_last_override_wins() -> None:
    assert applied("seed=1", "seed=2").data["seed"] == 2
    assert applied("a.b=1", "a={c = 2}").data["a"] == {"c": 2}


def test_overrides_have_positions_and_other_keys_keep_theirs() -> None:
    spec = applied("optimizer.lr=3", "training.epochs=5")
    assert spec.position(("optimizer", "lr")) == Position("--set optimizer.lr=3")
    assert spec.position(("optimizer", "use")) == Position("a.toml", 3, 1)
    assert spec.position(("training",)) == Position("--set training.epochs=5")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed", "--set seed: error[usage] expected key=value"),
        ("=3", "--set =3: error[usage] expected key=value"),
        ("a.=3", "--set a.=3: error[usage] expected key=value"),
        ("seed.x=3", "--set seed.x=3: error[usage] seed is a value, not a table"),
        ("model.hidden.0.x=3", "--set model.hidden.0.x=3: error[usage] 0 is a value, not a table"),
        ("augment.crop.x=3", "--set augment.crop.x=3: error[usage] no item 'crop' in the array; known: flip, rotate"),
        ("augment.2.x=3", "--set augment.2.x=3: error[usage] no item '2' in the array; known: flip, rotate"),
        ("augment.².x=3", "--set augment.².x=3: error[usage] no item '²' in the array; known: flip, rotate"),
        ("model.hidden.7=3", "--set model.hidden.7=3: error[usage] no item '7' in the array; known: 0, 1"),
        ('seed="3', "--set seed=\"3: error[syntax] '\"3' is not a TOML value; strings go in quotes, arrays in [brackets]"),
        ("seed=1\nname=2", "--set seed=1\\nname=2: error[syntax] '1\\nname=2' is not a TOML value; strings go in quotes, arrays in [brackets]"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_one_line_and_the_others_apply(override: str, line: str) -> None:
    spec = toml.parse(TEXT.encode(), "a.toml")
    (problem,) = merge.apply_overrides(spec, [override, "seed=7"])
    assert str(problem).replace("\\\\n", "\\n") == line
    assert spec.data["seed"] == 7


def test_an_ambiguous_name_needs_an_index() -> None:
    spec = toml.parse(b'[[a]]\nuse = "x"\n[[a]]\nuse = "y"\n[[a]]\nuse = "x"\n', "a.toml")
    (problem,) = merge.apply_overrides(spec, ["a.x.p=1"])
    assert (problem.message, problem.hint) == ("'x' is there twice", "give a position: 0, 2")


def test_a_long_override_is_shortened_in_messages() -> None:
    spec = toml.parse(b"seed = 1", "a.toml")
    (problem,) = merge.apply_overrides(spec, ["k" * 5000])
    assert str(problem).endswith("...: error[usage] expected key=value")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_derived_spec_is_merged_over_its_base_with_all_positions(tmp_path: Path) -> None:
    base = write(tmp_path, "base/b.toml", TEXT)
    heir = write(tmp_path, "a.toml", """\
extends = "base/b.toml"
name = "a"
[optimizer]
lr = 0.5
[[augment]]
use = "crop"
[model]
width = 3
""")  # fmt: skip
    spec = merge.read_with_bases(heir)
    assert spec.text == heir.read_text()
    assert spec.data == {
        "name": "a", "seed": 1, "optimizer": {"use": "adam", "lr": 0.5},
        "augment": [{"use": "crop"}], "model": {"hidden": [3, 4], "width": 3},
    }  # fmt: skip
    below, above = str(tmp_path / "base/b.toml"), str(heir)
    assert Path(below) == base
    assert spec.position(("seed",)) == Position(below, 1, 1)
    assert spec.position(("optimizer", "use")) == Position(below, 3, 1)
    assert spec.position(("optimizer", "lr")) == Position(above, 4, 1)
    assert spec.position(("optimizer",)) == Position(above, 3, 2)
    assert spec.position(("augment", 0, "use")) == Position(above, 6, 1)
    assert ("augment", 1) not in spec.positions
    assert spec.position(("model", "hidden", 1)) == Position(below, 11, 14)


def test_a_changed_use_replaces_the_table_of_the_base(tmp_path: Path) -> None:
    write(tmp_path, "b.toml", TEXT)
    heir = write(tmp_path, "a.toml", 'extends = "b.toml"\n[optimizer]\nuse = "sgd"\n')
    spec = merge.read_with_bases(heir)
    assert spec.data["optimizer"] == {"use": "sgd"}
    assert ("optimizer", "lr") not in spec.positions


def test_bases_have_bases(tmp_path: Path) -> None:
    write(tmp_path, "deep/c.toml", "a = 1\nb = 1\nc = 1\n")
    write(tmp_path, "deep/b.toml", 'extends = "c.toml"\nb = 2\nc = 2\n')
    spec = merge.read_with_bases(write(tmp_path, "a.toml", 'extends = "deep/b.toml"\nc = 3\n'))
    assert spec.data == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('\nextends = "a.toml"\n', "{a}:2:1: error[circular-extends] extends: a.toml extends this spec"),
        ("extends = 3\n", "{a}:1:1: error[wrong-type] extends: expected a path as a string"),
        ('extends = "none.toml"\n', "{a}:1:1: error[unreadable] extends: 'none.toml' cannot be read: No such file or directory; check the path"),
        ('extends = "x\\u0000"\n', "{a}:1:1: error[unreadable] extends: 'x\\x00' cannot be read: embedded null byte; check the path"),
    ],
)  # fmt: skip
def test_a_wrong_base_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = write(tmp_path, "a.toml", text)
    with pytest.raises(SpecError) as caught:
        merge.read_with_bases(path)
    names = {"a": path}
    assert str(caught.value) == line.format(**names)


def test_a_circle_of_three_specs_is_found(tmp_path: Path) -> None:
    write(tmp_path, "c.toml", 'extends = "a.toml"\n')
    write(tmp_path, "b.toml", 'extends = "./c.toml"\n')
    path = write(tmp_path, "a.toml", 'extends = "b.toml"\n')
    with pytest.raises(SpecError, match=r"c\.toml:1:1: error\[circular-extends\]"):
        merge.read_with_bases(path)


def test_the_section_of_an_override_is_the_first_part_of_its_key() -> None:
    assert [merge.override_section(o) for o in ("dataset.root=x.y", "seed=1.5", "x")] == [
        "dataset",
        "seed",
        "x",
    ]
