# ruff: noqa: E501 - lines of output are not broken
from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

Call = Callable[..., object]
VALID = "valid (stage spec; --deep opens the data and builds the model)"

HEAD = """\
name = "a"
[training]
"""
REST = """
[dataset]
use = "synthetic-fundus"
[model]
use = "simplenet"
"""


def test_a_valid_spec_is_reported_as_valid_and_exits_with_0(validate) -> None:
    done = validate(HEAD + REST)
    assert done == (0, f"a.toml: {VALID}\n", "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # S01
        ("epoch = 3", "error[unknown-key] training.epoch: unknown key; did you mean 'epochs'?"),
        # S02
        ("epochs = true", "error[wrong-type] training.epochs: true is a boolean, expected an integer"),
        ('epochs = "3"', "error[wrong-type] training.epochs: '3' is a string, expected an integer"),
        ("epochs = 3.0", "error[wrong-type] training.epochs: 3.0 is a float, expected an integer"),
        ('clip_grad_norm = "0.1"', "error[wrong-type] training.clip_grad_norm: '0.1' is a string, expected a number"),
        ("clip_grad_norm = false", "error[wrong-type] training.clip_grad_norm: false is a boolean, expected a number"),
        # S03
        ("clip_grad_norm = nan", "error[not-finite] training.clip_grad_norm: nan: must be finite"),
        ("clip_grad_norm = inf", "error[not-finite] training.clip_grad_norm: inf: must be finite"),
        ("clip_grad_norm = 1e400", "error[not-finite] training.clip_grad_norm: inf: must be finite"),
        # S08, bounds and choices in plain words
        ("epochs = -5", "error[invalid-value] training.epochs: -5: must be greater than 0"),
        ("batch_size = 0", "error[invalid-value] training.batch_size: 0: must be greater than 0"),
        ("clip_grad_norm = -1", "error[invalid-value] training.clip_grad_norm: -1: must be greater than or equal to 0"),
        ('precision = "fp31"', "error[invalid-value] training.precision: 'fp31': must be 'fp32' or 'bf16'"),
        ("epochs = 2026-01-01", "error[wrong-type] training.epochs: 2026-01-01 is a date; put it in quotes"),
        ("epochs = {}", "error[wrong-type] training.epochs: is a table, expected an integer"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_exactly_one_line(validate, line: str, message: str) -> None:
    done = validate(HEAD + line + REST)
    assert done == (2, "", f"a.toml:3:1: {message}\n")


def test_an_integer_is_a_number(validate) -> None:  # S02
    assert validate(HEAD + REST + "[optimizer]\nuse = 'adam'\nlr = 1").code == 0


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        # S04
        (b'name = "c\xe9"', "a.toml:1:10: error[encoding] not UTF-8 (byte 0xe9 at offset 9); save it as UTF-8"),
        ('name = "a"'.encode("utf-16"), "a.toml:1:1: error[encoding] is UTF-16; save it as UTF-8"),
        # S06
        (b'name = "a', "a.toml:1:1: error[syntax] Unterminated string; end it with a quote"),
        (b"seed = 1\nseed = 2\n", "a.toml:2:1: error[syntax] seed is set a second time; keep one"),
        (b"[model]\n[model]\n", "a.toml:2:2: error[syntax] model is set a second time; keep one"),
        (b"seed = " + b"9" * 5000, "a.toml:1:8: error[syntax] a number is too long; at most 4300 digits"),
        # S09
        (b"", "a.toml: error[empty] says nothing; a spec has a name, [dataset] and [model]"),
        (b"# nothing\n", "a.toml: error[empty] says nothing; a spec has a name, [dataset] and [model]"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_toml_is_one_line(validate, raw: bytes, message: str) -> None:
    assert validate(raw) == (2, "", message + "\n")


def test_missing_files_and_folders_are_one_line_each(sightx, working_folder: Path) -> None:  # S09
    (working_folder / "folder").mkdir()
    done = sightx("validate", "none.toml", "folder")
    assert done.code == 2
    assert done.lines == [
        "none.toml: error[unreadable] cannot be read: No such file or directory; check the path",
        "folder: error[unreadable] is a folder, not a spec; "
        "sightx init ./folder writes a spec for a folder of images",
    ]
    assert done.out == "none.toml: invalid\nfolder: invalid\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_file_that_may_not_be_read_is_one_line(
    validate, sightx, working_folder: Path
) -> None:  # S09
    assert validate(HEAD + REST).code == 0  # so that nothing has to be imported as another user
    (working_folder / "a.toml").chmod(0)
    os.seteuid(65534)
    try:
        done = sightx("validate", "a.toml")
    finally:
        os.seteuid(0)
    line = "a.toml: error[unreadable] cannot be read: Permission denied; check the path"
    assert done == (2, "", line + "\n")


def test_every_problem_of_every_file_is_reported_in_order(
    validate, working_folder: Path
) -> None:  # S08
    (working_folder / "b.toml").write_text('name = "b"\nsed = 1\n' + REST)
    done = validate(
        """\
name = "a b"
[training]
epochs = -5
batch_size = 0
[split]
use = "stratified"
validation = 1.2
[loss]
label_smoothing = 0.1
[optimizer]
use = "adm"
[[augment]]
use = "resize"
[[augment]]
use = "rotate"
degree = 3
""",
        "b.toml",
    )
    assert done.code == 2
    assert [line.partition(";")[0] for line in done.lines] == [
        "a.toml:1:1: error[invalid-value] name: 'a b' does not fit",
        "a.toml:1:1: error[missing-section] dataset: the section [dataset] is missing",
        "a.toml:1:1: error[missing-section] model: the section [model] is missing",
        "a.toml:3:1: error[invalid-value] training.epochs: -5: must be greater than 0",
        "a.toml:4:1: error[invalid-value] training.batch_size: 0: must be greater than 0",
        "a.toml:7:1: error[invalid-value] split.validation: 1.2: must be less than 1",
        "a.toml:8:2: error[missing-use] loss.use: must name a component",
        "a.toml:11:1: error[unknown-name] optimizer.use: no optimizer is called 'adm'",
        "a.toml:13:1: error[unknown-name] augment.0.use: no augment is called 'resize', but a preprocess is",
        "a.toml:14:3: error[missing-key] augment.1.degrees: is missing and has no default",
        "a.toml:16:1: error[unknown-key] augment.1.degree: unknown key",
        "b.toml:2:1: error[unknown-key] sed: unknown key",
    ]  # fmt: skip
    assert "did you mean 'adam'? known: adam, adamw, rmsprop, sam, sgd" in done.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[preprocess]\nuse = "resize"', "9:2: error[wrong-type] preprocess: is a table, expected an array of tables; write [[preprocess]]"),
        ('[[loss]]\nuse = "x"', "9:3: error[wrong-type] loss: is an array, expected a table with `use`; write [loss]"),
        ("[execution]\ndevice = 3", "10:1: error[wrong-type] execution.device: 3 is an integer, expected a string"),
        ('[[preprocess]]\nuse = "resize"', "9:3: error[missing-key] preprocess.0.size: is missing and has no default; one number for a square, or height and width"),
        ('[[preprocess]]\nuse = "resize"\nsize = "x"', "11:1: error[wrong-type] preprocess.0.size: 'x' is a string, expected an integer or an array"),
        ('[[preprocess]]\nuse = "resize"\nsize = 0', "11:1: error[invalid-value] preprocess.0.size: 0: must be greater than 0"),
        ('[split]\nuse = "grouped"\nvalidation = 0.5\ntest = 0.5', "9:2: error[invalid-value] split: validation and test together must be below 1"),
    ],
)  # fmt: skip
def test_hints_show_how_tables_and_arrays_are_written(validate, text: str, message: str) -> None:
    assert validate(HEAD + REST + "\n" + text).err == f"a.toml:{message}\n"


def test_values_in_place_of_tables_are_refused(validate) -> None:
    done = validate('name = "a"\ntraining = 3\nloss = "mse"\naugment = ["flip"]' + REST)
    assert done.lines == [
        "a.toml:2:1: error[wrong-type] training: 3 is an integer, expected a table; write [training]",
        "a.toml:3:1: error[wrong-type] loss: 'mse' is a string, expected a table with `use`; write [loss]",
        "a.toml:4:12: error[wrong-type] augment.0: 'flip' is a string, expected a table with `use`; "
        'write [[augment]] and use = "flip"',
    ]  # fmt: skip


def test_the_message_of_a_validator_is_shown_as_it_is(validate) -> None:
    text = (
        HEAD
        + '[dataset]\nuse = "synthetic-fundus"\n[model]\nuse = "resnet50"\nweights = "imagnet"\n'
    )
    (line,) = validate(text).lines
    assert line.startswith(
        "a.toml:7:1: error[invalid-value] model.weights: 'imagnet' must be none, "
    )


def test_no_line_is_longer_than_300_characters(validate) -> None:
    done = validate(HEAD + f'monitr = "{"m" * 2000}"\n{"k" * 2000} = 1' + REST)
    assert done.code == 2
    assert len(done.lines) == 2
    assert max(map(len, done.lines)) <= 300


def test_errors_of_overrides_name_the_override(validate) -> None:
    done = validate(
        HEAD + REST, "--set", "training.epochs=x", "--set", "optimizer.lr=-1", "--set", "y"
    )
    assert done.code == 2
    assert done.lines == [
        "--set optimizer.lr=-1: error[invalid-value] optimizer.lr: -1: must be greater than 0",
        "--set training.epochs=x: error[wrong-type] training.epochs: 'x' is a string, expected an integer",
        "--set y: error[usage] expected key=value",
    ]  # fmt: skip


def test_a_child_process_gives_the_same_lines_and_codes(child, working_folder: Path) -> None:
    (working_folder / "a.toml").write_text(HEAD + "epoch = 3" + REST)
    done = child("validate", "a.toml")
    line = "a.toml:3:1: error[unknown-key] training.epoch: unknown key; did you mean 'epochs'?"
    assert done == (2, "", line + "\n")


UNORDERED = """\
name = "a"
[dataset]
use = "image-folder"
root = "data"
layout = "flat"
ordered = true
[[preprocess]]
use = "resize"
size = 8
[model]
use = "simplenet"
"""


def test_ordered_classes_without_an_order_are_an_error_at_their_line(
    working_folder: Path, sightx: Call, validate: Call
) -> None:
    for name in ("No_DR", "Mild", "Moderate"):
        folder = working_folder / "data" / name
        folder.mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    assert validate(UNORDERED).code == 0  # without data nobody knows whether they are numbers
    line = (
        "a.toml:6:1: error[order-unknown] dataset.ordered: the order is not known, only the "
        'alphabetical one: Mild, Moderate, No_DR; write classes = ["No_DR", "Mild", "Moderate"] '
        "if that is their order"
    )
    assert validate(UNORDERED, "--deep") == (2, "", f"{line}\n")
    done = sightx("run", "a.toml")
    assert (done.code, done.lines[-1]) == (2, line)
    assert not (working_folder / "runs").exists()
    (pasted,) = re.findall(r"write (classes = \[.*?\])", line)
    assert validate(UNORDERED.replace("ordered", f"{pasted}\nordered"), "--deep").code == 0


def test_data_and_weights_that_are_not_there_are_named_without_opening_them(
    sightx, working_folder: Path
) -> None:
    (working_folder / "images").mkdir()
    text = 'name = "a"\n[dataset]\nuse = "image-folder"\nroot = "{}"\n[model]\nuse = "simplenet"\n'
    (working_folder / "a.toml").write_text(text.format("image"))
    missing = working_folder / "image"
    done = sightx("validate", "a.toml", "--set", "model.weights=b.pth")
    assert (done.code, done.out.splitlines()[1:]) == (0, [
        f"  a.toml:4:1: dataset.root: {missing} does not exist; did you mean 'images'?",
        f"  --set model.weights=b.pth: model.weights: {working_folder / 'b.pth'} does not exist; "
        "--set model.weights=PATH names another",
    ])  # fmt: skip
    for root in ("images", "@place"):
        assert (
            "does not exist"
            not in sightx("validate", "a.toml", "--set", f"dataset.root={root}").out
        )
    deep = sightx("validate", "a.toml", "--deep")
    assert deep.code == 3
    assert "did you mean 'images'? give the folder with --set dataset.root=FOLDER" in deep.lines[0]


def test_the_hint_of_missing_weights_fits_where_their_path_is_from(
    working_folder: Path, sightx: Call
) -> None:
    (folder := working_folder / "specs").mkdir()
    (folder / "a.toml").write_text(HEAD + REST + 'weights = "w.pt"\n')
    words = ("validate", "specs/a.toml", "--deep")
    (line,) = sightx(*words).lines
    assert line.startswith(f"{folder}/w.pt: error[no-weights]")
    assert "a relative path belongs to the folder of specs/a.toml;" in line
    words += ("--set", "model.weights=w.pt")
    (line,) = sightx(*words).lines
    assert line.startswith(f"{working_folder}/w.pt: error[no-weights]")
    assert "belongs to the working folder, because it is from --set or Python;" in line
    torch.save({"x": torch.zeros(1)}, "w.pt")
    assert "error[no-weights]" not in sightx(*words).err


CSV = """\
name = "a"
[dataset]
use = "csv"
root = "."
labels = "all.csv"
label = "grade"
group = "patient"
[[preprocess]]
use = "resize"
size = 8
[model]
use = "simplenet"
"""


@pytest.mark.parametrize(
    ("content", "more", "line"),
    [
        ("image,grade,patient\n", (), ""),
        ("# made by hand\nimage, grade,patient,site\nbroken", (), ""),
        (None, (), "5:1: dataset.labels: {file}: cannot be read: No such file or directory; its folder contains other.csv"),
        ("", (), "5:1: dataset.labels: {file}: the file is empty; it needs a header and rows"),
        ("image,garde,patient\n", (), "6:1: dataset.label: {file}:1: there is no column 'grade'; did you mean 'garde'?"),
        ("name,grade,patient\n", (), "2:2: dataset.image: {file}:1: there is no column 'image'; columns: name, grade, patient"),
        ("image;grade;patient\n", (), "5:1: dataset.labels: {file}:1: the cells are separated by ';', not by ','; "
         "save it with commas, or set separator = \";\" in [dataset]"),
        ("image;grade;patient\n", ("dataset.separator=;",), ""),
        ("1.png,a,p\n", ("dataset.columns=['image', 'grade', 'patient']",), ""),
        ("image,grade,patient\n", ("dataset.split=part",), "dataset.split: {file}:1: there is no column 'part'; "
         "columns: image, grade, patient"),
        ("image,grade,patient\n", ("dataset.test_labels=new.csv",), "dataset.test_labels: {folder}/new.csv: cannot be read: "
         "No such file or directory; its folder contains all.csv, other.csv"),
        ("image,grade,patient\n" + "\u00e4" * 2**20, (), ""),  # it is cut between two bytes
    ],
)  # fmt: skip
def test_a_header_is_compared_with_the_settings(
    validate: Call, working_folder: Path, content: str | None, more: tuple[str, ...], line: str
) -> None:
    (working_folder / "other.csv").touch()
    file = working_folder / "all.csv"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    done = validate(CSV, *(word for change in more for word in ("--set", change)))
    place = f"--set {more[0]}: " if more else "a.toml:"
    expected = f"  {place}{line.format(file=file, folder=working_folder)}\n" if line else ""
    assert done == (0, f"a.toml: {VALID}\n{expected}", "")


def test_headers_are_read_without_pandas(child: Call, working_folder: Path) -> None:
    (working_folder / "trainLabels.csv").write_text("image,grade\n")
    text = CSV.replace('"csv"', '"eyepacs"').replace("all.csv", "trainLabels.csv")
    (working_folder / "a.toml").write_text(re.sub("(label|group) = .*\n", "", text))
    done = child("validate", "a.toml", PYTHONPROFILEIMPORTTIME="1")
    assert f"{working_folder}/trainLabels.csv:1: there is no column 'level'; columns: " in done.out
    assert "sightx.data.decode.formats" in done.err  # the reader imports it
    assert not re.search(r"\| +(pandas|torch)$", done.err, re.MULTILINE)


def test_a_table_whose_name_has_a_nul_cannot_be_read(validate: Call) -> None:
    done = validate(CSV.replace("all.csv", "a\\u0000.csv"))
    assert done.code == 0
    assert "a.toml:5:1: dataset.labels: " in done.out
    assert "cannot be read: embedded null byte" in done.out
