from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sightx
from sightx.audit.audit import audit
from sightx.errors import DataError


def test_a_clean_project_has_nothing_to_refuse(project):
    report = audit(sightx.load(project.spec())).report
    assert report.count("refuse") == 0
    assert report.statements[0] == "No group, such as a patient, is in two splits (16 groups)."
    assert report.statements[1].startswith(
        "0 exact, 0 certain and 0 likely near copies across splits (32 of 32 images"
    )
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities, key=["refuse", "warn", "note"].index)


def test_a_dataset_without_a_single_image_is_audited(project):
    for image in (project.folder / "images").iterdir():
        image.unlink()
    report = audit(sightx.load(project.spec())).report
    assert "bad-images" in {finding.code for finding in report.findings}


@pytest.mark.parametrize(("group", "words"), [("", "No groups are declared"), ("p", "groups")])
def test_what_is_proved_without_splits_or_groups(project, group, words):
    spec = project.spec(split="", group=f'"{"patient" if group else ""}"')
    report = audit(sightx.load(spec, ["split.use=stratified"])).report
    assert words in report.statements[0]


def test_what_is_to_be_excluded_makes_a_run_pass(project, tmp_path):
    content = (project.folder / "images" / "0_left.jpg").read_bytes()
    project.add("copy.jpg", content, 0, "new", "test")
    project.add("broken.jpg", content[:300], 1, "1")
    spec = project.spec()
    with pytest.raises(DataError):
        sightx.run(sightx.load(spec), runs=tmp_path / "runs")

    file = audit(sightx.load(spec)).write_exclusions(tmp_path / "exclude.csv")

    rows = pd.read_csv(file)
    assert rows.to_dict("records") == [
        {"path": "broken.jpg", "reason": "truncated"},
        {"path": "0_left.jpg", "reason": "a copy of copy.jpg"},
    ]
    experiment = sightx.load(spec, [f"dataset.exclude={file}"])
    assert audit(experiment).report.count("refuse") == 0
    assert sightx.run(experiment, runs=tmp_path / "runs").result["status"] == "finished"
    again = audit(experiment).write_exclusions(file)
    assert again == file  # with what was excluded already, and nothing was replaced


def test_a_check_of_a_plugin_sees_the_properties_of_images(project, codes):
    (project.folder / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
    plugins = project.folder / "plugins"
    plugins.mkdir()
    (plugins / "few_pixels.py").write_text(
        "from sightx.plugin import Check, Finding, hookimpl\n"
        "def find(table, images):\n"
        "    rows = (images['width'] < 40).to_numpy().nonzero()[0].tolist()\n"
        "    if rows:\n"
        "        yield Finding('dataset', f'{len(rows)} of {len(table)} are small', rows=rows)\n"
        "@hookimpl\n"
        "def sightx_checks():\n"
        "    return [Check('few-pixels', 'lesions vanish', find, 'audit', 'warning')]\n"
    )
    project.add("small.jpg", np.full((30, 30, 3), 40, np.uint8), 0, "0")
    finding = codes(audit(sightx.load(project.spec())).report)["few-pixels"]
    assert (finding.severity, finding.message) == ("warn", "1 of 33 are small")
    assert finding.examples[0].paths == ("small.jpg",)
