"""What a hostile component returns is refused, with its name and what it must return."""

from __future__ import annotations

import datetime
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sightx.errors import SpecError
from sightx.evaluation.metrics import metric_directions
from sightx.plugin import (
    Checkpoint,
    History,
    Loss,
    Metric,
    Model,
    Normalize,
    Optimizer,
    Postprocess,
    Predictions,
    Scheduler,
    Stopping,
)
from sightx.registry import results
from sightx.training.step import Criterion
from support.hostile import hostile, refused

HISTORY = History("validation/loss", {"validation/loss": "min"})
PREDICTIONS = Predictions(
    keys=("a", "b"), groups=("", ""), labels=np.array([0, 1]), outputs=np.zeros((2, 2)),
    probabilities=np.full((2, 2), 0.5), decisions=np.array([0, 0]), classes=("x", "y"),
)  # fmt: skip


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf"), None, "0.5", True])
def test_a_factor_is_a_finite_number_from_0(factor: Any) -> None:
    scheduler = hostile(Scheduler, factor=factor)
    refused(
        lambda: results.lr_multiplier(scheduler, 3, steps=9, steps_per_epoch=3, history=HISTORY),
        f"factor() of x (sx_evil) returned {factor!r} at step 3",
    )


@pytest.mark.parametrize(
    ("names", "part"),
    [("best", "returned 'best'"), ({"../../evil"}, "the name '../../evil'"), ([3], "the name 3"),
     (None, "returned None"), ({".."}, "the name '..'")],
)  # fmt: skip
def test_checkpoint_names_are_a_collection_of_plain_names(names: Any, part: str) -> None:
    refused(lambda: results.checkpoint_names(hostile(Checkpoint, keep=names), HISTORY), part)


@pytest.mark.parametrize("reason", [True, 3, " "])
def test_a_reason_to_stop_is_text(reason: Any) -> None:
    refused(lambda: results.stop_reason(hostile(Stopping, reason=reason), HISTORY), "or None")


def test_a_reason_is_one_line_and_short() -> None:
    reason = results.stop_reason(hostile(Stopping, reason="a\nb\x1b" + "c" * 999), HISTORY)
    assert reason is not None
    assert reason.isprintable()
    assert len(reason) <= 300


def test_two_metrics_do_not_have_one_name() -> None:
    metrics = [hostile(Metric, values={"f1": "max"}), hostile(Metric, values={"f1": "min"})]
    with pytest.raises(SpecError, match="metric-name-twice"):
        metric_directions(metrics, ("x", "y"))


@pytest.mark.parametrize(
    "state", [{"a": np.array([1])}, {"a": datetime.date(2020, 1, 1)}, {"a": {1}}, [1]]
)
def test_a_fitted_state_is_a_mapping_that_json_holds(state: Any) -> None:
    refused(lambda: results.fitted_state(hostile(Postprocess, fit=state), PREDICTIONS))


@pytest.mark.parametrize(
    ("result", "part"),
    [
        (np.array([0]), "did not return the predictions"),
        (PREDICTIONS.with_decisions(np.array([0, 2])), "decisions from 0 to 2"),
        (PREDICTIONS.with_decisions(np.array([0])), "decisions (1,)"),
        (PREDICTIONS.with_probabilities(np.ones((2, 2))), "the probabilities [1.0, 1.0]"),
        (PREDICTIONS.with_probabilities(np.ones((2, 1))), "probabilities (2, 1)"),
        (PREDICTIONS.with_probabilities(np.full((2, 2), np.nan)), "the probabilities [nan, nan]"),
        (replace(PREDICTIONS, labels=np.array([0, 0])), "changed labels"),
        (replace(PREDICTIONS, labels=np.array([0])), "changed labels"),
        (replace(PREDICTIONS, outputs=None), "changed outputs"),
    ],
)
def test_postprocessed_predictions_are_valid(result: Any, part: str) -> None:
    postprocess = hostile(Postprocess, apply=result)
    refused(lambda: results.postprocessed(postprocess, PREDICTIONS, {}), part)


@pytest.mark.parametrize(
    "statistics",
    [((0.5,), (0.0,)), ((0.5, 0.5), (1.0, 1.0)), ((float("nan"),), (1.0,)), None,
     (torch.zeros(1, 1), torch.ones(1, 1, 1).bool())],
)  # fmt: skip
def test_statistics_are_finite_and_one_per_channel(statistics: Any) -> None:
    normalize = hostile(Normalize, statistics=statistics)
    rows: Any = None
    model = hostile(Model)
    if statistics is not None and isinstance(statistics[0], torch.Tensor):
        statistics[1].zero_()
    refused(
        lambda: results.normalization(normalize, model=model, training_rows=rows, channels=1),
        "every std above 0",
    )


@pytest.mark.parametrize(
    ("module", "part"),
    [(None, "a NoneType"), (nn.LazyLinear(3), "no size for the weight 'weight'"),
     (nn.Linear(3, 2, device="meta"), "the weight 'weight' on the device meta")],
)  # fmt: skip
def test_a_network_is_a_module_of_known_size(module: Any, part: str) -> None:
    model = hostile(Model, build=module)
    refused(lambda: results.network(model, channels=3, outputs=2, size=(4, 4)), part)


@pytest.mark.parametrize(
    ("outputs", "part"),
    [(torch.zeros(4, 1000), "(4, 1000) for 4 images"), (torch.zeros(4), "(4,) for 4"),
     ((torch.zeros(4, 3),), "a tuple for 4"), ({}, "a dict for 4")],
)  # fmt: skip
def test_outputs_of_a_network_have_the_width_of_the_loss(outputs: Any, part: str) -> None:
    model = hostile(Model, build=None)
    refused(lambda: results.check_network_outputs(model, outputs, (4, 3)), part, "(4, 3)")


def test_outputs_of_a_network_have_a_gradient_if_weights_are_trained() -> None:
    model, outputs = hostile(Model, build=None), torch.zeros(4, 3)
    results.check_network_outputs(model, outputs, (4, 3))
    refused(
        lambda: results.check_network_outputs(model, outputs, (4, 3), has_gradient=True),
        "outputs have no gradient; leave out .detach()",
    )


@pytest.mark.parametrize(("stages", "part"), [("abc", "'abc'"), ([1], "a int"), (5, "returned 5")])
def test_stages_are_modules(stages: Any, part: str) -> None:
    refused(lambda: results.network_stages(hostile(Model, stages=stages), nn.Linear(1, 1)), part)


def test_a_network_may_be_no_chain() -> None:
    chain = nn.Sequential(nn.ReLU(), nn.ReLU())
    assert results.network_stages(hostile(Model, stages=None), chain) == ()
    assert results.network_stages(hostile(Model, stages=chain), chain) == [chain[0], chain[1]]


@pytest.mark.parametrize("declared", [5, ((0.5,), (0.0,)), ((0.5, 0.5), (1.0,)), ((), ())])
def test_the_normalization_of_a_model_is_a_pair(declared: Any) -> None:
    normalize = hostile(Normalize, statistics=((0.5,), (1.0,)))
    model, rows = hostile(Model, normalization=declared), None
    refused(
        lambda: results.normalization(normalize, model=model, training_rows=rows, channels=1),
        "normalization() of x",
    )


@pytest.mark.parametrize("answer", [None, np.zeros(3), torch.zeros(2), torch.zeros(3, 1)])
def test_decisions_of_a_loss_are_a_tensor_with_one_class_per_sample(answer: Any) -> None:
    method = hostile(Loss, decision=answer).decision
    refused(lambda: results.check_answer(method, answer, (3,)), "return a tensor (3,)")
    results.check_answer(method, torch.zeros(3), (3,))


@pytest.mark.parametrize("answer", [None, torch.zeros(3), torch.zeros(3, 1)])
def test_probabilities_of_a_loss_are_a_tensor_with_a_number_per_class(answer: Any) -> None:
    loss = hostile(Loss, build=nn.CrossEntropyLoss(reduction="none"), probabilities=answer)
    criterion = Criterion(loss, (2, 1), torch.device("cpu"))
    refused(lambda: criterion.probabilities(torch.zeros(3, 2)), "probabilities() of x")


def test_the_state_of_a_loss_is_in_tensors_of_known_shapes() -> None:
    refused(
        lambda: results.loss_module(hostile(Loss, build=nn.LazyLinear(1)), (1, 1)),
        "has no size for the weight 'weight'",
    )
    learned = nn.Linear(2, 1)
    assert results.loss_module(hostile(Loss, build=learned), (1, 1)) is learned
    buffers = nn.CrossEntropyLoss(weight=torch.ones(2), reduction="none")
    assert results.loss_module(hostile(Loss, build=buffers), (1, 1)) is buffers


@pytest.mark.parametrize(
    ("losses", "weights", "part"),
    [
        (torch.ones(3), None, "no gradient"),
        (torch.ones(3, requires_grad=True), torch.ones(2), "(2,) for 3 samples"),
        (torch.ones(3, requires_grad=True), torch.tensor([1.0, -1.0, 1.0]), "a negative"),
        (torch.ones(3, requires_grad=True), torch.zeros(3), "only zeros for a batch"),
    ],
)
def test_losses_have_a_gradient_and_weights_are_not_negative(
    losses: Any, weights: Any, part: str
) -> None:
    loss = hostile(Loss, build=None, weights=None)
    refused(lambda: results.check_losses(loss, losses, weights, has_gradient=True), part)


@pytest.mark.parametrize("outputs", [0, 2.0, None, True])
def test_a_loss_asks_for_one_output_or_more(outputs: Any) -> None:
    refused(lambda: results.network_width(hostile(Loss, outputs=outputs), 3), "for 3 classes")


def test_an_optimizer_updates_every_weight() -> None:
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    partial = torch.optim.SGD(weights[:1], lr=0.1)
    groups = [{"params": weights, "param_names": ["a", "b", "c"], "lr": 0.1, "name": "*"}]
    optimizer = hostile(Optimizer, build=partial)
    refused(lambda: results.torch_optimizer(optimizer, groups, {}), "leaves out 2 of 3 weights")
    closure = hostile(Optimizer, build=torch.optim.LBFGS(weights))
    refused(lambda: results.torch_optimizer(closure, groups, {}), "a LBFGS, which needs a closure")
    other = hostile(Optimizer, build=SimpleNamespace())
    refused(lambda: results.torch_optimizer(other, groups, {}), "a SimpleNamespace")


def test_an_optimizer_keeps_the_names_and_rates_of_groups() -> None:
    first, second = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    groups = [
        {"params": [first], "param_names": ["first"], "lr": 0.1, "name": "head"},
        {"params": [second], "param_names": ["second"], "lr": 0.3, "name": "*"},
    ]
    layers = {"first": 0, "second": 1}

    def build(**changed: Any) -> Any:
        given = {"params": [first, second], "name": "*", **changed}
        return hostile(Optimizer, build=torch.optim.SGD([given], lr=0.3))

    refused(lambda: results.torch_optimizer(build(), groups, layers), "'head' into one called '*'")
    nameless = hostile(Optimizer, build=torch.optim.SGD([first, second], lr=0.3))
    refused(lambda: results.torch_optimizer(nameless, groups, layers), "into one called None")
    thrice = hostile(Optimizer, build=torch.optim.SGD(groups))
    type(thrice).passes = 3
    refused(lambda: results.torch_optimizer(thrice, groups, layers), "has passes = 3")
    scaled = [{**groups[0], "lr": 0.05}, groups[1]]  # of a layer before the last one
    optimizer = hostile(Optimizer, build=torch.optim.SGD(scaled))
    assert results.torch_optimizer(optimizer, groups, layers).param_groups[0]["lr"] == 0.05
    refused(
        lambda: results.torch_optimizer(optimizer, groups, {"first": 0, "second": 0}),
        "the group 'head' the rate 0.05, not 0.1",
    )


HASHED = """
import sys
from sightx.builtin.datasets.synthetic_fundus import SyntheticFundus
from sightx.plugin import Model
from support.experiments import make_experiment

class Net(Model):
    name = "net"
    s: frozenset[str] = frozenset({"b", "a", "c", "d"})

print(make_experiment(model=Net()).id)
"""


def test_the_id_of_an_experiment_does_not_depend_on_the_hash_seed() -> None:
    import os

    root = Path(__file__).parents[2]
    ids = {
        subprocess.run(
            [sys.executable, "-c", HASHED], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed,
                 "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(ids) == 1
