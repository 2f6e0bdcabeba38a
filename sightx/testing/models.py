"""What a network promises: how it is built, and that all of it learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sightx.plugin import Model
from sightx.testing.demands import Check, demand, offer
from sightx.testing.guard import sealed
from sightx.testing.worlds import images

if TYPE_CHECKING:
    from torch import Tensor, nn

_SIZES = (32, 64, 128, 224)  # the first that the network takes is the one it is tried with
_OUTPUTS = 3


def builds_from_nothing(model: Model) -> None:
    """Demand that build() opens no file and no connection, and works on the meta device."""
    import torch

    with torch.device("meta"), sealed(type(model)) as opened:
        try:
            module, _ = _built(model)
        except Exception:
            if not opened:
                raise
    demand(
        not opened,
        f"build() {', '.join(dict.fromkeys(opened))}; load weights in initialise() alone",
    )
    real = [name for name, weight in module.named_parameters() if not weight.is_meta]
    demand(
        not real,
        f"on the meta device {_some(real)} is a real tensor; let torch choose the device",
    )


def seed_decides_weights(model: Model) -> None:
    """Demand that torch's seed alone decides the fresh weights."""
    one, two = (_built(model)[0].state_dict() for _ in range(2))
    differ = [name for name, value in one.items() if not value.equal(two[name])]
    demand(
        not differ,
        f"with the same seed {_some(differ)} differs; draw weights from torch's generator",
    )


def every_weight_learns(model: Model) -> None:
    """Demand outputs (B, outputs), a finite loss, and a gradient for each weight."""
    module, size = _built(model)
    module.train()
    silent = {name for name, weight in module.named_parameters() if weight.requires_grad}
    demand(silent, "no weight asks for a gradient; freezing is the work of `trainable`")
    with _seeded():
        for seed in range(4):
            silent -= _reached(module, _batch(4, size, seed))
            if not silent:
                return
            _jitter(module)  # what begins at 0, such as a head or a scale, lets nothing pass
    names = _some(sorted(silent))
    raise AssertionError(f"no gradient ever reaches {names}; use it in forward, or drop it")


def _reached(module: nn.Module, batch: tuple[Tensor, Tensor]) -> set[str]:
    """Return the names of the weights that a batch's gradient reaches."""
    import torch
    from torch.nn.functional import cross_entropy

    pixels, targets = batch
    module.zero_grad()
    loss = cross_entropy(_outputs(module, pixels), targets)
    demand(bool(loss.isfinite()), f"the loss of random images is {loss.item()}")
    loss.backward()  # type: ignore[no-untyped-call]
    reached = set()
    for name, weight in module.named_parameters():
        if weight.grad is not None:
            finite = bool(weight.grad.isfinite().all())
            demand(finite, f"the gradient of {name} is not finite")
            if torch.count_nonzero(weight.grad):
                reached.add(name)
    return reached


def _jitter(module: nn.Module) -> None:
    import torch

    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.02)


def two_images_are_enough(model: Model) -> None:
    """Demand that a batch of two passes in training and in evaluation mode."""
    import torch

    module, size = _built(model)
    batch, _ = _batch(2, size, 0)
    with torch.no_grad(), _seeded():
        for mode in (True, False):
            outputs = _outputs(module.train(mode), batch)
            title = "training" if mode else "evaluation"
            demand(bool(outputs.isfinite().all()), f"in {title} mode outputs are not finite")


def evaluation_is_steady(model: Model) -> None:
    """Demand that an image's outputs are its own: the same twice, and alone."""
    import torch

    module, size = _built(model)
    batch, _ = _batch(3, size, 0)
    module.eval()
    with torch.no_grad(), _seeded():
        once, twice, alone = (module(part) for part in (batch, batch, batch[:1]))
    demand(once.equal(twice), "in evaluation mode outputs differ from call to call")
    demand(
        torch.allclose(once[:1], alone, rtol=1e-3, atol=1e-4),
        "in evaluation mode an image's outputs depend on the others of its batch",
    )


def weights_survive_the_disk(model: Model) -> None:
    """Demand that a state saved as safetensors, loaded elsewhere, gives the same outputs."""
    import torch
    from safetensors.torch import load, save

    module, size = _built(model)
    other, _ = _built(model, seed=1)
    other.load_state_dict(load(save(module.state_dict())))
    batch, _ = _batch(2, size, 0)
    with torch.no_grad(), _seeded():
        kept = module.eval()(batch).equal(other.eval()(batch))
    demand(kept, "with the saved weights outputs differ; keep all state in parameters and buffers")


def stages_are_the_network(model: Model) -> None:
    """Demand of declared stages that, one after another, they do what the network does."""
    import torch
    from torch import nn

    module, size = _built(model)
    stages = offer(model.stages, module.eval())
    if stages is None:
        return
    strangers = [type(stage).__name__ for stage in stages if not isinstance(stage, nn.Module)]
    demand(not strangers, f"stages() gives {_some(strangers)}; give modules")
    kept = {id(weight) for weight in module.parameters()}
    copied = any(id(weight) not in kept for stage in stages for weight in stage.parameters())
    demand(not copied, "stages() gives weights that the network does not have; give its own parts")
    batch, _ = _batch(3, size, 0)
    with torch.no_grad(), _seeded():
        expected, outputs = module(batch), batch
        for stage in stages:
            outputs = stage(outputs)
    demand(
        outputs.shape == expected.shape and torch.allclose(outputs, expected, atol=1e-5),
        "stages() one after another differ from the network; return None where it is no chain",
    )


def normalization_is_usable(model: Model) -> None:
    """Demand of a declared mean and deviation one number a channel, above 0 for deviations."""
    declared = model.normalization()
    if declared is None:
        return
    mean, deviation = declared
    demand(
        len(mean) == len(deviation) > 0 and min(deviation) > 0,
        f"normalization() says {declared}; give as many means as deviations, these above 0",
    )


def _built(model: Model, seed: int = 0) -> tuple[nn.Module, tuple[int, int]]:
    """Return a network for the first size that it takes, and the size."""
    from torch import nn

    reason: Exception | None = None
    for side in _SIZES:
        size = (side, side)
        try:
            with _seeded(seed):
                module = offer(model.build, channels=3, outputs=_OUTPUTS, size=size)
        except ValueError as error:
            reason = error
            continue
        demand(isinstance(module, nn.Module), f"build() returns a {type(module).__name__}")
        return module, size
    message = f"build() refuses squares of {', '.join(map(str, _SIZES))} pixels: {reason}"
    raise AssertionError(message)


@contextmanager
def _seeded(seed: int = 0) -> Iterator[None]:
    """Draw from torch's generator as from a fresh one, and leave it as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _batch(n: int, size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    import torch

    pixels, labels = images(n, size, classes=_OUTPUTS, seed=seed)
    return (pixels.float() / 255 - 0.5) / 0.25, torch.from_numpy(labels)


def _outputs(module: nn.Module, batch: Tensor) -> Tensor:
    import torch

    outputs = module(batch)
    demand(isinstance(outputs, torch.Tensor), f"it returns a {type(outputs).__name__}, no tensor")
    shape, wanted = tuple(outputs.shape), (len(batch), _OUTPUTS)
    demand(shape == wanted, f"outputs are {shape}; return {wanted}, (B, outputs)")
    return outputs  # type: ignore[no-any-return]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


MODEL: tuple[Check, ...] = (
    builds_from_nothing, seed_decides_weights, every_weight_learns, two_images_are_enough,
    evaluation_is_steady, weights_survive_the_disk, stages_are_the_network, normalization_is_usable,
)  # fmt: skip
