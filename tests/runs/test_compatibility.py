from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sightx.builtin.augment import Flip
from sightx.builtin.averages import Ema, Swa
from sightx.builtin.losses import CrossEntropy
from sightx.builtin.mix import CutMix, MixUp
from sightx.builtin.optimizers import Adam
from sightx.builtin.samplers import DecayingBalance
from sightx.builtin.schedulers import (
    Constant,
    Cosine,
    GradualUnfreezing,
    OneCycle,
    Plateau,
    Step,
)
from sightx.records.history import History
from sightx.registry.kinds import ParamGroup, Scheduler
from sightx.runs import compatibility
from sightx.spec.experiment import Training
from sightx.training.schedule import Schedule
from support.experiments import labelled, make_experiment

HISTORY = History("train/loss", {}, ({"train/loss": 1.0}, {"train/loss": 2.0}))
BUILTIN = {"kind": "model", "name": "net", "module": "sightx.builtin.net", "plugin": "builtin",
           "revision": 1, "version": "1", "sha256": "a"}  # fmt: skip
THIRD_PARTY = {**BUILTIN, "module": "other", "plugin": "builtin"}


def lines(differences: list[compatibility.Difference]) -> list[str]:
    return [str(difference) for difference in differences]


def test_every_key_that_differs_is_a_line() -> None:
    before = {"seed": 0, "augment": [{"use": "flip"}, {"use": "rotate", "degrees": 1.0}],
              "model": {"hidden": [4, 5]}}  # fmt: skip
    now = {"seed": 0, "augment": [{"use": "flip"}], "model": {"hidden": [4, 6]}, "new": 1}
    differences = compatibility.compare_experiments(before, now)
    assert [difference.key for difference in differences] == [
        "augment.1.use", "augment.1.degrees", "model.hidden", "new"
    ]  # fmt: skip
    assert {difference.verdict for difference in differences} == {"refused"}
    assert differences[1].description == "1.0 then, nothing now"
    assert differences[3].description == "nothing then, 1 now"


def test_each_execution_setting_has_a_verdict() -> None:
    before = {"name": "a", "execution": {"device": "cpu", "threads": 1, "compile": False}}
    now = {"name": "b", "execution": {"device": "cuda", "threads": 2, "compile": True}}
    differences = compatibility.compare_settings(before, now, ())
    verdicts = {difference.key: difference.verdict for difference in differences}
    assert verdicts == {
        "name": "harmless",
        "execution.device": "changes results",
        "execution.threads": "harmless",
        "execution.compile": "changes results",
    }
    assert compatibility.compare_settings(before, now, verdicts) == []


def test_cached_features_may_change_the_last_digits() -> None:
    before, now = ({"execution": {"cache_features": value}} for value in ("auto", "off"))
    (difference,) = compatibility.compare_settings(before, now, ())
    assert (difference.key, difference.verdict) == ("execution.cache_features", "changes results")


def compare_epochs(
    before: int, now: int, steps: int, **parts: Any
) -> list[compatibility.Difference]:
    """Compare epochs of 10 steps of one sample."""
    experiment = make_experiment(training=Training(epochs=now, batch_size=1), **parts)
    table, rows = labelled([0, 0, 0, 0, 0, 0, 1, 1, 1, 2]), np.arange(10)
    schedules = [Schedule(experiment, table, rows, epochs=epochs) for epochs in (before, now)]
    return compatibility.compare_epochs(*schedules, HISTORY, steps)


class Late(Scheduler):
    """Change the learning rate in the middle."""

    name = "test-late"

    def factor(self, step: int, *, steps: int) -> float:
        return 1.0 if step < steps / 2 else 0.1


class LateWeights(CrossEntropy):
    """A loss whose sample weights depend on the progress."""

    name = "test-late-weights"

    def weights(self, targets: Any, *, progress: float) -> Any:
        return torch.ones(len(targets)) * (1 + progress)


HEAD = Adam(group=(ParamGroup(match=("head",), lr=0.1),))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"scheduler": Constant()}, ""),
        ({"scheduler": Constant(warmup=1.5)}, ""),
        ({"scheduler": Step(step_size=1)}, ""),
        ({"scheduler": Plateau(patience=0)}, ""),
        ({"scheduler": Cosine()}, "the learning rates of cosine so far depend on it"),
        ({"scheduler": OneCycle()}, "the learning rates of one-cycle so far depend on it"),
        ({"scheduler": GradualUnfreezing(epochs=2.0), "optimizer": HEAD}, ""),
        ({"scheduler": GradualUnfreezing(base=Cosine()), "optimizer": HEAD}, "gradual-unfreezing"),
        ({"average": Ema()}, ""),
        ({"average": Swa(start_epoch=1)}, ""),
        ({"augment": (Flip(), MixUp())}, ""),
        ({"augment": (Flip(), CutMix(off_after=0.8))}, ""),
        ({"augment": (Flip(), CutMix(off_after=0.3))}, "the draws of cutmix so far depend on it"),
        ({"loss": LateWeights()}, "the sample weights of test-late-weights so far depend on it"),
        ({"sampler": DecayingBalance()}, "the order of decaying-balance so far depend on it"),
        ({"sampler": DecayingBalance(end=1.0)}, ""),
    ],
)  # fmt: skip
def test_more_epochs_depend_on_what_follows_the_progress(
    parts: dict[str, Any], reason: str
) -> None:
    (difference,) = compare_epochs(4, 8, 25, **parts)
    assert difference.verdict == ("refused" if reason else "harmless")
    assert reason in difference.how_to_allow
    assert compare_epochs(4, 4, 25, **parts) == []


def test_epochs_may_grow_until_the_learning_rate_depends_on_their_number() -> None:
    assert compare_epochs(4, 8, 20, scheduler=Late())[0].verdict == "harmless"
    assert compare_epochs(4, 8, 21, scheduler=Late())[0].verdict == "refused"


def test_fewer_epochs_than_are_done_are_refused() -> None:
    assert compare_epochs(4, 2, 20)[0].verdict == "harmless"
    (difference,) = compare_epochs(4, 2, 21)
    assert difference.verdict == "refused"


def test_of_a_built_in_component_only_the_revision_counts() -> None:
    assert (
        compatibility.compare_components(
            [BUILTIN], [{**BUILTIN, "version": "2", "sha256": "b"}], allowed=False
        )
        == []
    )
    (difference,) = compatibility.compare_components(
        [BUILTIN], [{**BUILTIN, "revision": 2}], allowed=False
    )
    assert (difference.verdict, difference.description) == (
        "refused", "the model 'net' of builtin has changed: revision 1 then, 2 now"
    )  # fmt: skip


@pytest.mark.parametrize("change", [{"revision": 2}, {"version": "2"}, {"sha256": "b"}])
def test_of_a_plugin_the_source_counts(change: dict[str, object]) -> None:
    for allowed, verdict in ((False, "refused"), (True, "changes results")):
        (difference,) = compatibility.compare_components(
            [THIRD_PARTY], [{**THIRD_PARTY, **change}], allowed=allowed
        )
        assert difference.verdict == verdict


def test_environments() -> None:
    before = {"python": "3.11", "packages": {"torch": "1", "pandas": "2"}, "commit": "a"}
    now = {"python": "3.12", "packages": {"torch": "2", "pandas": "3"}, "commit": "b"}
    assert lines(compatibility.compare_environments(before, now)) == [
        "python: 3.11 then, 3.12 now (harmless)",
        "packages.torch: 1 then, 2 now (changes results)",
        "packages.pandas: 2 then, 3 now (harmless)",
        "commit: a then, b now (harmless)",
    ]


def table(**rows: tuple[str, str]) -> pd.DataFrame:
    columns = {"path": list(rows), "label": [row[0] for row in rows.values()],
               "sha256": [row[1] for row in rows.values()]}  # fmt: skip
    return pd.DataFrame(columns)


def test_samples() -> None:
    before = table(a=("0", "x"), b=("0", "y"), c=("1", "z"))
    assert compatibility.compare_samples(before, before, [], allowed=False) == []
    now = table(c=("0", "z"), b=("0", "w"), a=("0", "x"))
    for allowed, verdict in ((False, "refused"), (True, "changes results")):
        (difference,) = compatibility.compare_samples(before, now, ["d"], allowed=allowed)
        assert difference.description == (
            "dataset fingerprint changed (1 file: b; 1 label: c; 1 new sample: d)"
        )
        assert difference.verdict == verdict
    (difference,) = compatibility.compare_samples(before, now[:2], [], allowed=True)
    assert difference.verdict == "refused"


def test_packs() -> None:
    step = {"preprocess": {"use": "resize", "size": 4}, "origin": {**BUILTIN, "kind": "preprocess"}}
    before = {"decoded": ["scaled", 1], "chain": [step]}
    assert compatibility.compare_packs({}, {}, allowed=False) == []
    larger = {**step, "preprocess": {"use": "resize", "size": 5}}
    revised = {**step, "origin": {**step["origin"], "revision": 2}}
    moved = {**step, "origin": {**step["origin"], "sha256": "other"}}
    assert compatibility.compare_packs(before, {**before, "chain": [moved]}, allowed=False) == []
    for change, change_text in (
        ({"decoded": ["exact", 1]}, "decoded: ['scaled', 1] then, ['exact', 1] now"),
        ({"chain": [larger]}, "preprocess.0.size: 4 then, 5 now"),
        ({"chain": [revised]}, "preprocess.0.revision: 1 then, 2 now"),
    ):
        for allowed, verdict in ((False, "refused"), (True, "changes results")):
            (difference,) = compatibility.compare_packs(
                before, {**before, **change}, allowed=allowed
            )
            assert (difference.key, difference.verdict) == ("data", verdict)
            assert (
                difference.description == f"the pack was preprocessed differently ({change_text})"
            )


def test_the_order_of_classes_counts() -> None:
    assert compatibility.compare_classes(["a", "b"], ("a", "b")) == []
    assert compatibility.compare_classes(["a", "b"], ("b", "a"))[0].verdict == "refused"


def test_every_refused_difference_is_a_line() -> None:
    differences = [
        compatibility.Difference("seed", "0 then, 1 now", "refused", "hint"),
        compatibility.Difference("data", "changed", "refused", "option"),
        compatibility.Difference("name", "a then, b now", "harmless"),
    ]
    with pytest.raises(compatibility.IncompatibleResumeError) as caught:
        compatibility.raise_if_refused(differences)
    assert str(caught.value).splitlines() == [
        "error[drift] seed: 0 then, 1 now; hint",
        "error[data-changed] changed; option",
    ]
    compatibility.raise_if_refused(differences[2:])


def test_a_long_difference_is_one_line_with_its_verdict() -> None:
    line = str(compatibility.Difference("model.files", "a\n" * 900, "harmless"))
    assert "\n" not in line
    assert len(line) <= 300
    assert (
        compatibility.Difference("seed", "x" * 900, "refused", "start")
        .__str__()
        .endswith("... (refused: start)")
    )
