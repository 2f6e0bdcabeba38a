"""Checks of models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sightx.plugin import Model, call_declared
from sightx.testing.assertions import ContractCheck, on_meta, require
from sightx.testing.fixtures import images
from sightx.testing.forbid_io import forbid_io

if TYPE_CHECKING:
    from torch import Tensor, nn

_EDGES = (32, 64, 128, 224)  # The first size that the network accepts is used.
_OUTPUTS = 3


def build_opens_nothing(model: Model) -> None:
    """Require that build() opens no file and no connection, and works on the meta device."""
    import torch

    with torch.device("meta"), forbid_io(type(model)) as attempts:
        try:
            module, _ = _build(model)
        except Exception:
            if not attempts:
                raise
    require(
        not attempts,
        f"build() {', '.join(dict.fromkeys(attempts))}; load weights in initialise()",
    )
    real = [name for name, weight in module.named_parameters() if not weight.is_meta]
    require(not real, f"{_join(real)} is not on torch's default device (meta); do not choose one")


def build_is_deterministic(model: Model) -> None:
    """Require that the initial weights depend on torch's seed alone."""
    one, two = (_build(model)[0].state_dict() for _ in range(2))
    different = [name for name, value in one.items() if not value.equal(two[name])]
    require(
        not different,
        f"with the same seed {_join(different)} differs; draw weights from torch's generator",
    )


def all_weights_get_gradients(model: Model) -> None:
    """Require outputs (B, outputs), a finite loss, and a gradient for each weight."""
    module, size = _build(model)
    module.train()
    missing = {name for name, weight in module.named_parameters() if weight.requires_grad}
    require(missing, "no weight requires a gradient; the field `trainable` freezes weights")
    with _seeded():
        for seed in range(4):
            missing -= _weights_with_gradient(module, _batch(4, size, seed))
            if not missing:
                return
            _perturb(module)  # Weights that start at 0 let no gradient pass.
    names = _join(sorted(missing))
    raise AssertionError(f"{names} never gets a gradient; use it in forward, or remove it")


def _weights_with_gradient(module: nn.Module, batch: tuple[Tensor, Tensor]) -> set[str]:
    import torch
    from torch.nn.functional import cross_entropy

    pixels, targets = batch
    module.zero_grad()
    loss = cross_entropy(_forward(module, pixels), targets)
    require(bool(loss.isfinite()), f"the loss of random images is {loss.item()}")
    loss.backward()  # type: ignore[no-untyped-call]
    names = set()
    for name, weight in module.named_parameters():
        if weight.grad is not None:
            require(bool(weight.grad.isfinite().all()), f"the gradient of {name} is not finite")
            if torch.count_nonzero(weight.grad):
                names.add(name)
    return names


def _perturb(module: nn.Module) -> None:
    import torch

    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)


def batch_of_two_works(model: Model) -> None:
    """Require finite outputs for two images, in training and in evaluation mode."""
    import torch

    module, size = _build(model)
    batch, _ = _batch(2, size, 0)
    with torch.no_grad(), _seeded():
        for mode in ("training", "evaluation"):
            outputs = _forward(module.train(mode == "training"), batch)
            require(bool(outputs.isfinite().all()), f"in {mode} mode outputs are not finite")


def evaluation_is_deterministic(model: Model) -> None:
    """Require that the outputs of an image are the same each time, and in any batch."""
    import torch

    module, size = _build(model)
    batch, _ = _batch(3, size, 0)
    module.eval()
    with torch.no_grad(), _seeded():
        first, second, alone = (module(part) for part in (batch, batch, batch[:1]))
    require(first.equal(second), "in evaluation mode outputs differ from call to call")
    require(
        torch.allclose(first[:1], alone, rtol=1e-3, atol=1e-4),
        "in evaluation mode the outputs of an image depend on the other images of its batch",
    )


def forward_works_on_any_device(model: Model) -> None:
    """Require outputs on the device of the images; a capturable network reads no values there."""
    import torch

    with torch.device("meta"):
        module, size = _build(model)
    images = torch.empty(2, 3, *size, device="meta")
    try:
        with torch.no_grad(), on_meta("the network"):
            outputs = module(images)
    except AssertionError as error:
        if model.capturable or "device" in str(error.__cause__):
            raise
        return  # it reads values, and does not claim that it can be recorded
    require(outputs.is_meta, "the network returns a tensor on another device than the images")


def weights_can_be_saved(model: Model) -> None:
    """Require the same outputs after weights are saved as safetensors and loaded."""
    import torch
    from safetensors.torch import load, save

    module, size = _build(model)
    other, _ = _build(model, seed=1)
    other.load_state_dict(load(save(module.state_dict())))
    batch, _ = _batch(2, size, 0)
    with torch.no_grad(), _seeded():
        is_same = module.eval()(batch).equal(other.eval()(batch))
    require(is_same, "with saved weights outputs differ; use parameters and buffers for all state")


def stages_match_network(model: Model) -> None:
    """Require that stages(), called one after another, give the outputs of the network."""
    import torch
    from torch import nn

    module, size = _build(model)
    stages = call_declared(model.stages, module.eval())
    if stages is None:
        return
    invalid = [type(stage).__name__ for stage in stages if not isinstance(stage, nn.Module)]
    require(not invalid, f"stages() returns {_join(invalid)}; return modules")
    own = {id(weight) for weight in module.parameters()}
    is_own = all(id(weight) in own for stage in stages for weight in stage.parameters())
    require(is_own, "stages() returns weights that the network does not have; return its parts")
    batch, _ = _batch(3, size, 0)
    with torch.no_grad(), _seeded():
        expected, outputs = module(batch), batch
        for stage in stages:
            outputs = stage(outputs)
    require(
        outputs.shape == expected.shape and torch.allclose(outputs, expected, atol=1e-5),
        "stages(), one after another, differ from the network; return None if it is not a chain",
    )


def normalization_is_valid(model: Model) -> None:
    """Require as many means as standard deviations, which are above 0."""
    statistics = model.normalization()
    if statistics is None:
        return
    mean, std = statistics
    require(
        len(mean) == len(std) > 0 and min(std) > 0,
        f"normalization() returns {statistics}; return as many means as deviations > 0",
    )


def _build(model: Model, seed: int = 0) -> tuple[nn.Module, tuple[int, int]]:
    """Return a network for the first image size that it accepts, and the size."""
    from torch import nn

    refusal: Exception | None = None
    for edge in _EDGES:
        size = (edge, edge)
        try:
            with _seeded(seed):
                module = call_declared(model.build, channels=3, outputs=_OUTPUTS, size=size)
        except ValueError as error:
            refusal = error
            continue
        require(isinstance(module, nn.Module), f"build() returns a {type(module).__name__}")
        return module, size
    edges = ", ".join(map(str, _EDGES))
    raise AssertionError(f"build() refuses squares of {edges} pixels: {refusal}")


@contextmanager
def _seeded(seed: int = 0) -> Iterator[None]:
    """Seed torch's generator, and restore its state afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _batch(n: int, size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    import torch

    pixels, labels = images(n, size, classes=_OUTPUTS, seed=seed)
    return (pixels.float() / 255 - 0.5) / 0.25, torch.from_numpy(labels)


def _forward(module: nn.Module, batch: Tensor) -> Tensor:
    import torch

    outputs = module(batch)
    kind = type(outputs).__name__
    require(isinstance(outputs, torch.Tensor), f"it returns a {kind}, not a tensor")
    shape, expected = tuple(outputs.shape), (len(batch), _OUTPUTS)
    require(shape == expected, f"outputs are {shape}; return {expected}, (B, outputs)")
    return outputs  # type: ignore[no-any-return]


def _join(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


CHECKS: tuple[ContractCheck, ...] = (
    build_opens_nothing, build_is_deterministic, all_weights_get_gradients, batch_of_two_works,
    evaluation_is_deterministic, forward_works_on_any_device, weights_can_be_saved,
    stages_match_network, normalization_is_valid,
)  # fmt: skip
