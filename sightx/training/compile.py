"""The network by kernels of its own: torch.compile, or eager with a word why."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger("sightx")
_WORDS = 200  # characters of a compiler's complaint


class CompiledNetwork:
    """Do what a network does, by kernels made for training on batches of `size` samples.

    Any other batch goes through the network itself, so that a ragged last one costs no compiling.
    Dropout draws as it does uncompiled. The network stays as it is: its state has the same names.
    """

    def __init__(self, module: nn.Module, size: int) -> None:
        self._module, self._size = module, size
        self._fast: Callable[[Tensor], Tensor] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Return the outputs; the first batch of the size compiles."""
        if len(images) != self._size or not torch.is_grad_enabled():
            return self._module(images)  # type: ignore[no-any-return]
        if self._fast is None:
            self._fast = self._compile(images)
        return self._fast(images)

    def _compile(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the compiled network, tried forward and backward, or the network itself."""
        buffers = {name: value.clone() for name, value in self._module.named_buffers()}
        devices = [images.device] if images.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices), warnings.catch_warnings(action="ignore"):
                made = torch.compile(self._module, dynamic=False, options={"fallback_random": True})
                learning = [w for w in self._module.parameters() if w.requires_grad]
                torch.autograd.grad(made(images).sum(), learning, allow_unused=True)
        except Exception as error:  # of the compiler, of what it calls, or of the network
            reason = (str(error) or type(error).__name__).splitlines()[0][:_WORDS]
            _log.warning("execution.compile: runs uncompiled, for compiling failed: %s", reason)
            return self._module
        finally:
            with torch.no_grad():
                for name, value in self._module.named_buffers():
                    value.copy_(buffers[name])
        return made
