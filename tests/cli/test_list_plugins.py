from __future__ import annotations

import json
from pathlib import Path


def test_every_kind_and_the_plugins_are_listed(sightx) -> None:
    done = sightx("list-plugins")
    assert (done.code, done.err) == (0, "")
    assert "Cross-entropy, all samples alike." in done.out
    assert "loaded builtin (sightx " in done.out


def test_one_kind_is_listed_alone_as_json(sightx) -> None:
    done = sightx("list-plugins", "optimizer", "--json")
    listed = json.loads(done.out)
    assert [item["name"] for item in listed["components"]] == ["adam", "adamw", "rmsprop", "sgd"]
    assert {item["kind"] for item in listed["components"]} == {"optimizer"}
    file, _, line = listed["components"][0]["place"].rpartition(":")
    assert Path(file).read_text().splitlines()[int(line) - 1].startswith("class Adam(")
    assert listed["plugins"] == [
        {"name": "builtin", "place": "sightx.builtin", "distribution": "sightx",
         "version": listed["plugins"][0]["version"], "state": "loaded", "error": ""}
    ]  # fmt: skip


def test_an_unknown_kind_is_2_with_the_nearest(sightx) -> None:
    done = sightx("list-plugins", "optimiser")
    assert (done.code, done.out) == (2, "")
    line = "error[usage] no kind is called 'optimiser'; did you mean 'optimizer'?"
    assert done.lines == [line]


def test_a_broken_plugin_is_listed_with_its_reason(sightx, here: Path) -> None:
    (here / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["mine"]\n')
    (here / "mine").mkdir()
    (here / "mine" / "sightx_test_listed_broken.py").write_text("1 / 0\n")
    done = sightx("list-plugins", "--json")
    assert done.code == 0
    (plugin,) = [p for p in json.loads(done.out)["plugins"] if p["state"] == "broken"]
    assert plugin["error"] == "ZeroDivisionError: division by zero"
    assert plugin["place"] == str(here / "mine" / "sightx_test_listed_broken.py")
    assert "broken sightx_test_listed_broken" in sightx("list-plugins").out
