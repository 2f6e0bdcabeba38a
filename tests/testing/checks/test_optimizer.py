from __future__ import annotations

import pytest
import torch

from sightx.plugin import Optimizer
from sightx.testing.assertions import run_check
from sightx.testing.checks import optimizer as checks


class O(Optimizer):  # noqa: E742
    """Behave as a test requires."""

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


class Doubled(O):
    def build(self, groups):
        return Rule([{**group, "lr": 2 * group["lr"]} for group in groups], {})


class Unnamed(O):
    def build(self, groups):
        return Rule([{**group, "name": "all"} for group in groups], {})


class Split(O):
    """Give each parameter its own group, and scale the rates of early layers."""

    def build(self, groups, layers):
        parts = [
            {**group, "params": [weight], "param_names": [name],
             "lr": group["lr"] * 0.5 ** (max(layers.values()) - layers[name])}
            for group in groups
            for name, weight in zip(group["param_names"], group["params"], strict=True)
        ]  # fmt: skip
        return Rule(parts, {})


class Twice(Rule):
    """Take the mean of the gradients at the weights and at a nearby point."""

    calls, distance = 1, 0.1

    def step(self, closure):
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for _ in range(self.calls):
            before = [weight.detach().clone() for weight in weights]
            gradients = [weight.grad for weight in weights]
            for weight in weights:
                weight.data += self.distance
            closure()
            for weight, old, gradient in zip(weights, before, gradients, strict=True):
                weight.data.copy_(old)
                weight.grad = (weight.grad + gradient) / 2
        super().step()


class TwoPasses(O):
    passes = 2

    def build(self, groups):
        return Twice(groups, {})


class ThreePasses(TwoPasses):
    def build(self, groups):
        built = Twice(groups, {})
        built.calls = 2
        return built


class Idle(TwoPasses):
    def build(self, groups):
        built = Twice(groups, {})
        built.distance = 0.0
        return built


class ReadingRule(Rule):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                scale = max(float(weight.grad.norm()), 1.0)
                weight.sub_(group["lr"] / scale * weight.grad)


class FalselyCapturable(O):
    capturable = True

    def build(self, groups):
        return ReadingRule(groups, {"lr": self.lr})


BROKEN = [
    (checks.capturable_reads_no_values, FalselyCapturable(), "a step with capturable = True fails"),
    (checks.step_decreases_loss, Uphill(), "a step on (w - 2)^2 leads from 11 to 11.0"),
    (checks.step_decreases_loss, NoRule(), "build() returns a list"),
    (checks.passes_are_counted, ThreePasses(), "calls closure() 2 times; call it once"),
    (checks.passes_are_counted, Idle(), "the weights are as before at closure()"),
    (checks.param_groups_are_kept, OneRate(), "a group has no `param_names`; keep its keys"),
    (checks.param_groups_are_kept, Doubled(), "lr of head.bias was 0.0001 and is 0.0002; keep it"),
    (checks.param_groups_are_kept, Unnamed(), "name of head.bias was head and is all; keep it"),
    (checks.param_groups_are_kept, Deaf(), "weights change at lr 0"),
    (checks.state_can_be_restored, Forgetful(), "keep everything in `state`"),
    (checks.state_can_be_restored, Opaque(), "its state 'kind' is a complex"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)
    assert [run_check(check, O()) for check in checks.CHECKS if not run_check(check, O()).ok] == []
    assert all(run_check(check, TwoPasses()).ok for check in checks.CHECKS)
    assert [run_check(check, Split()) for check in checks.CHECKS] == [
        run_check(check, O()) for check in checks.CHECKS
    ]
