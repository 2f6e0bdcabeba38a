from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from sightx import Experiment, load
from sightx.spec import render

SPECS = Path(__file__).parents[2] / "specs"

Resolve = Callable[..., Experiment]


def comments(text: str) -> dict[str, list[str]]:
    """Return the comment behind each `key = value`, by `section.key`."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[+([\w.-]+)\]+", line):
            section = header[1] + "."
        elif pair := re.match(r"([\w-]+) = .*?   # (.*)$", line):
            found.setdefault(section + pair[1], []).append(pair[2])
    return found


@pytest.mark.parametrize(
    "spec", sorted(p.name for p in SPECS.glob("*.toml") if "timm" not in p.name)
)
def test_the_rendered_text_has_the_values_of_the_experiment(spec: str) -> None:
    experiment = load(SPECS / spec)
    text = render.render_experiment(experiment, experiment.context)
    assert tomllib.loads(text) == experiment.tables()
    values = [line for line in text.splitlines() if re.match(r"\w+ = ", line)]
    assert all("   # " in line for line in values)


def test_the_rendered_text_loads_as_the_same_experiment(
    resolve: Resolve, working_folder: Path
) -> None:
    text = 'name = "a"\n[dataset]\nuse = "eyepacs"\nroot = "data"\n[model]\nuse = "resnet50"\n'
    first = resolve(text, "optimizer.lr=3e-4", 'optimizer.group=[{match=["h*"],lr=1e-2}]')
    (working_folder / "whole.toml").write_text(render.render_experiment(first, first.context))
    again = load(working_folder / "whole.toml")
    assert again.id == first.id
    assert again == first


def test_sections_are_in_the_order_of_a_spec(resolve: Resolve) -> None:
    text = render.render_experiment(resolve(), resolve().context)
    headers = re.findall(r"^\[+([\w.]+)", text, re.MULTILINE)
    assert list(dict.fromkeys(headers)) == [
        "dataset", "split", "preprocess", "normalize", "sampler", "model", "loss", "optimizer",
        "scheduler", "training", "metric", "checkpoint", "stopping", "evaluation", "execution",
        "observer",
    ]  # fmt: skip
    assert text.index("\nname = ") < text.index("\naugment = []") < text.index("[dataset]")
    assert text.splitlines()[1] == "# spec: a.toml"


def test_every_kind_of_origin_is_shown(
    resolve: Resolve, working_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (working_folder.parent / "base.toml").write_text('[optimizer]\nuse = "sgd"\nlr = 0.5\n')
    (working_folder / "pyproject.toml").write_text('[tool.sightx]\nobservers = ["console"]\n')
    (working_folder / "sightx.local.toml").write_text(
        '[execution]\nthreads = 3\n[places]\nb = "/b"\n'
    )
    monkeypatch.setenv("SIGHTX_PLACE_MY_EYES", "/eyes")
    experiment = resolve(
        'extends = "../base.toml"\nname = "a"\n[dataset]\nuse = "eyepacs"\nroot = "@my-eyes"\n'
        'exclude = "@b/x.csv"\n[model]\nuse = "resnet50"\nweights = "@none/w.pt"\n'
        '[[metric]]\nuse = "f1"\n',
        "optimizer.momentum=0.5",
        'optimizer.group=[{match=["a"],lr=1}]',
        "split.seed=3",
    )
    shown = comments(render.render_experiment(experiment, experiment.context))
    first_origins = {key: origins[0] for key, origins in shown.items()}
    base = str(working_folder / ".." / "base.toml")
    assert first_origins["name"] == "a.toml:2"
    assert first_origins["seed"] == "default"
    assert first_origins["dataset.root"] == "a.toml:5, place @my-eyes (SIGHTX_PLACE_MY_EYES)"
    assert first_origins["dataset.exclude"] == "a.toml:6, place @b (sightx.local.toml)"
    assert first_origins["model.weights"] == "a.toml:9, place @none (not set)"
    assert first_origins["split.use"] == "default"
    assert first_origins["split.seed"] == "--set split.seed=3"
    assert first_origins["split.test"] == "default"
    assert first_origins["optimizer.lr"].endswith("base.toml:3")
    assert Path(first_origins["optimizer.lr"].partition(":")[0]).resolve() == Path(base).resolve()
    assert first_origins["optimizer.momentum"] == "--set optimizer.momentum=0.5"
    assert first_origins["optimizer.group.lr"] == '--set optimizer.group=[{match=["a"],lr=1}]'
    assert first_origins["training.monitor"] == "default"
    assert first_origins["execution.threads"] == "sightx.local.toml:2"
    assert first_origins["execution.device"] == "default"
    assert shown["metric.use"] == [
        "a.toml:11", "default", "default",
    ]  # fmt: skip
    assert shown["observer.use"] == [
        "default",
        "default",
        "pyproject.toml:2",
    ]


def test_defaults_in_a_table_of_an_override_are_defaults(resolve: Resolve) -> None:
    experiment = resolve(
        'name = "a"\n[dataset]\nuse = "synthetic-fundus"\n[model]\nuse = "resnet50"\n',
        'model={use="simplenet"}',
        'metric=[{use="qwk"}]',
    )
    origins = comments(render.render_experiment(experiment, experiment.context))
    assert origins["model.use"] == ['--set model={use="simplenet"}']
    assert origins["model.hidden"] == ["default"]
    assert origins["metric.use"] == ['--set metric=[{use="qwk"}]', "default"]


def test_long_values_and_special_characters_are_valid_toml(
    resolve: Resolve, working_folder: Path
) -> None:
    names = [f'"a \\" # \\n class {number}"' for number in range(20)]
    text = (
        'name = "a"\n[dataset]\nuse = "csv"\nroot = "x"\n'
        f'classes = [{", ".join(names)}]\n[model]\nuse = "simplenet"\n'
    )
    experiment = resolve(text, 'dataset.labels="""a\tb"""', name="ä\n.toml")
    shown = render.render_experiment(experiment, experiment.context)
    assert tomllib.loads(shown) == experiment.tables()
    lines = [line for line in shown.splitlines() if not line.startswith("root = ")]
    assert max(map(len, lines)) <= 100


def test_an_experiment_built_in_python_has_no_origins(resolve: Resolve) -> None:
    in_python = resolve().model_copy()
    in_python._context = None
    text = render.render_experiment(in_python, in_python.context)
    assert tomllib.loads(text) == in_python.tables()
    assert text.count("#") == 1
    assert render.describe_experiment(in_python, in_python.context)["origins"] == {}
