"""The report of a run: complete, valid, self-contained, and equal to what other code computes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from sightx import Run, RunError
from sightx.evaluation.estimates import majority_predictions
from sightx.evaluation.intervals import paired_differences
from sightx.registry.kinds import Metric
from sightx.reporting.checklist import checklist_section
from sightx.reporting.facts import Facts, read_facts
from sightx.reporting.overview import verdict
from sightx.reporting.performance import confusion_section
from sightx.reporting.pictures import confident_mistakes
from sightx.reporting.report import render_report, write_report
from support.commands import sightx_main
from support.html import Parser

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def facts(graded: Run) -> Facts:
    return read_facts(graded)


@pytest.fixture(scope="module")
def page(graded: Run) -> str:
    return render_report(graded)


def text_of(page: str) -> str:
    parser = Parser()
    parser.feed(page)
    assert parser.open == []
    return re.sub(r"\s+", " ", parser.text)


def test_the_page_is_one_valid_file_without_scripts_and_hosts(page: str) -> None:
    parser = Parser()
    parser.feed(page)
    assert parser.open == []
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in parser.links)
    assert "<script" not in page
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert len(page.encode()) < 2_000_000
    for link in re.findall(r'href="#([a-z]+)"', page):
        assert f'<section id="{link}">' in page
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).split()


def test_the_page_says_everything_that_a_reader_needs(page: str, graded: Run) -> None:
    text = text_of(page)
    for expected in (
        graded.id, "on 48 test samples of 24 groups", "largest class", "Confusion", "Classes",
        "Positive is severe: 16 of 48 samples", "operating point", "high-sensitivity", "ECE",
        "as the network gives them", "after postprocessing", "Subgroups", "camera", "Mistakes",
        "Image quality", "No group, such as a patient, is in two splits (48 groups).", "Training",
        "Test <reports>.", "Not stated in [about] of the spec: data source, limitations",
        "not stated: to be written by you", "Grad-CAM", "spec.toml:", "default", "torch",
        "The test split was scored 1 time",
    ):  # fmt: skip
        assert expected in text, expected
    assert page.count('role="img"') == 7  # three of the decision, two of calibration and training


def test_numbers_are_those_of_scikit_learn(facts: Facts, page: str) -> None:
    given, text = facts.predictions, text_of(page)
    kappa = cohen_kappa_score(given.labels, given.decisions, labels=range(3), weights="quadratic")
    assert facts.estimates["qwk"].value == pytest.approx(kappa)
    assert f"QWK is {kappa:.3f}." in text
    area = roc_auc_score(given.labels == 2, given.probabilities[:, 2])
    assert f"AUC {area:.3f}" in text
    confusion = given.confusion()
    for true in range(3):
        for decided in range(3):
            assert f">{confusion[true, decided]}<" in page


def test_the_verdict_is_that_of_paired_differences(facts: Facts, graded: Run) -> None:
    assert facts.primary == "qwk"
    majority = majority_predictions(facts.predictions, np.array([8, 8, 8]))
    metric: Metric = facts.metric_of("qwk")
    one = paired_differences(facts.predictions, majority, [metric])["qwk"]
    assert facts.advantage == one
    if one.low > 0:
        assert verdict(facts).startswith(
            f"Beats always predicting the largest class by {one.value:.2f}"
        )
    else:
        assert verdict(facts).startswith("No detectable difference of QWK from always")
    twin = read_facts(graded, rivals=[graded])
    easy = "(the test split is too easy or too small for an interval of the difference)"
    assert f"no detectable difference of QWK from run {graded.id} {easy}" in verdict(twin)


def test_a_perfect_run_is_not_given_an_interval_without_width(facts: Facts) -> None:
    given = facts.predictions
    right = replace(given, decisions=given.labels)
    majority = majority_predictions(given, np.array([8, 8, 8]))
    one = paired_differences(right, majority, [facts.metric_of("qwk")])["qwk"]
    assert verdict(replace(facts, advantage=one)).startswith(
        "Beats always predicting the largest class by 1.00 QWK (the test split is too easy or too "
        "small for an interval of the difference), on 48 test samples"
    )


def test_items_of_the_guideline_have_its_numbers(facts: Facts) -> None:
    rows = re.findall(r"<tr>(?:<td[^>]*>([^<]*)</td>)(?:<td[^>]*>([^<]*)</td>)",
                      checklist_section(facts))  # fmt: skip
    asked = {number: text for number, text in rows if number != "CLAIM"}
    assert list(asked) == sorted(asked, key=lambda n: (int(re.sub(r"\D", "", n)), n))
    subjects = {  # of TRIPOD+AI, version of 11 January 2024
        "3a": "rationale", "3b": "purpose", "3c": "inequalities", "4": "development",
        "5a": "source", "5b": "dates", "6a": "setting", "6b": "eligibility", "7": "preparation",
        "8a": "outcome", "8b": "judged the outcome", "8c": "blinded", "9b": "predictors",
        "10": "sample size", "11": "missing data", "12a": "partition", "12c": "hyper-parameters",
        "12e": "measures", "12g": "predictions were computed", "13": "class imbalance",
        "14": "fairness", "15": "output", "16": "training and evaluation", "17": "ethical",
        "18a": "funding", "18b": "conflicts", "18c": "protocol", "18d": "registration",
        "18e": "the data", "18f": "the code", "19": "public", "20a": "flow",
        "20b": "characteristics", "20c": "comparison", "21": "each analysis", "22": "full model",
        "23a": "performance", "23b": "heterogeneity", "25": "interpretation", "26": "limitations",
        "27a": "poor quality", "27b": "user", "27c": "next steps",
    }  # fmt: skip
    assert asked.keys() == subjects.keys()
    assert [n for n, subject in subjects.items() if subject not in asked[n]] == []


def test_a_subgroup_of_few_groups_is_only_counted(page: str) -> None:
    row = re.search(r'<tr><td class="name">old</td>.*?</tr>', page)
    assert row
    assert re.findall(r"<td>(.*?)</td>", row[0]) == ["6", "3", "", ""]
    row = re.search(r'<tr><td class="name">new</td>.*?</tr>', page)
    assert row
    assert re.findall(r"<td>(.*?)</td>", row[0])[:2] == ["42", "21"]


def test_of_many_classes_the_most_frequent_confusions_are_listed(facts: Facts) -> None:
    rng, names = np.random.default_rng(0), tuple(f"c{number}" for number in range(30))
    labels = rng.integers(0, 30, 48)
    labels[:9] = 3
    decided = np.where(np.arange(48) < 5, 7, labels)
    many = replace(facts.predictions, classes=names, labels=labels, decisions=decided)
    section = confusion_section(replace(facts, predictions=many))
    count = int((labels == 3).sum())
    assert f"<td>5</td><td>{5 / count:.0%}</td>" in section
    assert section.count("<tr>") == 2


def test_mistakes_are_sorted_by_the_probability_that_is_printed(facts: Facts, page: str) -> None:
    mistakes, given = confident_mistakes(facts), facts.predictions
    assert set(mistakes) == set(np.flatnonzero(given.labels != given.decisions))
    printed = re.findall(r"predicted <b>\w+</b> \(([\d.]+)\)", page)
    assert len(set(printed)) > 1
    assert printed == sorted(printed, reverse=True)


def test_the_command_writes_the_file_and_renews_its_hash(graded: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(graded.directory, tmp_path / graded.id))
    assert sightx_main("report", str(run.directory), "--no-images") == 0
    content = (run.directory / "report.html").read_bytes()
    assert b"<img" not in content
    assert b"Image quality" not in content
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=run.directory,
                          check=False, capture_output=True)  # fmt: skip
    assert done.returncode == 0
    assert "report.html" in (run.directory / "SHA256SUMS").read_text()
    other = write_report(run, "validation", images=False)
    assert other.name == "report-validation.html"
    assert (run.directory / "report.html").read_bytes() == content
    assert "Judged on validation: this is not the test split." in text_of(other.read_text())
    assert "report-validation.html" in (run.directory / "SHA256SUMS").read_text()


def test_what_was_left_out_is_that_of_the_run_with_its_reason(graded: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(graded.directory, tmp_path / graded.id))
    skipped = {"b.png": "a copy of a.png", "c.png": "truncated"}
    (run.directory / "data.json").write_text(json.dumps({**run.data, "skipped": skipped}))
    text = text_of(render_report(Run(run.directory), images=False))
    assert "2 images left out, first b.png (a copy of a.png); data.json has all reasons." in text
    assert "2 images left out, unreadable or excluded" in text
    for file in (run.directory / "predictions").glob("test.*"):
        shutil.copy(file, file.with_name(file.name.replace("test", "data-0a", 1)))
    other = text_of(render_report(Run(run.directory), "data-0a", images=False))
    assert "other data; sightx evaluate says how many of them the run was trained on" in other
    assert "These are the data of the run, not those judged here." in other
    assert "48 judged here; of the run: " in other
    assert "unreadable or excluded" not in other


def test_a_run_without_predictions_says_what_writes_them(graded: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(graded.directory, tmp_path / graded.id))
    shutil.rmtree(run.directory / "predictions")
    with pytest.raises(RunError, match=r"sightx evaluate .* --split validation writes them"):
        render_report(run)


def test_images_that_are_gone_are_a_warning(
    graded: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = graded.directory.parents[1] / "data"
    data.rename(data.with_name("moved"))
    try:
        page = render_report(graded)
    finally:
        data.with_name("moved").rename(data)
    assert "the report has no images" in caplog.text
    assert "<img" not in page
    assert "the most confident" in page


@pytest.mark.slow  # a browser needs seconds
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_browser_renders_it_in_light_and_dark(page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page)
    shades = []
    for name, flags in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
        picture = tmp_path / f"{name}.png"
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *flags,
                   f"--user-data-dir={tmp_path / 'profile'}", "--window-size=390,2000",
                   f"--screenshot={picture}", (tmp_path / "report.html").as_uri()]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        pixels = np.asarray(Image.open(picture).convert("L"), dtype=float)
        assert pixels.std() > 10  # not blank
        shades.append(np.median(pixels))
    assert shades[0] > 200
    assert shades[1] < 60


def test_intervals_without_groups_count_samples(trained: Run, graded: Run) -> None:
    assert "The intervals count samples, and" in text_of(render_report(trained, images=False))
    text = text_of(render_report(graded, images=False))
    assert "The intervals count groups, not samples, and" in text
