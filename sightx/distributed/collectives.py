"""Collectives of a run with one or several processes, and the share of the work of each rank.

Micro-batch k of a step, and batch k of an evaluation, belong to rank k mod N. Gradients are summed
by torch's DistributedDataParallel. Nothing that is received is unpickled.
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
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sightx.distributed import rendezvous
from sightx.errors import Problem, ResourceError, SpecError
from sightx.records.pixels import Positions
from sightx.spec.experiment import Training

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup as TorchProcessGroup

Json = TypeVar("Json")

_BARRIER_TIMEOUT = timedelta(days=30)  # a barrier may wait while another rank prepares images
_POLL_SECONDS = 0.02
_group_numbers = count()


class Collectives:
    """The collectives of a run: in this class those of one process, which cost nothing."""

    rank, world_size = 0, 1

    @property
    def is_main_process(self) -> bool:
        """Return whether this is rank 0, the only rank that writes files and logs."""
        return self.rank == 0

    def local_micro_batches(self, batch_size: int, micro_batch_size: int | None) -> range:
        """Return the numbers of this rank's micro-batches in a batch of `batch_size` samples."""
        micro_batches = math.ceil(batch_size / (micro_batch_size or batch_size))
        return range(self.rank, micro_batches, self.world_size)

    def local_positions(self, positions: Positions, micro_batch_size: int | None) -> Positions:
        """Return the samples of a batch (N,) that this rank reads.

        A rank without a micro-batch in a ragged last batch gets the samples of micro-batch 0.
        """
        return positions

    def wrap_ddp(self, module: nn.Module) -> nn.Module:
        """Return the network as a module whose backward pass sums the gradients of all ranks."""
        return module

    def no_sync(self, network: object, last: bool) -> AbstractContextManager[None]:
        """Return the context of one micro-batch: gradients are synchronised only in the last."""
        return nullcontext()

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks; `values` are on the device and are overwritten."""
        return values

    def all_reduce_max(self, number: int) -> int:
        """Return the largest number over all ranks."""
        return number

    def broadcast_object(self, value: Json) -> Json:
        """Return the value of rank 0, which must be JSON; the other ranks' values are ignored."""
        return value

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of rank 0, in place."""

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of rank 0, on the CPU.

        The other ranks need not know the names, shapes or types.
        """
        return tensors

    def gather(self, parts: list[Tensor], rows: Sequence[int]) -> list[Tensor]:
        """Return the parts of all ranks in order on rank 0, and this rank's parts elsewhere.

        Args:
            parts: This rank's parts, of shape (rows, ...) or scalars; part k belongs to rank
                k mod N.
            rows: The number of rows of each of the K parts of all ranks, (K,).
        """
        return parts

    def barrier(self) -> None:
        """Wait for the other ranks, however long they take."""


class ProcessGroup(Collectives):
    """The collectives of one of several processes, over torch.distributed."""

    def __init__(self, device: torch.device, timeout: float) -> None:
        """Join the process group; a collective that takes more than `timeout` seconds fails."""
        self.rank, self.world_size = rendezvous.rank(), rendezvous.world_size()
        limit = timedelta(seconds=timeout)
        is_cuda = device.type == "cuda"
        distributed.init_process_group(
            "nccl" if is_cuda else "gloo",
            store=rendezvous.connect_store(f"sightx/{next(_group_numbers)}"),
            rank=self.rank,
            world_size=self.world_size,
            # gloo reports a lost rank as an error; nccl would end the process without a message.
            timeout=2 * limit if is_cuda else limit,
        )
        if self.is_main_process:  # all ranks wait for the groups below: no record is lost
            rendezvous.clear()
        self._host_group, self._barrier_group = _new_gloo(limit), _new_gloo(_BARRIER_TIMEOUT)

    def local_positions(self, positions: Positions, micro_batch_size: int | None) -> Positions:
        """Return the samples of this rank's micro-batches, or of micro-batch 0 if it has none."""
        size = micro_batch_size or len(positions)
        numbers = self.local_micro_batches(len(positions), micro_batch_size) or [0]
        return np.concatenate([positions[k * size : (k + 1) * size] for k in numbers])

    def wrap_ddp(self, module: nn.Module) -> nn.Module:
        """Return the network in torch's DistributedDataParallel.

        `find_unused_parameters` allows parameters without a gradient, and keeps the gradient
        buckets as they are, so that a resumed run sums in the same order.
        """
        with warnings.catch_warnings():
            # torch 2.15 renames broadcast_buffers; 2.11 does not know the new name.
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(
                module,
                broadcast_buffers=False,  # running statistics are those of rank 0
                gradient_as_bucket_view=True,
                find_unused_parameters=True,
            )

    def no_sync(self, network: object, last: bool) -> AbstractContextManager[None]:
        """Return a context that keeps the gradient local, except in the last micro-batch."""
        if last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = network.no_sync()
        return context

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks."""
        distributed.all_reduce(values)
        return values

    def all_reduce_max(self, number: int) -> int:
        """Return the largest number over all ranks."""
        value = torch.tensor(number)
        distributed.all_reduce(value, distributed.ReduceOp.MAX, self._host_group)
        return int(value)

    def broadcast_object(self, value: Json) -> Json:
        """Return the value of rank 0, sent as JSON, which keeps every digit of a number."""
        text = json.dumps(value).encode() if self.is_main_process else b""
        buffer = torch.zeros(self.all_reduce_max(len(text)), dtype=torch.uint8)
        if self.is_main_process:
            buffer = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self._broadcast(buffer)
        received: Json = json.loads(bytes(buffer.numpy()))
        return received

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of rank 0, in place."""
        with torch.no_grad():
            for tensor in tensors:
                buffer = tensor.detach().cpu().contiguous()
                self._broadcast(buffer)
                if not self.is_main_process:
                    tensor.copy_(buffer)

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of rank 0, on the CPU."""
        layout = [(name, str(t.dtype), list(t.shape)) for name, t in tensors.items()]
        received = {
            name: torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
            for name, dtype, shape in self.broadcast_object(layout)
        }
        if self.is_main_process:
            received = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        self.broadcast_(list(received.values()))
        return received

    def gather(self, parts: list[Tensor], rows: Sequence[int]) -> list[Tensor]:
        """Return the parts of all ranks in order on rank 0, and this rank's parts elsewhere."""
        if not parts:
            return parts
        shape, device = parts[0].shape[1:], parts[0].device
        if not self.is_main_process:
            joined = torch.cat([part.reshape(-1, *shape) for part in parts])
            distributed.send(joined.cpu(), 0, self._host_group)
            return parts
        by_rank = [parts]
        for rank in range(1, self.world_size):
            sizes = list(rows[rank :: self.world_size])
            buffer = torch.empty(sum(sizes), *shape, dtype=parts[0].dtype)
            if sizes:
                distributed.recv(buffer, rank, self._host_group)
            by_rank.append(list(torch.split(buffer.to(device), sizes)))
        ordered = [by_rank[k % self.world_size][k // self.world_size] for k in range(len(rows))]
        return ordered if parts[0].ndim else [scalar.reshape(()) for scalar in ordered]

    def barrier(self) -> None:
        """Wait for the other ranks; Python handles signals meanwhile."""
        work = distributed.barrier(self._barrier_group, async_op=True)
        while work and not work.is_completed():
            time.sleep(_POLL_SECONDS)
        if work:
            work.wait()  # raises the error of the collective

    def end_threads(self) -> None:
        """End the threads of a group that is destroyed; no rank may have been lost.

        Otherwise one that still frees the tensors of its last collective when Python ends would
        abort the process.
        """
        del self._host_group, self._barrier_group

    def _broadcast(self, tensor: Tensor) -> None:
        if tensor.numel():  # sent as bytes, so that every dtype is supported
            distributed.broadcast(tensor.reshape(-1).view(torch.uint8), 0, self._host_group)


def _new_gloo(timeout: timedelta) -> TorchProcessGroup:
    """Return a gloo group of the same processes, for data on the host."""
    return cast("TorchProcessGroup", distributed.new_group(backend="gloo", timeout=timeout))


@contextmanager
def join_process_group(device: torch.device, timeout: float) -> Iterator[Collectives]:
    """Join the processes that a launcher has started; yield `Collectives` without a launcher.

    A rank that others wait for longer than `timeout` seconds ends the run. Raises ResourceError if
    the other processes do not come.
    """
    if rendezvous.world_size() == 1:
        yield Collectives()
        return
    with rendezvous.heartbeat():
        try:
            collectives = ProcessGroup(device, timeout)
        except RuntimeError as error:
            message = f"{rendezvous.world_size()} processes cannot connect: {error}"
            hint = "check MASTER_ADDR, GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME"
            raise ResourceError(Problem("no-group", message, hint)) from error
        try:
            yield collectives
        finally:
            distributed.destroy_process_group()
        collectives.end_threads()


def local_device(name: str) -> str:
    """Return the device of this process; each process of a host gets its own GPU.

    Raises ResourceError for a device on which several processes cannot sum gradients.
    """
    if rendezvous.world_size() == 1:
        return name
    if name == "mps":
        message = "several processes cannot train on mps together"
        raise ResourceError(Problem("no-device", message, 'device = "cpu"', "execution.device"))
    if torch.cuda.is_available() and name in ("auto", "cuda"):
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "cpu" if name == "auto" else name


def check_idle_ranks(settings: Training, world_size: int) -> None:
    """Raise SpecError if a full batch has fewer micro-batches than there are processes."""
    micro_batch_size = settings.micro_batch_size or settings.batch_size
    if math.ceil(settings.batch_size / micro_batch_size) < world_size:
        largest = settings.batch_size // world_size
        message = (
            f"a batch of {settings.batch_size} in micro-batches of {micro_batch_size} has no work "
            f"for {world_size} processes"
        )
        hint = (
            f"set it to {largest} or less" if largest
            else f"raise training.batch_size to {world_size}"
        )  # fmt: skip
        problem = Problem("idle-process", message, hint)
        raise SpecError(replace(problem, path="training.micro_batch_size"))
