"""Compile the network with torch.compile, or run it eagerly if that fails."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sightx.errors import first_line

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger("sightx")
_REASON_LENGTH = 200  # characters


class CompiledNetwork:
    """A network that is compiled for training on batches of `size` samples.

    All other batches use the module itself, so that a ragged last batch and evaluation do not
    compile. Dropout draws as it does uncompiled. The module and its state dict stay as they are.
    """

    def __init__(self, module: nn.Module, size: int) -> None:
        self._module, self._size = module, size
        self._compiled: Callable[[Tensor], Tensor] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Return the outputs (B, K); the first batch of the size compiles."""
        if len(images) != self._size or not torch.is_grad_enabled():
            return self._module(images)  # type: ignore[no-any-return]
        if self._compiled is None:
            self._compiled = self._compile(images)
        return self._compiled(images)

    def _compile(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the compiled network after a forward and backward pass, or the module itself."""
        buffers = {name: value.clone() for name, value in self._module.named_buffers()}
        devices = [images.device] if images.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices), warnings.catch_warnings(action="ignore"):
                options: Any = {"fallback_random": True}
                compiled = torch.compile(self._module, dynamic=False, options=options)
                weights = [weight for weight in self._module.parameters() if weight.requires_grad]
                torch.autograd.grad(compiled(images).sum(), weights, allow_unused=True)
        except Exception as error:  # of the compiler, of what it calls, or of the network
            reason = first_line(error)[:_REASON_LENGTH]
            _log.warning("execution.compile: runs uncompiled, because compiling failed: %s", reason)
            return self._module
        finally:
            with torch.no_grad():
                for name, value in self._module.named_buffers():
                    value.copy_(buffers[name])
        return compiled
