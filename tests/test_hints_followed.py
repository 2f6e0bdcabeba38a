"""Every command and setting that a hint names is known here, with the test that follows it."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sightx
from support.commands import sightx_main
from support.hints import FLAT, HEAD, REST, deep, draw, follow, write_dataset

ROOT = Path(__file__).parents[1]
_COMMAND = re.compile(
    r"\bsightx [a-z]+(-[a-z]+)*\b|--[a-z]{3,}|\b[a-z_.]+ = (true|false|\"|\[|[0-9{])"
)
# Texts that are no hints: options, the parts of specs that are written, and what a command prints.
_NO_HINTS = ("cli/options.py", "init/write_spec.py", "init/inspect_data.py", "cli/formats.py",
             "spec/error_codes.py", "io/toml.py", "cli/components_page.py",
             "reporting/performance.py", "reporting/pictures.py",
             "reporting/provenance.py")  # fmt: skip
HERE, HINTS = "test_hints_followed.py", "test_hints.py"
DATA, RUNS = "test_hints_of_data.py", "test_hints_of_runs.py"
DEEP = ("validate", "spec.toml", "--deep")
Line = Callable[..., str]
# The test file that follows the hints of a file, by a part of each hint.
FOLLOWED = {
    "audit/copy_findings.py": (DATA, "sightx audit SPEC --exclude FILE lists"),
    "audit/image_properties.py": ("audit/test_image_properties.py", ""),
    "audit/page.py": (DATA, "give another --html"),
    "audit/table_findings.py": (DATA, 'split.use = "stratified" or "grouped"'),
    "board/server.py": ("board/test_server.py", "--port 0"),
    "builtin/checks/data.py": (HERE, 'split.use = "grouped"', 'training.precision = "fp32"'),
    "builtin/checks/evaluation.py": (HERE, "split.validation = 0.1"),
    "builtin/checks/spec.py": (
        HERE, "split.validation = 0.1", '{} = "train/loss"', 'a [[metric]] with use = "',
        "head = {} has no effect", "dataset.ordered = true", "write classes = {}",
        'sampler.use = "shuffle"', "model.trainable = []", 'split.use = "{}"',
        'split.use = "grouped"', 'loss.use = "cross-entropy"', 'dataset.extra_columns = ["{}"]',
        'model = { use = "coral-head"', "evaluation.tta = ",
    ),
    "builtin/datasets/cifar10.py": ("builtin/datasets/test_cifar10.py", "dataset.download = true"),
    "builtin/datasets/csv.py": (HERE, "--set dataset.use=synthetic-fundus"),
    "builtin/datasets/folder.py": (
        HERE, 'set dataset.layout = "flat"', 'layout = "split"', 'use = "csv"',
        "{} contains one: ", "{} contains several: ", 'others = "drop"',
        'layout = "flat" or "split" in', 'layout = "class-split" in',
    ),
    "builtin/datasets/folder_scan.py": (
        HERE, 'ignore = ["', "follow_links = true", 'layout = "class-split" in',
    ),
    "builtin/checks/monitor.py": ("builtin/checks/test_monitor.py", ""),
    "builtin/observers/console.py": (HINTS, "next: sightx resume", "next: sightx predict"),
    "builtin/postprocess.py": (HERE, "`ordered = true`"),
    "builtin/splits/components.py": (HERE, 'split.use = "grouped"'),
    "cli/audit.py": ("cli/test_audit.py", "use it with --set dataset.exclude={}"),
    "cli/cache.py": ("cli/test_cache.py", "go with --prune"),
    "cli/compare.py": ("cli/test_registry_commands.py", "--split validation"),
    "cli/context.py": (RUNS, "give a run, or the folder that sightx export has written"),
    "cli/export.py": (RUNS, "sightx export RUN --to FOLDER, or sightx export --check FOLDER"),
    "cli/import_run.py": ("cli/test_registry_commands.py", "need --about RUN.toml"),
    "init/find_images.py": ("init/test_find_images.py", "sightx init {}"),
    "cli/init.py": (HERE, "next: sightx run {}", "give another --output"),
    "cli/list_runs.py": ("cli/test_list_runs.py", ""),
    "cli/main.py": (HINTS, ""),
    "cli/new_plugin.py": ("cli/test_new_plugin.py", ""),
    "cli/options.py": ("cli/test_show_plugin.py", ""),
    "cli/plugin_commands.py": (HINTS, ""),
    "cli/predict.py": (RUNS, "name images, or one list with --pairs", "sightx predict last {}"),
    "cli/prepare.py": ("cli/test_prepare.py", "not both"),
    "cli/remove_run.py": (
        RUNS, "sightx remove-run --restore {} --runs {} undoes it", "or --empty-trash without runs",
        "could answer: add --yes",
    ),
    "cli/resume.py": ("cli/test_resume.py", "--verify"),
    "cli/ship.py": ("cli/test_registry_commands.py", "sightx ship {}"),
    "cli/serve.py": ("cli/test_serve.py", "--token-file FILE"),
    "cli/show_plugin.py": ("cli/test_show_plugin.py", ""),
    "cli/test_plugin.py": ("cli/test_test_plugin.py", ""),
    "console.py": (
        HERE, 'use = "{}" names it', "sightx run {} trains on them", "{} more with --json",
        "sightx export --check {}",
    ),
    "data/cache/placement.py": ("data/cache/test_placement.py", "execution.cache"),
    "data/cache/row_file.py": (HERE, "sightx prepare SPEC"),
    "data/cache/store.py": (HERE, "sightx cache lists the keys"),
    "data/checks.py": (
        DATA, "allow = [", "leave {} out: --set dataset.exclude=", "follow_links", 'suffix = "',
        "sightx audit SPEC lists them", 'set images = "{}" in [dataset]',
        "search_subfolders = true in [dataset]", 'set images = "." and',
    ),
    "data/classes.py": (HERE, "write classes = {}"),
    "data/csv_labels.py": (HERE, "below [places]", "--set {}=FOLDER", "set strip_prefix = {}"),
    "data/csv_reader.py": (DATA, 'set encoding = "{}" in', 'set separator = "{}" in'),
    "data/preprocess.py": ("data/test_preprocess.py", "--debug shows it"),
    "distributed/collectives.py": ("distributed/test_collectives.py", 'device = "cpu"'),
    "distributed/failures.py": ("runner/test_processes.py", "sightx resume RUN"),
    "export/graph.py": ("export/test_graph.py", "--format safetensors needs no graph"),
    "export/int8.py": ("export/test_int8.py", "leave out --int8, or allow more with --int8-loss"),
    "export/model.py": ("export/test_int8.py", "leave out --format", "leave out --int8"),
    "export/model_card.py": ("export/test_model_card.py", "sightx export --check ."),
    "export/pack.py": ("export/test_pack.py", "sightx prepare SPEC --pack DIR"),
    "export/shards.py": ("export/test_shards.py", "sightx prepare SPEC --shards DIR"),
    "inference/answer_rows.py": ("cli/test_predict.py", "only answers of sightx predict"),
    "inference/explain.py": (RUNS, "leave out --explain"),
    "inference/model_folder.py": ("export/test_model.py", "writes another one"),
    "inference/onnx_network.py": ("export/test_model.py", "use --engine torch"),
    "inference/predictor.py": ("export/test_model.py", "--format onnx writes one", "--int8 writes"),
    "io/atomic.py": ("runs/test_disk_faults.py", "sightx resume RUN"),
    "registry/components.py": (HERE, "sightx list-plugins", "--debug"),
    "registry/failures.py": (HINTS, "--debug"),
    "registry/registry.py": (HERE, "sightx list-plugins", "write use = ", "--debug", 'use = "{}"'),
    "registry/suggestions.py": (HINTS, ""),
    "registry/validation_errors.py": (HERE, "sightx show-plugin {} {} shows every key"),
    "registry/results.py": (
        "testing/checks/test_optimizer.py", "set passes = 2 on the class", "has passes",
    ),
    "run_registry/archive.py": (
        RUNS, "sightx archive RUN -o FILE.zip", "sightx remove-run {} moves that run",
    ),
    "run_registry/find.py": (
        RUNS, "sightx list-runs --sort {} --runs {}", "list-runs --runs {}", "sightx tag RUN +{}",
    ),
    "run_registry/comparison.py": (RUNS, "sightx evaluate {} --split {} writes them"),
    "run_registry/import_metrics.py": (RUNS, 'name = "paper-baseline"', "started = 2026-01-31"),
    "reporting/report.py": ("runner/test_evaluate_data.py", "sightx evaluate says how many"),
    "reporting/facts.py": ("reporting/test_report.py", "sightx evaluate {} --split {} writes them"),
    "runner/evaluate.py": ("runner/test_evaluate.py", "--allow-data-change", "sightx run"),
    "runner/initial_weights.py": ("runner/test_initial_weights.py", 'head = "new"'),
    "runner/repetition.py": (
        "runner/test_repetition.py", "sightx run --again {}", "execution.deterministic = true",
    ),
    "cli/run.py": ("runner/test_repetition.py", "--again"),
    "runner/resume.py": ("runner/test_resume.py", "sightx run"),
    "runs/compatibility.py": ("runner/test_resume.py", "sightx run", "--allow-"),
    "runs/creation.py": (HERE, "--runs FOLDER"),
    "runs/directory.py": (
        HERE, "fix that, then", "sightx resume", 'split.use = "listed"',
        "sightx show-run and sightx compare show",
    ),
    "runs/lock.py": ("runs/test_lock.py", "--runs FOLDER"),
    "runs/lookup.py": (HERE, "sightx run SPEC"),
    "runs/names.py": (
        RUNS, "sightx run {} --continue continues", "sightx run SPEC creates",
        "--runs FOLDER looks in another folder", "sightx init {} writes a spec",
        "sightx list-runs {} --runs {} lists them",
        "fix that, then", "sightx run SPEC; sightx show-run {}",
    ),
    "runs/predictions.py": (HERE, "sightx evaluate {} --split {}"),
    "spec/check_runner.py": (HERE, "sightx list-plugins"),
    "spec/experiment.py": (HINTS, "--debug"),
    "spec/load.py": (HERE, "--explain list", 'use = "{}"', "sightx init {} writes a spec"),
    "spec/paths.py": (
        "cli/test_validate.py", "--set {}.{}=PATH names another",
        "the working folder, because it is from --set or Python",
    ),
    "training/dry_run.py": (HERE, "training.batch_size = {}"),
    "training/feature_cache.py": ("training/test_feature_cache.py", "execution.cache_features"),
    "training/weights.py": ("runner/test_initial_weights.py", "--set model.head=new"),
}  # fmt: skip


OPEN = ("serving/",)
"""No test follows the hints of these modules yet."""


def texts(path: Path) -> Iterator[str]:
    """Yield the texts of a module that are not docstrings or options; {} is a value."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set[int]()
    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Expr):
            parts = [node.value]
        elif isinstance(node, ast.FunctionDef):
            parts = [part for decorator in node.decorator_list for part in ast.walk(decorator)]
        elif isinstance(node, ast.JoinedStr):
            parts = [part for part in ast.walk(node) if part is not node]
        skipped |= {id(part) for part in parts}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            constant = [p.value if isinstance(p, ast.Constant) else "{}" for p in node.values]
            yield "".join(map(str, constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_hint_with_a_command_or_a_setting_is_followed_by_a_test() -> None:
    package = ROOT / "sightx"
    unknown = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.startswith(("testing/", *OPEN)) or name in _NO_HINTS:
            continue
        file, *parts = FOLLOWED.get(name, ("",))
        assert (ROOT / "tests" / file).exists()
        for text in filter(_COMMAND.search, texts(path)):
            is_word = re.fullmatch(r"--[a-z0-9-]+(=\S+)?", text)  # an option, or that of git
            if not is_word and not any(part in text for part in parts):
                unknown.append(f"{name}: {text}")
    assert unknown == []


@pytest.mark.parametrize(
    ("wrong", "hint", "right"),
    [
        (["loss.use=inverse-frequency-cross-entropy", "sampler.use=balanced"],
         'sampler.use = "shuffle", or loss.use = "cross-entropy"', ["sampler.use=shuffle"]),
        (["loss.use=inverse-frequency-cross-entropy", "sampler.use=balanced"],
         'sampler.use = "shuffle", or loss.use = "cross-entropy"', ["loss.use=cross-entropy"]),
        (["split.use=stratified", "split.validation=0"], "split.validation = 0.1",
         ["split.validation=0.1"]),
        (["split.use=stratified", "split.validation=0"], 'training.monitor = "train/loss"',
         ["training.monitor=train/loss", "checkpoint=[{use='last'}]"]),
        (["model.trainable=['head']"], "model.trainable = []", ["model.trainable=[]"]),
        (["training.monitor=validation/qwk"], '[[metric]] with use = "qwk"', None),
        (["evaluation.tta=d4", "preprocess=[{use='resize', size=[8, 12]}]"],
         'evaluation.tta = "flips"', ["evaluation.tta=flips"]),
        (["loss.use=coral", "dataset.classes=['a', 'b']", "dataset.ordered=true"],
         'model = { use = "coral-head", base = { use = "simplenet"',
         ["model={use='coral-head', base={use='simplenet'}}"]),
        (["allow=['long-warmu']"], "sightx validate --explain list shows all codes", None),
    ],
)  # fmt: skip
def test_a_setting_that_a_check_proposes_is_valid(
    working_folder: Path,
    error_line: Line,
    wrong: list[str],
    hint: str,
    right: list[str] | None,
) -> None:
    draw(working_folder / "F" / "train", "a b")
    draw(working_folder / "F" / "val", "a b", 3)
    write_dataset(working_folder)
    words = [word for change in wrong for word in ("--set", change)]
    line = error_line(*DEEP, "--strict", *words)
    assert hint in line
    if right is not None:
        assert deep(*wrong, *right) == 0


def test_a_column_that_a_sampler_needs_can_be_declared(
    working_folder: Path, error_line: Line
) -> None:
    draw(working_folder / "F", "a b", 12)
    rows = [f"{name}/{k}.png,{name},{'xy'[k % 2]}\n" for name in "ab" for k in range(12)]
    (working_folder / "F" / "labels.csv").write_text("image,label,site\n" + "".join(rows))
    write_dataset(working_folder, 'use = "csv"\nroot = "F"\n')
    sampler = "sampler={use='balanced-by-column', column='site'}"
    line = error_line(*DEEP, "--set", sampler)
    assert 'dataset.extra_columns = ["site"]' in line
    assert (
        sightx_main(
            "validate",
            "--deep",
            "spec.toml",
            "--set",
            sampler,
            "--set",
            'dataset.extra_columns=["site"]',
        )
        == 0
    )


def test_folders_that_contain_the_splits_or_classes_are_named(
    working_folder: Path, error_line: Line
) -> None:
    draw(working_folder / "my data" / "2024" / "train", "a b")
    draw(working_folder / "my data" / "2024" / "val", "a b", 3)
    for layout in ("", 'layout = "split"\n'):
        write_dataset(working_folder, f'use = "image-folder"\nroot = "my data"\n{layout}')
        line = error_line(*DEEP)
        assert "--set dataset.root='my data/2024'" in line
        (_, change) = shlex.split(re.findall(r"--set \S+'[^']*'", line)[0])
        assert deep(change) == 0


def test_a_single_class_folder_that_is_called_like_a_number_is_named(
    working_folder: Path, error_line: Line
) -> None:
    """Without ./ the folder 2024 would be a number."""
    draw(working_folder / "2024", "a b", 12)
    write_dataset(working_folder, 'use = "image-folder"\nroot = "."\nlayout = "flat"\n')
    line = error_line(*DEEP)
    (change,) = re.findall(r"--set (\S+)", line)
    assert change == "dataset.root=./2024"
    assert deep(change) == 0


def test_a_flat_folder_without_train_leads_to_its_layout(
    working_folder: Path, error_line: Line
) -> None:
    draw(working_folder / "F", "a b", 12)
    write_dataset(working_folder, 'use = "image-folder"\nroot = "F"\nlayout = "split"\n')
    assert 'set dataset.layout = "flat"' in error_line(*DEEP)
    assert deep('dataset.layout="flat"') == 0


def test_dropping_other_classes_and_ignoring_masks_works(
    working_folder: Path, error_line: Line
) -> None:
    draw(working_folder / "F", "a b c", 12)
    (working_folder / "F" / "a" / "masks").mkdir()
    shutil.copy(
        working_folder / "F" / "a" / "0.png", working_folder / "F" / "a" / "masks" / "0.png"
    )
    write_dataset(
        working_folder, 'use = "image-folder"\nroot = "F"\nlayout = "flat"\nclasses = ["a", "b"]\n'
    )
    assert 'others = "drop"' in error_line(*DEEP)
    line = error_line(*DEEP, "--strict", "--set", 'dataset.others="drop"')
    assert 'ignore = ["masks"] in [dataset]' in line
    assert deep('dataset.others="drop"', 'dataset.ignore=["masks"]') == 0


def test_the_order_that_is_proposed_is_valid(working_folder: Path, error_line: Line) -> None:
    draw(working_folder / "F", "none mild severe", 12)
    write_dataset(working_folder, f"{FLAT}ordered = true\n")
    line = error_line(*DEEP)
    (classes,) = re.findall(r"classes = (\[.*?\])", line)
    assert deep(f"dataset.classes={classes}") == 0


def test_a_place_can_be_set_in_each_way_that_its_error_names(
    working_folder: Path, error_line: Line
) -> None:
    draw(working_folder / "F", "a b", 12)
    write_dataset(working_folder, 'use = "image-folder"\nroot = "@eyes"\nlayout = "flat"\n')
    line = error_line(*DEEP)
    assert 'write eyes = "FOLDER" below [places] in sightx.local.toml' in line
    assert "--set dataset.root=FOLDER" in line
    assert deep("dataset.root=F") == 0
    (working_folder / "sightx.local.toml").write_text('[places]\neyes = "F"\n')
    assert deep() == 0


def test_the_substitute_for_a_large_download_is_valid(
    working_folder: Path, error_line: Line
) -> None:
    (working_folder / "spec.toml").write_text(HEAD + 'use = "eyepacs"\nroot = "absent"\n' + REST)
    line = error_line(*DEEP)
    (change,) = re.findall(r"--set (dataset.use=\S+)", line)
    assert sightx_main("validate", "spec.toml", "--set", change) == 0


def test_what_lists_the_names_works(working_folder: Path, error_line: Line) -> None:
    draw(working_folder / "F" / "train", "a b")
    write_dataset(working_folder)
    assert sightx_main("validate", "--explain", "list") == 0
    for change, command in {
        "model={hidden=[4]}": "sightx list-plugins model",
        "model.use=qqqqqq": None,
        "model={use='torchvision', arch='resnet18', qqq=1}": None,
    }.items():
        line = error_line("validate", "spec.toml", "--set", change)
        for found in re.findall(r"sightx ((?:list|show)-plugins?(?: [a-z-]+)*?)(?: shows|$)", line):
            assert sightx_main(*found.split()) == 0
        assert command is None or command in line


def test_the_next_command_of_init_works(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(working_folder / "my eyes", "a b", 12)
    assert sightx_main("init", "my eyes", "--output", "my spec.toml") == 0
    command = capsys.readouterr().err.rpartition("next: sightx ")[2]
    assert sightx_main(*shlex.split(command), "--quiet", "--set", "training.epochs=1") == 0


def test_images_that_cannot_be_read_are_left_out_as_their_error_says(
    working_folder: Path, error_line: Line
) -> None:
    draw(working_folder / "F", "a b", 12)
    (working_folder / "F" / "a" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_dataset(working_folder, FLAT)
    line = error_line("run", "spec.toml", "--quiet", "--runs", "my runs", code=3)
    (_, change) = shlex.split(line[line.index("--set") :])
    assert sightx_main("run", "spec.toml", "--quiet", "--runs", "my runs", "--set", change) == 0


def test_links_can_be_followed(working_folder: Path, error_line: Line) -> None:
    draw(working_folder / "real", "a b", 12)
    for name in "ab":
        (working_folder / "F" / name).mkdir(parents=True)
        for path in (working_folder / "real" / name).iterdir():
            (working_folder / "F" / name / path.name).symlink_to(path)
    write_dataset(working_folder, FLAT)
    assert "follow_links = true" in error_line("run", "spec.toml", "--quiet", code=3)
    assert sightx_main("run", "spec.toml", "--quiet", "--set", "dataset.follow_links=true") == 0


def test_a_suffix_that_is_proposed_works(working_folder: Path, error_line: Line) -> None:
    draw(working_folder / "images", ".", 8)
    rows = [f"{k},{k % 2}" for k in range(8)]
    (working_folder / "labels.csv").write_text("\n".join(["image,label", *rows]))
    spec = 'use = "csv"\nroot = "."\nimages = "images"\n'
    (working_folder / "spec.toml").write_text(HEAD + spec + REST)
    line = error_line("run", "spec.toml", "--quiet", code=3)
    (suffix,) = re.findall(r'suffix = "(\S+)"', line)
    words = ["--set", f"dataset.suffix={suffix}", "--set", "split.validation=0.3"]
    assert sightx_main(*DEEP, *words) == 0


def test_an_unusual_order_of_classes_is_written_as_the_hint_says(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use = 'use = "image-folder"\nroot = "F"\nordered = true\n'
    (working_folder / "a.toml").write_text(
        f'{HEAD}{use}classes = ["severe", "none", "mild"]\n{REST}'
    )
    assert sightx_main("validate", "a.toml") == 0
    hint = "".join(capsys.readouterr()).partition("order-unusual")[2].partition("write ")[2]
    (working_folder / "a.toml").write_text(f"{HEAD}{use}{hint.splitlines()[0]}\n{REST}")
    assert sightx_main("validate", "a.toml") == 0
    assert "order-unusual" not in "".join(capsys.readouterr())


def test_a_cache_in_a_folder_of_the_user_is_moved(
    working_folder: Path, error_line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(working_folder / "F", "a b", 12)
    write_dataset(working_folder, FLAT)
    (working_folder / "my things").mkdir()
    (working_folder / "my things" / "book.txt").write_text("mine")
    monkeypatch.setenv("SIGHTX_CACHE", str(working_folder / "my things"))
    line = error_line("prepare", "spec.toml", code=7)
    (_, assignment) = shlex.split(line.rpartition(": ")[2])
    name, _, value = assignment.partition("=")
    monkeypatch.setenv(name, value)
    assert sightx_main("prepare", "spec.toml", "--quiet") == 0
    assert (working_folder / "my things" / "book.txt").read_text() == "mine"


def test_hints_of_a_run_name_its_directory_wherever_it_is(
    spec: Path, error_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sightx.run(spec, runs="other runs")
    (run.directory / "predictions" / "test.csv").unlink()
    with pytest.raises(sightx.RunError) as no_predictions:
        run.predictions("test")
    follow(str(no_predictions.value), "writes them")
    (run.directory / "result.json").write_text("{")
    line = error_line("resume", f"./other runs/{run.id}", code=5)
    assert line.startswith(f"other runs/{run.id}/result.json: ")
    (run.directory / "result.json").unlink()
    follow(line, "writes it again")
    assert run.result["status"] == "finished"
