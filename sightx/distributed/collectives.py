"""Several processes, one run: which part of the work is whose, and what they tell one another.

Micro-batch k of a step, and batch k of an evaluation, belong to rank k mod N. The gradient is
added up by torch's DistributedDataParallel. Nothing that travels is unpickled.
"""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from sightx.distributed import rendezvous
from sightx.errors import Problem, ResourceError, SpecError
from sightx.records.pixels import Positions
from sightx.spec.experiment import Training

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup as TorchProcessGroup

Json = TypeVar("Json")

_PATIENCE = timedelta(days=30)  # of one who waits while another prepares images
_POLL = 0.02  # seconds
_groups = count()


class SingleProcess:
    """Hold the one process of an ordinary run: what it says, it says to itself, at no cost."""

    rank, size = 0, 1

    @property
    def lead(self) -> bool:
        """Say whether this process is the one that writes and talks."""
        return self.rank == 0

    def turns(self, samples: int, micro: int | None) -> range:
        """Return which micro-batches of a batch are this rank's."""
        return range(self.rank, math.ceil(samples / (micro or samples)), self.size)

    def own(self, positions: Positions, micro: int | None) -> Positions:
        """Return which samples of a batch this rank reads: at least one micro-batch."""
        return positions

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a network whose backward pass adds the gradients of all ranks."""
        return module

    def apart(self, network: object, last: bool) -> AbstractContextManager[None]:
        """Return the context of a micro-batch: the gradient travels with a rank's last one."""
        return nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over ranks; `values` lie on the device, and change."""
        return values

    def agree(self, number: int) -> int:
        """Return the largest number that a rank has given."""
        return number

    def say(self, value: Json) -> Json:
        """Return what the first rank gives, a value that JSON holds; the others' is ignored."""
        return value

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of the first rank."""

    def send(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the first rank's tensors, which the others need not know, on the CPU."""
        return tensors

    def collect(self, parts: list[Tensor], rows: Sequence[int]) -> list[Tensor]:
        """Return the parts of all ranks in order, on the first; elsewhere its own.

        `parts` are those of this rank, each with rows, or each a number; `rows` (K,) says how many
        rows each of all parts has.
        """
        return parts

    def meet(self) -> None:
        """Wait for the other ranks, however long they take."""


class ProcessGroup(SingleProcess):
    """Hold one of several processes that torch.distributed has brought together."""

    def __init__(self, device: torch.device, timeout: float) -> None:
        from torch import distributed

        self.rank, self.size = rendezvous.rank(), rendezvous.world_size()
        patience = timedelta(seconds=timeout)
        fast = device.type == "cuda"
        distributed.init_process_group(
            "nccl" if fast else "gloo",
            store=rendezvous.connect_store(f"sightx/{next(_groups)}"),
            rank=self.rank,
            world_size=self.size,
            # A rank that is gone is noticed by gloo: nccl would end the process without a word.
            timeout=2 * patience if fast else patience,
        )
        if self.lead:  # before the groups, for which all wait: nobody has left anything yet
            rendezvous.clear()
        self._words, self._patient = _gloo(patience), _gloo(_PATIENCE)

    def own(self, positions: Positions, micro: int | None) -> Positions:
        """Return this rank's samples of a batch; those of micro-batch 0 where it has none."""
        size = micro or len(positions)
        turns = self.turns(len(positions), micro) or [0]
        return np.concatenate([positions[k * size : (k + 1) * size] for k in turns])

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the network in torch's DistributedDataParallel.

        Looking for unused weights lets a network have some; and keeps the buckets as they are, so
        that a resumed run adds in the same order.
        """
        from torch.nn.parallel import DistributedDataParallel

        with warnings.catch_warnings():
            # torch 2.15 renames broadcast_buffers; 2.11 does not know the new name.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                module,
                broadcast_buffers=False,  # running statistics are the first rank's
                gradient_as_bucket_view=True,
                find_unused_parameters=True,
            )

    def apart(self, network: object, last: bool) -> AbstractContextManager[None]:
        """Return a context that keeps the gradient here, but for the last micro-batch."""
        from torch.nn.parallel import DistributedDataParallel

        if last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = network.no_sync()
        return context

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over ranks."""
        from torch import distributed

        distributed.all_reduce(values)
        return values

    def agree(self, number: int) -> int:
        """Return the largest number that a rank has given."""
        import torch
        from torch import distributed

        given = torch.tensor(number)
        distributed.all_reduce(given, distributed.ReduceOp.MAX, self._words)
        return int(given)

    def say(self, value: Json) -> Json:
        """Return what the first rank gives; numbers travel as JSON writes them: exactly."""
        import torch

        text = json.dumps(value).encode() if self.lead else b""
        room = torch.zeros(self.agree(len(text)), dtype=torch.uint8)
        if self.lead:
            room = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self._broadcast(room)
        heard: Json = json.loads(bytes(room.numpy()))
        return heard

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of the first rank."""
        import torch

        with torch.no_grad():
            for tensor in tensors:
                here = tensor.detach().cpu().contiguous()
                self._broadcast(here)
                if not self.lead:
                    tensor.copy_(here)

    def send(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the first rank's tensors, on the CPU."""
        import torch

        forms = [(name, str(t.dtype), list(t.shape)) for name, t in tensors.items()]
        heard = {
            name: torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
            for name, dtype, shape in self.say(forms)
        }
        if self.lead:
            heard = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        self.share(list(heard.values()))
        return heard

    def collect(self, parts: list[Tensor], rows: Sequence[int]) -> list[Tensor]:
        """Return the parts of all ranks in order, on the first; elsewhere its own."""
        import torch
        from torch import distributed

        if not parts:
            return parts
        shape, device = parts[0].shape[1:], parts[0].device
        if not self.lead:
            joined = torch.cat([part.reshape(-1, *shape) for part in parts])
            distributed.send(joined.cpu(), 0, self._words)
            return parts
        found = [parts]
        for wanted in (list(rows[other :: self.size]) for other in range(1, self.size)):
            room = torch.empty(sum(wanted), *shape, dtype=parts[0].dtype)
            if wanted:
                distributed.recv(room, len(found), self._words)
            found.append(list(torch.split(room.to(device), wanted)))
        every = [found[k % self.size][k // self.size] for k in range(len(rows))]
        return every if parts[0].ndim else [number.reshape(()) for number in every]

    def meet(self) -> None:
        """Wait for the other ranks; signals are heard meanwhile."""
        from torch import distributed

        work = distributed.barrier(self._patient, async_op=True)
        while work and not work.is_completed():
            time.sleep(_POLL)
        if work:
            work.wait()  # raises what went wrong

    def _broadcast(self, tensor: Tensor) -> None:
        import torch
        from torch import distributed

        if tensor.numel():  # as bytes: every type travels
            distributed.broadcast(tensor.reshape(-1).view(torch.uint8), 0, self._words)


def _gloo(patience: timedelta) -> TorchProcessGroup:
    """Return a group for what is said on the host: the same processes, over gloo."""
    from torch import distributed

    return cast("TorchProcessGroup", distributed.new_group(backend="gloo", timeout=patience))


@contextmanager
def join(device: torch.device, timeout: float) -> Iterator[SingleProcess]:
    """Be one of the processes that a launcher has started; without one, be alone.

    A rank that lets others wait for more than `timeout` seconds ends the run. Raises
    ResourceError where the others do not come.
    """
    if rendezvous.world_size() == 1:
        yield SingleProcess()
        return
    from torch import distributed

    with rendezvous.heartbeat():
        try:
            group = ProcessGroup(device, timeout)
        except RuntimeError as error:
            message = f"{rendezvous.world_size()} processes do not come together: {error}"
            hint = "see MASTER_ADDR, GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME"
            raise ResourceError(Problem("no-group", message, hint)) from error
        try:
            yield group
        finally:
            distributed.destroy_process_group()


def local_device(name: str) -> str:
    """Return the device of this process: with several on a host, each has its own GPU.

    Raises ResourceError for one on which several cannot add their gradients.
    """
    import torch

    if rendezvous.world_size() == 1:
        return name
    if name == "mps":
        message = "several processes cannot train on mps together"
        raise ResourceError(Problem("no-device", message, 'device = "cpu"', "execution.device"))
    if torch.cuda.is_available() and name in ("auto", "cuda"):
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "cpu" if name == "auto" else name


def check_idle_ranks(settings: Training, size: int) -> None:
    """Raise SpecError where a batch has fewer micro-batches than there are processes."""
    micro = settings.micro_batch_size or settings.batch_size
    if -(-settings.batch_size // micro) < size:
        most = settings.batch_size // size
        message = f"a batch of {settings.batch_size} in micro-batches of {micro} has no work"
        hint = f"set it to {most} or less" if most else f"raise training.batch_size to {size}"
        problem = Problem("idle-process", f"{message} for {size} processes", hint)
        raise SpecError(replace(problem, path="training.micro_batch_size"))
