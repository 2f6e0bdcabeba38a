from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest
import torch
from torch import nn

from sightx.plugin import Model
from sightx.testing.checks import model as checks


class M(Model):
    """Behave as a test requires."""

    name = "m"

    def build(self, *, channels, outputs, size):
        return Net(channels * size[0] * size[1], outputs)


class Net(nn.Module):
    """A hidden layer and a head."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.hidden = nn.Linear(inputs, 8)
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.hidden(x.flatten(1))))


def changed(**members) -> type[M]:
    """Return a model whose network differs in some methods."""
    net = type("Changed", (Net,), members)

    class Changed(M):
        def build(self, *, channels, outputs, size):
            return net(channels * size[0] * size[1], outputs)

    return Changed


class ReadingFile(M):
    def build(self, *, channels, outputs, size):
        with contextlib.suppress(OSError):
            Path("weights.pt").read_bytes()
        return super().build(channels=channels, outputs=outputs, size=size)


class Connecting(M):
    def build(self, *, channels, outputs, size):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)


class OnTheProcessor(M):
    def build(self, *, channels, outputs, size):
        with torch.device("cpu"):
            return super().build(channels=channels, outputs=outputs, size=size)


class Particular(M):
    def build(self, *, channels, outputs, size):
        raise ValueError("wants 512")


class NoModule(M):
    def build(self, *, channels, outputs, size):
        return lambda images: images


class OwnDraws(M):
    def build(self, *, channels, outputs, size):
        net = super().build(channels=channels, outputs=outputs, size=size)
        nn.init.normal_(net.head.weight, generator=torch.Generator().manual_seed(next(COUNT)))
        return net


COUNT = iter(range(1000))


def unused(self, inputs, outputs):
    Net.__init__(self, inputs, outputs)
    self.spare = nn.Linear(2, 2)


def frozen(self, inputs, outputs):
    Net.__init__(self, inputs, outputs)
    self.requires_grad_(False)


def infinite(self, x):
    return Net.forward(self, x) * float("inf")


def gated(self, x):
    hidden = self.hidden(x.flatten(1)).clamp(min=1e6)
    return self.head(hidden)


def pair(self, x):
    return Net.forward(self, x), None


def wide(self, x):
    return torch.cat([Net.forward(self, x)] * 2, dim=1)


def many(self, x):
    if self.training and len(x) < 4:
        raise ValueError("more images, please")
    return Net.forward(self, x)


def overflowing(self, x):
    return Net.forward(self, x) / torch.tensor(float(self.training))


def noisy(self, x):
    return nn.functional.dropout(Net.forward(self, x), 0.5, training=True)


def neighbours(self, x):
    outputs = Net.forward(self, x)
    return outputs - outputs.mean(dim=0)


def secret(self, inputs, outputs):
    Net.__init__(self, inputs, outputs)
    self.scale = float(torch.rand(()))


def scaled(self, x):
    return Net.forward(self, x) * self.scale


class Negative(M):
    def normalization(self):
        return (0.5,) * 3, (0.2, 0.2, 0.0)


class ZeroHead(M):
    def build(self, *, channels, outputs, size):
        net = super().build(channels=channels, outputs=outputs, size=size)
        nn.init.zeros_(net.head.weight)
        return net


class Skipping(M):
    def stages(self, module):
        return [nn.Flatten(), module.hidden, module.head]


class Copying(M):
    def stages(self, module):
        return [nn.Flatten(), nn.Linear(8, 8), module.head]


class Calling(M):
    def stages(self, module):
        return [module.hidden, torch.tanh, module.head]


class Staged(M):
    def stages(self, module):
        return [nn.Flatten(), module.hidden, nn.Tanh(), module.head]


def rooted(self, x):
    return (Net.forward(self, x) * 0).abs().sqrt()


def add_on_the_cpu(self, x):
    return self.head(torch.tanh(self.hidden(x.flatten(1)))) + torch.ones(3, device="cpu")


def read_a_value(self, x):
    scale = max(float(x.abs().max()), 1.0)
    return self.head(torch.tanh(self.hidden(x.flatten(1)))) * scale / scale


class FalselyCapturable(changed(forward=read_a_value)):  # type: ignore[misc]
    capturable = True


def test_a_network_that_does_not_claim_to_be_capturable_may_read_values() -> None:
    checks.forward_works_on_any_device(changed(forward=read_a_value)())


BROKEN = [
    (checks.forward_works_on_any_device, changed(forward=add_on_the_cpu)(), "on another device"),
    (checks.forward_works_on_any_device, FalselyCapturable(), "the network fails on another"),
    (checks.all_weights_get_gradients, changed(forward=rooted)(), "hidden.weight is not finite"),
    (checks.build_opens_nothing, ReadingFile(), "weights.pt; load weights in initialise()"),
    (checks.build_opens_nothing, Connecting(), "build() opened a connection"),
    (checks.build_opens_nothing, OnTheProcessor(), "hidden.weight, hidden.bias, head.weight and 1"),
    (checks.build_opens_nothing, Particular(), "refuses squares of 32, 64, 128, 224 pixels: wants"),
    (checks.build_opens_nothing, NoModule(), "build() returns a function"),
    (checks.build_is_deterministic, OwnDraws(), "head.weight differs"),
    (
        checks.all_weights_get_gradients,
        changed(__init__=unused)(),
        "spare.bias, spare.weight never gets",
    ),
    (checks.all_weights_get_gradients, changed(__init__=frozen)(), "no weight requires a gradient"),
    (
        checks.all_weights_get_gradients,
        changed(forward=infinite)(),
        "the loss of random images is nan",
    ),
    (
        checks.all_weights_get_gradients,
        changed(forward=gated)(),
        "hidden.bias, hidden.weight never gets",
    ),
    (checks.all_weights_get_gradients, changed(forward=pair)(), "it returns a tuple"),
    (
        checks.all_weights_get_gradients,
        changed(forward=wide)(),
        "outputs are (4, 6); return (4, 3)",
    ),
    (checks.batch_of_two_works, changed(forward=many)(), "more images, please"),
    (
        checks.batch_of_two_works,
        changed(forward=overflowing)(),
        "in evaluation mode outputs are",
    ),
    (checks.evaluation_is_deterministic, changed(forward=noisy)(), "differ from call to call"),
    (
        checks.evaluation_is_deterministic,
        changed(forward=neighbours)(),
        "the other images of its batch",
    ),
    (
        checks.weights_can_be_saved,
        changed(__init__=secret, forward=scaled)(),
        "use parameters and buffers for all state",
    ),
    (checks.stages_match_network, Skipping(), "differ from the network; return None"),
    (checks.stages_match_network, Copying(), "returns weights that the network does not have"),
    (checks.stages_match_network, Calling(), "stages() returns builtin_function_or_method"),
    (checks.normalization_is_valid, Negative(), "as many means as deviations > 0"),
]


@pytest.mark.parametrize(("check", "broken", "message"), BROKEN)
def test_a_broken_component_fails_its_check(assert_fails, check, broken, message) -> None:
    assert_fails(check, broken, message)


def test_every_check_has_a_broken_component() -> None:
    assert {row[0] for row in BROKEN} == set(checks.CHECKS)


def test_a_correct_network_passes_and_the_generator_of_torch_is_restored() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    for check in checks.CHECKS:
        check(M())
    assert torch.random.get_rng_state().equal(before)


class Large(M):
    def build(self, *, channels, outputs, size):
        if size[0] < 128:
            raise ValueError("too small")
        return super().build(channels=channels, outputs=outputs, size=size)


def test_a_head_may_be_initialised_with_zeros() -> None:
    checks.all_weights_get_gradients(ZeroHead())


def test_a_network_may_declare_its_stages() -> None:
    checks.stages_match_network(Staged())


def test_a_network_may_require_large_images() -> None:
    for check in checks.CHECKS:
        check(Large())
