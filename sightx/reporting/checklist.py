"""What reporting guidelines ask of a study, as far as a program knows it; gaps stay gaps.

The items are those of TRIPOD+AI (G. S. Collins et al., BMJ 2024; 385: e078378), with its numbers,
and of CLAIM (A. S. Tejani et al., Radiology AI 2024) where it asks for more, in our words. Items
about the text of an article, such as its title, and about treatments are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sightx.errors import counted
from sightx.records import SPLITS
from sightx.reporting import html
from sightx.reporting.facts import Facts

GAP = '<span class="gap">not stated: to be written by you</span>'
Item = tuple[str, str, str]
"""The number in the guideline, what it asks for, and the answer as HTML; "" is a gap."""


def checklist_section(facts: Facts) -> str:
    """Return a table of the items; those without an answer are marked as gaps."""
    parts = (_study, _data, _model, _results, _discussion)
    items = sorted((item for part in parts for item in part(facts)), key=_order)
    gaps = sum(not answer for _, _, answer in items)
    rows = [[html.text(name), html.text(asked), answer or GAP] for name, asked, answer in items]
    lead = (
        f"<p>{len(items) - gaps} of {len(items)} items are answered by the run; {gaps} only its "
        "authors can answer, some of them in <code>[about]</code> of the spec.</p>"
    )
    body = html.table(["TRIPOD+AI", "asks for", "this run"], rows, names=3)
    folded = html.folded("Show all items", body)
    return html.section("checklist", "Reporting guidelines", [lead, folded])


def _order(item: Item) -> tuple[float, str]:
    """Return the place of an item: in the order of the numbers of TRIPOD+AI, then of CLAIM."""
    number = item[0].rstrip("abcdefg")
    return float(number) if number.isdigit() else math.inf, item[0]


def _study(facts: Facts) -> Iterator[Item]:
    about = facts.experiment.about
    yield "3a", "health-care context and rationale", ""
    yield (
        "3b",
        "target population, intended purpose and users",
        html.text(about.purpose) if about else "",
    )
    yield "3c", "known inequalities between groups of patients", ""
    yield "4", "development or evaluation", "evaluation" if facts.is_other_data else "both"
    yield "5a", "source of the data", html.text(about.data_source) if about else ""
    yield "5b", "dates of collection", ""
    yield "6a", "setting: sites and cameras", ""
    yield "6b", "eligibility of participants", ""
    yield "17", "ethical approval", ""
    yield "18a", "funding", ""
    yield "18b", "conflicts of interest", ""
    yield "18c", "protocol", ""
    yield "18d", "registration", ""
    yield "18e", "availability of the data", html.text(about.licence) if about else ""
    commit = facts.run.environment.get("commit", "")
    yield "18f", "availability of the code", f"commit {html.text(commit)}" if commit else ""
    yield "19", "involvement of patients and the public", ""


def _data(facts: Facts) -> Iterator[Item]:
    experiment, data = facts.experiment, facts.run.data
    steps = ", ".join(step.name for step in facts.recipe.preprocess)
    yield (
        "7",
        "preparation of the data",
        html.text(f"{steps or 'none'}; {experiment.normalize.name}"),
    )
    kind = "ordered classes" if facts.recipe.ordered else "classes"
    yield "8a", "outcome", html.text(f"{kind} {', '.join(facts.recipe.classes)}")
    yield "8b", "who judged the outcome, and how (CLAIM: reference standard)", ""
    yield "8c", "whether they were blinded", ""
    joint = any(step.combines_groups for step in facts.recipe.postprocess)
    fellows = ", and predictions of the other images of its group" if joint else ""
    yield "9b", "predictors", f"the pixels of an image{fellows}"
    sizes = ", ".join(f"{sum(data['counts'][split]):,} {split}" for split in SPLITS)
    judged = f"{len(facts.predictions):,} judged here; of the run: " if facts.is_other_data else ""
    yield (
        "10",
        "sample size",
        html.text(f"{judged}{sizes}; half-widths of intervals follow from it"),
    )
    left_out = counted(len(data.get("skipped", ())), "image")
    missing = f"{left_out} left out, unreadable or excluded; data.json has the reasons"
    yield "11", "missing data", "" if facts.is_other_data else html.text(missing)
    split = f"{experiment.split.name}, see Data and split"
    yield "12a", "partition of the data", html.text(split)


def _model(facts: Facts) -> Iterator[Item]:
    experiment, data = facts.experiment, facts.run.data
    weights = f"{data.get('weights', 0):,} weights, {data.get('trainable', 0):,} trained"
    model = f"{experiment.model.name} ({weights}), loss {experiment.loss.name}"
    yield "12c", "model, and how it was built", html.text(f"{model}; see Spec")
    tuned = "chosen by " + experiment.training.monitor
    yield (
        "12c",
        "choice of hyper-parameters and checkpoint",
        html.text(f"the checkpoint is {tuned}"),
    )
    yield "12e", "measures of performance", "see Numbers: each with an interval and a baseline"
    yield "12g", "how predictions were computed", html.text(f"by checkpoint {facts.checkpoint}")
    balance = [part.name for part in (experiment.sampler, experiment.loss) if part.balances]
    yield "13", "class imbalance", html.text(", ".join(balance) or "classes as they are")
    columns = facts.predictions.columns
    yield "14", "fairness", "see Subgroups" if columns else ""
    fitted = ", ".join(step.name for step in facts.recipe.postprocess) or "none"
    points = "two operating points" if facts.recipe.binary else "no threshold"
    yield (
        "15",
        "output and thresholds",
        html.text(f"probabilities; fitted on validation: {fitted}, {points}"),
    )
    yield (
        "16",
        "differences between training and evaluation data",
        ("" if facts.is_other_data else "none by design: one source, divided by the split"),
    )


def _results(facts: Facts) -> Iterator[Item]:
    judged = counted(len(facts.predictions), "sample")
    groups = f" of {counted(facts.groups, 'group')}" if facts.has_groups else ""
    yield "20a", "flow of participants", html.text(f"{judged}{groups} were judged")
    yield "20b", "characteristics of participants", ""
    yield "20c", "comparison with the data of development", "classes of each split: see Data"
    yield "21", "participants and outcomes in each analysis", "see Data"
    yield "22", "full model", html.text(f"checkpoint {facts.checkpoint} of {facts.run.id}")
    yield "23a", "performance with intervals", "see Numbers, Classes and Calibration"
    yield (
        "23b",
        "heterogeneity between clusters",
        "see Subgroups" if facts.predictions.columns else "",
    )
    yield "CLAIM", "failure analysis", "see Mistakes"
    yield (
        "CLAIM",
        "external testing",
        (html.text(f"this report is about {facts.split}") if facts.is_other_data else ""),
    )


def _discussion(facts: Facts) -> Iterator[Item]:
    about = facts.experiment.about
    yield "25", "interpretation in the light of other studies", ""
    yield "26", "limitations", html.text(about.limitations) if about else ""
    quality = facts.experiment.quality
    judged = f"each prediction says how good the image is: {quality.name}" if quality else ""
    yield "27a", "images of poor quality in use", html.text(judged)
    yield "27b", "what a user has to know and do", ""
    yield "27c", "next steps", ""
