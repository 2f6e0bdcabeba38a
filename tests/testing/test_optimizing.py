from __future__ import annotations

import pytest
import torch

from sightx.plugin import Optimizer
from sightx.testing import optimizing
from sightx.testing.demands import find


class O(Optimizer):  # noqa: E742
    """Go down as a test says."""

    name = "o"

    def build(self, groups):
        return Rule(groups, {"lr": self.lr})


class Rule(torch.optim.Optimizer):
    """Step by the running mean of the gradient."""

    sign = 1.0

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                state["mean"] = (state.get("mean", weight.grad) + weight.grad) / 2
                weight.sub_(self.sign * group["lr"] * state["mean"])


class Uphill(O):
    def build(self, groups):
        rule = Rule(groups, {"lr": self.lr})
        rule.sign = -1.0
        return rule


class OneRate(O):
    def build(self, groups):
        return Rule([w for g in groups for w in g["params"]], {"lr": self.lr})


class Deaf(O):
    def build(self, groups):
        class Fixed(Rule):
            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for weight in group["params"]:
                        weight.sub_(0.01 * weight.grad)

        return Fixed(groups, {"lr": self.lr})


class Forgetful(O):
    def build(self, groups):
        class Counting(Rule):
            done = 0

            @torch.no_grad()
            def step(self, closure=None):
                self.done += 1
                for group in self.param_groups:
                    for weight in group["params"]:
                        weight.sub_(group["lr"] / self.done * weight.grad)

        return Counting(groups, {"lr": self.lr})


class Opaque(O):
    def build(self, groups):
        class Holding(Rule):
            def step(self, closure=None):
                super().step()
                for values in self.state.values():
                    values["kind"] = complex(1)

        return Holding(groups, {"lr": self.lr})


class NoRule(O):
    def build(self, groups):
        return groups


BROKEN = [
    (optimizing.one_step_goes_down, Uphill(), "a step on (w - 2)^2 leads from 6 to 6.0"),
    (optimizing.one_step_goes_down, NoRule(), "build() returns a list"),
    (optimizing.rates_are_kept, OneRate(), "pass them on as they are"),
    (optimizing.rates_are_kept, Deaf(), "at rate 0 weights move"),
    (optimizing.state_can_be_taken_up, Forgetful(), "keep all in `state`"),
    (optimizing.state_can_be_taken_up, Opaque(), "its state 'kind' is a complex"),
]


@pytest.mark.parametrize(("check", "broken", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_promise_is_found(caught, check, broken, words) -> None:
    caught(check, broken, words)


def test_the_table_of_broken_components_is_whole() -> None:
    assert {row[0] for row in BROKEN} == set(optimizing.OPTIMIZER)
    assert all(find(check, O()).ok for check in optimizing.OPTIMIZER)
