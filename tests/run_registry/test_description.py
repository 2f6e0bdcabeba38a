"""The description of a run and of its place among others."""

from __future__ import annotations

from pathlib import Path

from sightx.run_registry.description import describe_run
from support.run_folders import RECORDED, read_json, replace_json, write_run


def test_a_run_is_described_with_its_parent_and_its_children(tmp_path: Path) -> None:
    parent = write_run(tmp_path, "a", whole=True)
    child = write_run(tmp_path, "b", {"seed": 3})
    environment = read_json(child / "environment.json")
    environment["parents"] = [{"run": parent.name, "why": "weights"}]
    replace_json(child / "environment.json", environment)
    for run, count in ((parent, 1), (child, 2)):
        (run / "test-scorings.jsonl").write_text("{}\n" * count)
        replace_json(
            run / "data.json", read_json(RECORDED / "data.json") | {"splits": {"test": "t"}}
        )
    described = describe_run(parent)
    assert described.children == (child.name,)
    assert described.majority == {"train": 0.5, "validation": 0.5, "test": 0.5}
    assert described.test_scorings == (1, 3)
    assert described.size == sum(p.stat().st_size for p in parent.rglob("*") if p.is_file())
    described = describe_run(child)
    assert described.parents[0]["run"] == parent.name
    assert ("seed", (0, 3)) in [(change.key, change.values) for change in described.changes]


def test_a_run_of_the_first_layout_is_described() -> None:
    described = describe_run(RECORDED)
    assert described.metrics["test"]["test/accuracy"] == 0.9166666666666666
    assert described.test_scorings == (0, None)
    assert described.sessions == ()
