from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sightx.builtin.augment import Rotate
from sightx.builtin.datasets.folder import ImageFolder
from sightx.builtin.preprocess import Resize
from sightx.plugin import Augment, Check
from sightx.registry import loading
from sightx.registry.kinds import KINDS
from sightx.registry.project import Project
from sightx.registry.registry import Registry
from sightx.testing import check, checks, contract, images
from sightx.testing.contract import instantiated

ROOT = Path(__file__).parents[2]


def load() -> Registry:
    """Return the built-in components, and those of this project's plugins."""
    return loading.load_registry(Project(ROOT, plugins=(ROOT / "plugins",)))


REGISTRY = load()
SHIPPED = [
    entry.component for entry in REGISTRY.entries() if entry.plugin.distribution in ("sightx", "")
]


def test_every_kind_has_checks_and_a_built_in_component() -> None:
    modules = {path.stem for path in Path(checks.__file__).parent.glob("[a-z]*.py")}
    kinds = {cls.kind for cls in KINDS}
    assert modules - {"component", "rule", "command"} == kinds == {cls.kind for cls in SHIPPED}
    builtin = sys.modules["sightx.builtin"].sightx_components()
    assert set(builtin) < set(SHIPPED)
    assert "subtract-local-average" in {cls.name for cls in set(SHIPPED) - set(builtin)}


@pytest.mark.parametrize("cls", SHIPPED, ids=lambda cls: f"{cls.kind}-{cls.name}")
def test_built_in_components_pass(cls) -> None:
    if cls.name == "tensorboard":
        pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    results = contract(cls)
    assert [str(result) for result in results if not result.ok] == []
    assert len(results) > 10  # Those of its kind follow those of all kinds.


def test_a_class_is_instantiated_with_settings() -> None:
    assert {result.ok for result in contract(Rotate, degrees=90.0)} == {True}
    with instantiated(Rotate, degrees=90.0) as (instance, fault):
        assert (instance, fault) == (Rotate(degrees=90.0), "")
    assert {result.ok for result in contract(Rotate(degrees=45.0))} == {True}


class Holding(Augment):
    """Apply another augmentation."""

    name = "holding"

    inner: Augment
    """The other augmentation."""

    def draw(self, n, rng):
        return self.inner.draw(n, rng)

    def matrix(self, params, size):
        return self.inner.matrix(params, size)


def test_a_component_may_be_a_setting() -> None:
    check(Holding, inner=Rotate(degrees=20.0))
    with instantiated(Holding, inner=Rotate(degrees=20.0)) as (instance, _):
        assert instance == Holding(inner=Rotate(degrees=20.0))


def test_an_example_writes_data_and_returns_settings() -> None:
    from PIL import Image

    def example(folder: Path) -> dict[str, object]:
        for name in ("a", "b"):
            (folder / name).mkdir()
            pixels = images(1)[0][0].movedim(0, -1).numpy()
            Image.fromarray(pixels).save(folder / name / "0.png")
        return {"root": folder, "layout": "flat"}

    results = contract(ImageFolder, example=example)
    assert [str(result) for result in results if not result.ok] == []
    with instantiated(ImageFolder, example=example) as (instance, _):
        assert isinstance(instance, ImageFolder)
        assert instance.layout == "flat"
        assert instance.root.is_dir()
    assert not instance.root.exists()


class Exemplary(Resize):
    """Change the size; the settings come from the class's example."""

    name = "exemplary"

    @staticmethod
    def example(folder: Path) -> dict[str, object]:
        """Return settings."""
        return {"size": 5}


def test_a_class_may_have_an_example() -> None:
    with instantiated(Exemplary) as (instance, _):
        assert isinstance(instance, Exemplary)
        assert instance.size == 5


class Needing(Resize):
    """Change the size, without an example."""

    name = "needing"


def test_a_component_without_required_settings_is_one_line_that_names_them() -> None:
    last = contract(Needing)[-1]
    assert (last.name, last.ok) == ("settings", False)
    assert last.message.startswith(
        "it needs size; pass settings, or give the class a static method"
    )
    (settings,) = (result for result in contract(Resize, size="wide") if not result.ok)
    assert "ValidationError" in settings.message


class Faulty(Resize):
    """wrong"""

    name = "Faulty_One"

    def apply(self, image):
        return image.float()


def test_check_lists_every_failure() -> None:
    check(Resize, size=4)
    with pytest.raises(AssertionError) as caught:
        check(Faulty, size=4)
    head, *lines = str(caught.value).splitlines()
    assert head == "preprocess 'Faulty_One' breaks its contract:"
    assert [line.partition(":")[0] for line in lines] == [
        "name", "docstring", "output-is-uint8-chw", "shape-matches-output",
        "required-input-size",
    ]  # fmt: skip


@pytest.mark.parametrize("rule", [rule for rule, _ in REGISTRY.checks], ids=lambda rule: rule.code)
def test_the_built_in_checks_pass_theirs(rule: Check) -> None:
    check(rule)
