# ruff: noqa: E501 - lines of output are not broken
from __future__ import annotations

import datetime
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightx import SightXError, load
from sightx.builtin.datasets.csv import EyePacs
from sightx.builtin.datasets.folder import ImageFolder
from sightx.builtin.splits import Listed
from sightx.io import toml
from sightx.spec.render import render_experiment

NAMED = 'name = "a"\n[model]\nuse = "simplenet"\n[dataset]\n'
FOLDER = NAMED + 'use = "image-folder"\nroot = "data"\n'
GRADED = NAMED + 'use = "synthetic-fundus"\n'
ROOMS = ("dataset", "split", "normalize", "sampler", "model", "loss", "optimizer", "scheduler")


def uses(items) -> list[str]:
    return [item.name for item in items]


def test_a_minimal_spec_gets_all_defaults(resolve) -> None:
    experiment = resolve(FOLDER)
    assert [getattr(experiment, room).name for room in ROOMS] == [
        "image-folder", "given" if ImageFolder(root=Path()).traits().has_split else "stratified",
        "model", "shuffle", "simplenet", "cross-entropy", "adam", "constant",
    ]  # fmt: skip
    assert uses(experiment.preprocess) == ["resize"]
    assert experiment.preprocess[0].size == 224
    assert uses(experiment.checkpoint) == ["best", "last"]
    assert uses(experiment.observer) == ["curves", "report"]
    assert experiment.stopping.name == "never"
    assert experiment.augment == experiment.postprocess == ()
    assert experiment.seed == 0


def test_ordered_classes_are_monitored_by_kappa_and_groups_are_kept_together(resolve) -> None:
    graded, plain = resolve(GRADED), resolve(FOLDER)
    assert graded.training.monitor == "validation/qwk"
    assert "qwk" in uses(graded.metric)
    assert graded.split.name == "grouped"
    assert plain.training.monitor == "validation/balanced-accuracy"
    assert "qwk" not in uses(plain.metric)


def test_the_default_split_depends_on_the_traits_of_the_dataset(
    resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightx.plugin import Traits

    for traits, name in (
        (Traits(has_split=True, has_groups=True), "given"),
        (Traits(has_groups=True), "grouped"),
        (Traits(), "stratified"),
    ):
        monkeypatch.setattr(ImageFolder, "traits", lambda self, traits=traits: traits)
        assert resolve(FOLDER).split.name == name


def test_defaults_depend_on_the_overridden_dataset(resolve) -> None:
    experiment = resolve(FOLDER, "optimizer.lr=0.5", "dataset.use=synthetic-fundus")
    assert experiment.split.name == "grouped"
    assert experiment.training.monitor == "validation/qwk"


def test_accuracy_the_last_checkpoint_and_the_metric_of_the_monitor_are_always_added(
    resolve,
) -> None:
    text = GRADED + '[[metric]]\nuse = "recall"\n[[checkpoint]]\nuse = "every"\n'
    experiment = resolve(text)
    assert uses(experiment.metric) == ["recall", "qwk", "accuracy"]
    assert uses(experiment.checkpoint) == ["every", "last"]
    own = resolve(text + '[training]\nmonitor = "validation/loss"\n')
    assert uses(own.metric) == ["recall", "accuracy"]
    assert uses(resolve(GRADED + '[[checkpoint]]\nuse = "sightx:last"\n').checkpoint) == ["last"]


def test_an_override_refines_the_default_of_a_section(resolve) -> None:
    changes = [
        "optimizer.lr=0.5", "preprocess.resize.size=64", "checkpoint.best.monitor=validation/loss",
        "split.test=0.3", "execution.device=cpu",
    ]  # fmt: skip
    experiment = resolve(GRADED, *changes)
    assert (experiment.optimizer.name, experiment.optimizer.lr) == ("adam", 0.5)
    assert experiment.preprocess[0].size == 64
    assert experiment.checkpoint[0].monitor == "validation/loss"
    assert (experiment.split.name, experiment.split.test) == ("grouped", 0.3)
    assert experiment.execution.device == "cpu"
    assert resolve(GRADED, "optimizer.use=sgd").optimizer.name == "sgd"


def test_a_written_section_must_name_its_component(failures) -> None:
    assert failures(GRADED + "[optimizer]\nlr = 0.1\n") == [
        "a.toml:6:2: error[missing-use] optimizer.use: must name a component; "
        "sightx list-plugins optimizer shows the names"
    ]


def test_the_tables_of_an_experiment_are_a_spec_of_the_same_experiment(
    resolve, working_folder
) -> None:
    text = GRADED + (
        '[[augment]]\nuse = "rotate"\ndegrees = 90\n[[preprocess]]\nuse = "resize"\nsize = [32, 48]\n'
        '[optimizer]\nuse = "sightx:adam"\ngroup = [{ match = ["head.*"], lr = 1e-3 }]\n'
    )
    first = resolve(text)
    (working_folder / "b.toml").write_text(toml.dump(first.tables()))
    again = load("b.toml")
    assert again == first
    assert again.id == first.id
    assert again.tables() == first.tables()
    assert hash(again) == hash(first)
    assert first != resolve(text, "seed=1")


def test_dates_are_refused(failures) -> None:
    day = datetime.date(2026, 1, 2)
    lines = failures(
        f"name = {day}\n[training]\nepochs = {day}\nmonitor = [07:32:00]\n" + GRADED[11:]
    )
    assert lines == [
        f"a.toml:1:1: error[wrong-type] name: {day} is a date; put it in quotes",
        f"a.toml:3:1: error[wrong-type] training.epochs: {day} is a date; put it in quotes",
        "a.toml:4:1: error[wrong-type] training.monitor: is an array, expected a string",
        "a.toml:4:12: error[wrong-type] training.monitor.0: 07:32:00 is a date; put it in quotes",
    ]


def test_places_come_from_the_local_file_and_from_variables(
    resolve, working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (working_folder.parent / "pyproject.toml").write_text("[tool.sightx]\n")
    (working_folder.parent / "sightx.local.toml").write_text('[places]\nmine = "/data/mine"\n')

    def root(text: str) -> Path:
        return resolve(FOLDER.replace('"data"', f'"{text}"')).dataset.root

    assert root("@mine") == Path("/data/mine")
    assert root("@mine/sub/x") == Path("/data/mine/sub/x")
    assert root("@unset/sub") == Path("@unset/sub")
    monkeypatch.setenv("SIGHTX_PLACE_MINE", "/other")
    assert root("@mine/sub") == Path("/other/sub")


def test_relative_paths_belong_to_the_spec_in_any_working_folder(
    resolve, working_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # S10
    first = resolve(FOLDER.replace('"data"', '"../data"'))
    assert first.dataset.root == working_folder / ".." / "data"
    monkeypatch.chdir("/")
    again = load(working_folder / "a.toml")
    assert again == first
    assert again.id == first.id
    monkeypatch.chdir(tmp_path)
    assert load("specs/a.toml") == first
    assert load("specs/a.toml", ["dataset.root=mine"]).dataset.root == tmp_path / "mine"
    assert resolve is not None


def test_a_path_in_the_home_folder_is_not_relative(
    resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert resolve(FOLDER, "dataset.root=~/d").dataset.root == Path("/home/me/d")
    resolve(FOLDER, "dataset.root=~nobody-at-all/d")


def test_weights_are_a_path_only_if_they_end_like_one(resolve, working_folder) -> None:
    assert resolve(GRADED, "model.weights=none").model.weights == "none"
    text = GRADED.replace('"simplenet"\n', '"simplenet"\nweights = "w/best.pt"\n')
    assert resolve(text).model.weights == str(working_folder / "w" / "best.pt")


def test_execution_of_this_machine_is_the_base_of_every_spec(
    resolve, failures, working_folder: Path
) -> None:
    local = working_folder / "sightx.local.toml"
    local.write_text('[execution]\ndevice = "cpu"\nthreads = 3\n')
    execution = resolve(GRADED + "[execution]\nthreads = 5\n").execution
    assert (execution.device, execution.threads) == ("cpu", 5)
    local.write_text('[execution]\ndevise = "cpu"\nthreads = -1\n')
    place = str(local)
    assert failures(GRADED) == [
        f"{place}:2:1: error[unknown-key] execution.devise: unknown key; did you mean 'device'?",
        f"{place}:3:1: error[invalid-value] execution.threads: -1: must be greater than or equal to 0",
    ]


@pytest.mark.parametrize(
    ("sets", "names"),
    [
        ([], ["curves", "report"]),
        (["observer=[{use='console'}]"], ["console", "curves", "report"]),
        (["observer=[{use='curves', every=2}]"], ["curves", "report"]),
        (["observer=[]"], []),
    ],
)
def test_observers_of_a_spec_are_added_to_the_default_ones(resolve, sets, names) -> None:
    assert uses(resolve(GRADED, *sets).observer) == names


def test_an_observer_that_the_spec_does_not_name_can_be_disabled(
    resolve, working_folder: Path
) -> None:
    sets = ["observer=[{use='console'}]", "observer.console.enabled=true"]
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nobservers = ["console"]\n')
    off = resolve(GRADED, "observer.console.enabled=false", "observer.curves.enabled=false")
    assert [(o.name, o.enabled) for o in off.observer] == [
        ("curves", False), ("report", True), ("console", False)
    ]  # fmt: skip
    assert uses(resolve(GRADED, *sets).observer) == ["console", "curves", "report"]


def test_an_override_says_which_settings_it_drops(
    resolve, working_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sightx")
    text = GRADED + '[optimizer]\nuse = "adamw"\nlr = 0.002\nweight_decay = 0.1\n'
    for sets, line in [
        (["optimizer.use=sgd"], "--set optimizer.use=sgd drops lr = 0.002, weight_decay = 0.1"),
        (["optimizer.use=sgd", "optimizer.lr=0.1"],
         "--set optimizer.use=sgd drops weight_decay = 0.1"),
        (["optimizer={use='sgd', lr=1.0}"],
         "--set optimizer={use='sgd', lr=1.0} drops weight_decay = 0.1"),
        (["optimizer.use=adamw"], ""),
        (["optimizer.lr=0.1"], ""),
        (["scheduler.use=cosine"], ""),
    ]:  # fmt: skip
        caplog.clear()
        experiment = resolve(text, *sets)
        assert caplog.messages == [line] * bool(line)
        assert (f"\n# {line}\n" in render_experiment(experiment, experiment.context)) == bool(line)


def test_observers_of_the_project_watch_every_run(resolve, failures, working_folder: Path) -> None:
    (working_folder / "pyproject.toml").write_text(
        '[tool.sightx]\nobservers = ["curves", "console"]\n'
    )
    assert uses(resolve(GRADED).observer) == ["curves", "report", "console"]
    assert resolve(GRADED).id == resolve(GRADED, "observer=[]").id
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nobservers = ["curve"]\n')
    (line,) = failures(GRADED)
    assert line.startswith(
        f"{working_folder}/pyproject.toml:2:14: error[unknown-name] observer.2.use: "
    )


def test_an_experiment_has_the_context_of_its_spec(resolve, working_folder: Path) -> None:
    context = resolve(GRADED, "seed=3").context
    assert (context.text, context.path) == (GRADED, working_folder / "a.toml")
    assert context.overrides == ("seed=3",)


def test_eyepacs_is_ordered_and_grouped(resolve) -> None:
    assert EyePacs(root=Path()).traits().ordered
    assert resolve(NAMED + 'use = "eyepacs"\nroot = "@eyepacs"\n').split.name == "grouped"
    assert Listed.name


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.dates() | st.sampled_from(["adam", "resize", "flip", "resnet50", "@x", "a.pt"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["use", "size", "lr", "", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_KEYS = st.sampled_from(
    ["name", "seed", "dataset", "model", "preprocess", "augment", "metric", "checkpoint", "observer",
     "training", "execution", "optimizer", "split", "extends", "allow", "unknown"]
)  # fmt: skip


@settings(
    max_examples=150, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.dictionaries(_KEYS, _VALUES, max_size=4), st.lists(st.text(max_size=12), max_size=2))
def test_any_spec_is_an_experiment_or_problems_with_positions(
    working_folder: Path, changes: dict[str, object], overrides: list[str]
) -> None:
    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if item is not None}
        return [plain(i) for i in value if i is not None] if isinstance(value, list) else value

    data = {**tomllib.loads(GRADED), **changes}
    (working_folder / "a.toml").write_text(toml.dump(plain(data)))  # type: ignore[arg-type]
    found: list[SightXError] = []
    try:
        load("a.toml", overrides)
    except SightXError as error:
        found.append(error)
    assert [error.exit_code for error in found] in ([], [2])
    assert all(problem.file for error in found for problem in error.problems)
