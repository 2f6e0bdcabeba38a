from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ConfigDict, Field, field_validator

from sightx.builtin.augment import Flip
from sightx.plugin import Augment, File, Place, Preprocess, to_plain
from sightx.testing import contract
from sightx.testing.assertions import run_check
from sightx.testing.checks import component as checks


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


class Drawing(Shouting):
    """Draw its default."""

    name = "drawing"

    seed: int = Field(default_factory=time.time_ns)
    """A number."""


class Pathless(Shouting):
    """Hold paths of the working directory."""

    name = "pathless"

    files: tuple[Path, ...] | None = None
    """Some files."""


class Marked(Shouting):
    """Hold paths that a spec can write."""

    name = "marked"

    file: File | None = None
    """A file."""
    places: tuple[Place, ...] = ()
    """Some folders."""


BROKEN = [
    (checks.defaults_are_constant, Drawing, "the default of seed differs each time"),
    (checks.paths_are_marked, Pathless, "files is a plain Path"),
    (checks.name, Shouting, "the name is 'Do_Nothing'"),
    (checks.docstring, Silent, "there is no docstring"),
    (checks.docstring, Mumbling, "must be a sentence of 10 to 100"),
    (checks.fields_documented, Mumbling, "size has no description"),
    (checks.immutable, Changing(), "size can be set"),
    (checks.hashable, Listing(), "sizes holds a list; use a tuple"),
    (checks.hashable, Restless(), "equal settings hash differently"),
    (checks.picklable, local(), "define the class at the top of a module"),
    (checks.round_trip, Growing(), 'read again from {"size": 3} it is not equal'),
    (checks.strict, Lax(), "it accepts an unknown key"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    elsewhere = {checks.revision, checks.cheap_import}
    assert {row[0] for row in BROKEN} | elsewhere == {*checks.CLASS_CHECKS, *checks.SETTINGS_CHECKS}


def test_an_invalid_revision_fails(assert_fails) -> None:
    class Revised(Shouting):
        """Have a revision that is not valid."""

        revision = 0

    assert_fails(checks.revision, Revised, "revision is 0; write 1")


def test_a_component_may_be_a_setting_of_another() -> None:
    for check in checks.SETTINGS_CHECKS:
        assert run_check(check, Fine()).ok
    component = checks.instantiate(Fine, {"inner": Flip(horizontal=0.2)})
    assert component == Fine(inner=Flip(horizontal=0.2))


def test_marked_paths_pass() -> None:
    checks.paths_are_marked(Marked)


class Blank(Augment):
    """Do nothing, as a component of this module."""

    name = "blank"


@pytest.mark.parametrize(
    ("table", "inner"),
    [
        ({"use": "flip", "vertical": 0.25}, Flip(vertical=0.25)),
        ({"use": "sightx:flip"}, Flip()),
        ({"use": "blank"}, Blank()),
    ],
)
def test_a_component_inside_may_be_a_table_as_in_a_spec(table, inner) -> None:
    component = checks.instantiate(Fine, {"inner": table})
    assert to_plain(component)["inner"] == {**to_plain(inner), "use": table["use"]}
    assert {result.name for result in contract(Fine, inner=table) if not result.ok} <= {
        result.name for result in contract(Fine, inner=inner) if not result.ok
    }


def test_a_heavy_import_fails(tmp_path: Path) -> None:
    text = (
        "from sightx.plugin import Preprocess\n\n"
        'class A(Preprocess):\n    """Do."""\n\n    name = "a"\n'
    )
    (tmp_path / "light_plugin.py").write_text(text)
    (tmp_path / "heavy_plugin.py").write_text("import matplotlib\n" + text)
    broken = "import sys\nif 'light_plugin' not in sys.modules: raise RuntimeError('alone')\n"
    (tmp_path / "broken_plugin.py").write_text(broken + text)
    program = """
import json, sys
sys.path.append(sys.argv[1])
import heavy_plugin, light_plugin, broken_plugin
from sightx.testing.assertions import run_check
from sightx.testing.checks.component import cheap_import
modules = (light_plugin, heavy_plugin, broken_plugin)
print(json.dumps([str(run_check(cheap_import, module.A)) for module in modules]))
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        "cheap-import: ok",
        "cheap-import: fails: importing heavy_plugin imports matplotlib; import inside methods",
        "cheap-import: fails: importing broken_plugin in a new process fails: RuntimeError: alone",
    ]


def test_the_contract_tests_import_nothing_heavy() -> None:
    heavy = (*checks.HEAVY, "pytest", "hypothesis")
    program = f"import sys, sightx.testing; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
