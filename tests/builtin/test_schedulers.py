from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.optim import lr_scheduler

from sightx.builtin.schedulers import (
    Constant,
    Cosine,
    GradualUnfreezing,
    OneCycle,
    Plateau,
    Step,
)
from sightx.plugin import History, Scheduler

NONE = History("validation/loss", {})
PER_EPOCH, EPOCHS = 7, 6
STEPS = PER_EPOCH * EPOCHS


def optimizer() -> torch.optim.SGD:
    """Return one whose two groups have rates of 1 and 0.25."""
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    return torch.optim.SGD([{"params": [weights[0]]}, {"params": [weights[1]], "lr": 0.25}], lr=1.0)


def torch_rates(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]) -> list[float]:
    """Return the rate of the first group at each step, stepping the scheduler after each."""
    moved = optimizer()
    scheduler = make(moved)
    rates = []
    for _ in range(STEPS):
        first, second = (group["lr"] for group in moved.param_groups)
        assert second == pytest.approx(first / 4, rel=1e-9)
        rates.append(float(first))
        moved.step()
        scheduler.step()
    return rates


def factors(scheduler: Scheduler) -> list[float]:
    return [
        scheduler.multiplier(step, steps=STEPS, steps_per_epoch=PER_EPOCH, history=NONE)
        for step in range(STEPS)
    ]


def exactly(values: list[float]) -> object:
    return pytest.approx(values, rel=1e-9, abs=1e-15)


def test_constant_is_always_one() -> None:
    assert factors(Constant()) == [1.0] * STEPS


@pytest.mark.parametrize(("size", "gamma"), [(1, 0.5), (2, 0.1), (7, 0.1)])
def test_step_is_torchs_step(size: int, gamma: float) -> None:
    wanted = torch_rates(lambda o: lr_scheduler.StepLR(o, size * PER_EPOCH, gamma))
    assert factors(Step(step_size=size, gamma=gamma)) == exactly(wanted)


def test_cosine_is_torchs_cosine() -> None:
    wanted = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS))
    assert factors(Cosine()) == exactly(wanted)


def test_cosine_ends_at_its_floor() -> None:
    weight = [torch.nn.Parameter(torch.zeros(1))]
    moved = torch.optim.SGD(weight, lr=1.0)
    scheduler = lr_scheduler.CosineAnnealingLR(moved, STEPS, eta_min=0.2)
    found = factors(Cosine(min_factor=0.2))
    for factor in found:
        assert factor == pytest.approx(moved.param_groups[0]["lr"], rel=1e-9)
        moved.step()
        scheduler.step()
    assert found[0] == 1
    assert 0.2 < found[-1] < 0.202


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("peak_at", [0.01, 1 / STEPS, 0.3, 0.5, 0.97])
def test_one_cycle_is_torchs_one_cycle(anneal: str, peak_at: float) -> None:
    def make(o: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(
            o,
            [1.0, 0.25],
            total_steps=STEPS + 1,  # torch is stepped once more than there are rates to use
            pct_start=peak_at,
            anneal_strategy=anneal,
            cycle_momentum=False,
            div_factor=20,
            final_div_factor=50,
        )

    scheduler = OneCycle(peak_at=peak_at, start_factor=0.05, end_factor=0.001, anneal=anneal)
    found = [
        scheduler.factor(step, steps=STEPS + 1, steps_per_epoch=PER_EPOCH, history=NONE)
        for step in range(STEPS + 1)
    ]
    assert found[:-1] == exactly(torch_rates(make))
    assert found[-1] == pytest.approx(0.001)


def test_one_cycle_may_peak_at_its_first_step_where_torch_divides_by_zero() -> None:
    found = OneCycle(peak_at=0.25).factor(0, steps=4, steps_per_epoch=4, history=NONE)
    assert found == 1.0


def test_one_cycle_has_torchs_defaults() -> None:
    weight = [torch.nn.Parameter(torch.zeros(1))]
    moved = torch.optim.SGD(weight, lr=1.0)
    scheduler = lr_scheduler.OneCycleLR(moved, 1.0, total_steps=STEPS, cycle_momentum=False)
    for factor in factors(OneCycle())[:-1]:
        assert factor == pytest.approx(moved.param_groups[0]["lr"], rel=1e-9)
        moved.step()
        scheduler.step()


@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("kind", ["step", "cosine"])
def test_warmup_is_torchs_linear_rise_chained_before(warmup: float, kind: str) -> None:
    rising = max(round(warmup * PER_EPOCH), 1)

    def make(o: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LinearLR(o, 1 / rising, 1.0, max(rising - 1, 1))
        if kind == "step":
            return lr_scheduler.ChainedScheduler([rise, lr_scheduler.StepLR(o, 2 * PER_EPOCH)])
        return lr_scheduler.ChainedScheduler([rise, lr_scheduler.CosineAnnealingLR(o, STEPS)])

    scheduler = Step(step_size=2, warmup=warmup) if kind == "step" else Cosine(warmup=warmup)
    assert factors(scheduler) == exactly(torch_rates(make))


def plateau_factors(scheduler: Plateau, history: History) -> list[float]:
    """Return the factor in each epoch, and in the one after the last."""
    epochs = history.epochs
    seen = [
        History(history.monitor, history.directions, epochs[:n]) for n in range(len(epochs) + 1)
    ]
    return [
        scheduler.factor(n * PER_EPOCH, steps=1000, steps_per_epoch=PER_EPOCH, history=until)
        for n, until in enumerate(seen)
    ]


def noisy(direction: str, seed: int) -> list[float]:
    """Return a series that improves, stagnates, has ties and lacks some figures."""
    rng = np.random.default_rng(seed)
    levels = 0.2 + 0.6 * (1 - np.exp(-np.arange(60) / 8)) + rng.normal(0, 0.03, 60)
    values = (np.round(levels, 2) if seed % 2 else levels).tolist()
    for hole in rng.integers(0, 60, 5):
        values[hole] = math.nan
    return values if direction == "max" else [1.1 - value for value in values]


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("mode", ["relative", "absolute"])
@pytest.mark.parametrize(
    ("threshold", "cooldown", "patience"), [(0, 0, 0), (0.03, 3, 1), (1e-4, 1, 4)]
)
def test_plateau_is_torchs_plateau(
    direction: str, mode: str, threshold: float, cooldown: int, patience: int
) -> None:
    scheduler = Plateau(
        monitor="figure",
        gamma=0.5,
        patience=patience,
        threshold=threshold,
        threshold_mode=mode,
        cooldown=cooldown,
        min_factor=0.01,
    )
    fallen = set()
    for seed in range(20):
        values = noisy(direction, seed)
        weight = [torch.nn.Parameter(torch.zeros(1))]
        moved = torch.optim.SGD(weight, lr=1.0)
        theirs = lr_scheduler.ReduceLROnPlateau(
            moved, direction, 0.5, patience, threshold, mode[:3], cooldown, min_lr=0.01, eps=0
        )
        wanted = [1.0]
        for value in values:
            moved.step()
            theirs.step(value)
            wanted.append(moved.param_groups[0]["lr"])
        history = History("other", {"figure": direction}, tuple({"figure": v} for v in values))
        found = plateau_factors(scheduler, history)
        assert found == exactly(wanted)
        fallen.add(found[-1])
    assert max(fallen) < 1  # every series has a plateau


def test_plateau_follows_the_experiments_figure_unless_told_otherwise() -> None:
    figures = tuple({"validation/qwk": 0.1 * n, "validation/loss": 1.0} for n in range(4))
    history = History(
        "validation/qwk", {"validation/qwk": "max", "validation/loss": "min"}, figures
    )
    assert plateau_factors(Plateau(patience=1), history)[-1] == 1
    found = plateau_factors(Plateau(monitor="validation/loss", patience=1), history)
    assert found == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_plateau_takes_a_figure_below_zero_that_falls_for_no_improvement() -> None:
    kappas = tuple({"k": k} for k in (-0.100, -0.101, -0.102, -0.103))
    history = History("k", {"k": "max"}, kappas)
    assert plateau_factors(Plateau(patience=2, threshold=0.1), history)[-1] == pytest.approx(0.1)


def test_a_plateau_of_infinite_losses_is_left_by_a_finite_one() -> None:
    losses = tuple({"loss": loss} for loss in (math.inf, math.inf, 3.0, 2.0, 1.0))
    assert plateau_factors(Plateau(patience=2), History("loss", {"loss": "min"}, losses))[-1] == 1


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Step, {"step_size": 0}),
        (Step, {"gamma": 0.0}),
        (Plateau, {"gamma": 1.0}),
        (Plateau, {"patience": -1}),
        (Plateau, {"threshold_mode": "rel"}),
        (Cosine, {"min_factor": 1.1}),
        (OneCycle, {"peak_at": 1.0}),
        (OneCycle, {"anneal": "cosine"}),
    ],
)
def test_a_setting_out_of_bounds_is_refused(
    kind: type[Scheduler], settings: dict[str, object]
) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        kind(**settings)


def test_groups_are_unfrozen_one_after_the_other() -> None:
    scheduler = GradualUnfreezing(epochs=1.5, base=Cosine())
    groups = ("head", "layer4", "loss", "*")
    starts = {"head": 0, "layer4": 10, "loss": 0, "*": 21}  # round(1.5 * 7), round(3 * 7)
    for group, start in starts.items():
        for step in range(STEPS):
            run = {"steps": STEPS, "steps_per_epoch": PER_EPOCH, "history": NONE}
            factor = scheduler.factor(step, **run, group=group, groups=groups)
            expected = Cosine().factor(step, **run) if step >= start else 0.0
            assert factor == expected, (group, step)
