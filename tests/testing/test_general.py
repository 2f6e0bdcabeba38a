from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ConfigDict, Field, field_validator

from sightx.builtin.augment import Flip
from sightx.plugin import Augment, Preprocess, Settings
from sightx.testing import general
from sightx.testing.demands import find


class Fine(Preprocess):
    """Do nothing, with a nested setting."""

    name = "fine"

    inner: Augment = Flip(vertical=0.5)
    """A component inside."""


class Shouting(Preprocess):
    """Do nothing at all."""

    name = "Do_Nothing"


class Silent(Shouting):
    name = "silent"


class Mumbling(Shouting):
    """resize images"""

    name = "mumbling"
    size: int = 3


class Changing(Shouting):
    """Hold settings that can be set."""

    name = "changing"
    model_config = ConfigDict(frozen=False)

    size: int = 3
    """How large."""


class Listing(Shouting):
    """Hold a list of sizes."""

    name = "listing"

    sizes: list[int] = Field(default=[1, 2])
    """How large."""


class Growing(Shouting):
    """Grow whenever it is read."""

    name = "growing"

    size: int = 3
    """How large."""

    @field_validator("size")
    @classmethod
    def _more(cls, size: int) -> int:
        return size + 1


class Lax(Shouting):
    """Take whatever is said."""

    name = "lax"
    model_config = ConfigDict(extra="ignore")


class Restless(Shouting):
    """Hash to another number each time."""

    name = "restless"

    def __hash__(self) -> int:
        return id(self)


def local() -> Preprocess:
    class Hidden(Shouting):
        """Live inside a function."""

        name = "hidden"

    return Hidden()


BROKEN = [
    (general.name, Shouting, "the name is 'Do_Nothing'"),
    (general.docstring, Silent, "there is no docstring"),
    (general.docstring, Mumbling, "one sentence of 10 to 100"),
    (general.fields_documented, Mumbling, "size has no description"),
    (general.immutable, Changing(), "size can be set"),
    (general.hashable, Listing(), "sizes holds a list; use a tuple"),
    (general.hashable, Restless(), "equal settings hash differently"),
    (general.picklable, local(), "define the class at the top of a module"),
    (general.round_trip, Growing(), 'read again from {"size": 3} it is not equal'),
    (general.strict, Lax(), "it accepts an unknown key"),
]


@pytest.mark.parametrize(("check", "broken", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_promise_is_found(caught, check, broken, words) -> None:
    caught(check, broken, words)


def test_the_table_of_broken_components_is_whole() -> None:
    elsewhere = {general.revision, general.cheap_import}
    assert {row[0] for row in BROKEN} | elsewhere == {*general.CLASS, *general.SETTINGS}


def test_a_revision_is_a_number(caught) -> None:
    class Revised(Shouting):
        """Have an odd revision."""

        revision = 0

    caught(general.revision, Revised, "revision is 0; write 1")


def test_a_component_inside_another_survives() -> None:
    for check in general.SETTINGS:
        assert find(check, Fine()).ok
    assert general.plain(Fine())["inner"] == {"use": "flip", "horizontal": 0.5, "vertical": 0.5}
    assert isinstance(Fine().inner, Settings)


def test_a_heavy_import_is_found(tmp_path: Path) -> None:
    text = (
        "from sightx.plugin import Preprocess\n\n"
        'class A(Preprocess):\n    """Do."""\n\n    name = "a"\n'
    )
    (tmp_path / "light_plugin.py").write_text(text)
    (tmp_path / "heavy_plugin.py").write_text("import matplotlib\n" + text)
    moody = "import sys\nif 'light_plugin' not in sys.modules: raise RuntimeError('alone')\n"
    (tmp_path / "moody_plugin.py").write_text(moody + text)
    program = """
import json, sys
sys.path.append(sys.argv[1])
import heavy_plugin, light_plugin, moody_plugin
from sightx.testing.demands import find
from sightx.testing.general import cheap_import
modules = (light_plugin, heavy_plugin, moody_plugin)
print(json.dumps([str(find(cheap_import, module.A)) for module in modules]))
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        "cheap-import: ok",
        "cheap-import: fails: importing heavy_plugin imports matplotlib; import inside the methods",
        "cheap-import: fails: importing moody_plugin in a process of its own fails: "
        "RuntimeError: alone",
    ]


def test_the_kit_itself_imports_nothing_heavy() -> None:
    heavy = (*general.HEAVY, "pytest", "hypothesis")
    program = f"import sys, sightx.testing; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
