"""The processes that train together: one alone, or those that torchrun started."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Its functions keep the group that there is when it is first imported, which DistributedDataParallel does: the group
# would outlive its end, and its threads that of Python, where they now and then abort the process (PyTorch 2.13).
import torch.distributed.nn
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from convatlas.data.batches import Shard
from convatlas.errors import UserError
from convatlas.torchrun import Worker

T = TypeVar("T")


class Processes(Worker):
    """What they tell one another."""

    @property
    def shard(self) -> Shard:
        return Shard(self.rank, self.world_size)

    @contextmanager
    def process_group(self, device: torch.device) -> Iterator[None]:
        """Context manager: initialize the process group, and destroy it at the end."""
        if self.world_size == 1:
            yield
            return
        backend = "nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            # Object collectives use the current CUDA device: otherwise all processes would use the first one.
            torch.cuda.set_device(device)
        if self.world_size == self.local_world_size:
            # After a restart on one machine, torchrun reuses the store of the attempt before, with the addresses of
            # processes that are gone (PyTorch 2.13, static rendezvous); a prefix for each attempt hides them.
            store, rank, num = next(rendezvous("env://"))
            # In PyTorch's documentation, but not in what it tells type checkers.
            attempt = dist.PrefixStore(f"attempt {self.restarts}", store)  # type: ignore[attr-defined]
            dist.init_process_group(backend, store=attempt, rank=rank, world_size=num)
        else:
            shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)
            if shared and self.max_restarts:
                # The same over several machines (PyTorch 2.13), which count their attempts each for itself.
                raise UserError(
                    "with --max-restarts on several machines, torchrun gives processes that it starts again the "
                    "addresses of those that are gone; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before it, on each"
                )
            dist.init_process_group(backend)
        try:
            yield
            # No process leaves while another still communicates.
            dist.barrier()
        finally:
            dist.destroy_process_group()

    def broadcast(self, work: Callable[[], T]) -> T:
        """Run `work` in the main process only, and return its result, not None, in every process.

        Raises:
            UserError: in the main process, if `work` raises it; the others exit silently, since it prints why.
        """
        if self.world_size == 1:
            return work()
        result: list[T | None] = [None]
        try:
            if self.is_main:
                result = [work()]
        finally:
            dist.broadcast_object_list(result)
        if result[0] is None:
            raise SystemExit(2)
        return result[0]

    def main_first(self, work: Callable[[], T]) -> T:
        """Run `work` in every process, first in the main one, so that the others find its results in the cache.

        Raises:
            UserError: in every process, if `work` raises it in any but the main one; else see `broadcast`.
        """
        if self.world_size == 1:
            return work()
        mine: list[T] = []
        trouble = ""

        def of_main() -> bool:
            mine.append(work())
            return True

        self.broadcast(of_main)
        if not self.is_main:
            try:
                mine.append(work())
            except UserError as error:
                trouble = f"{socket.gethostname()}: {error}"
        for told in filter(None, self.all_gather(trouble)):
            raise UserError(told)
        return mine[0]

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, in order of rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def all_reduce_max(self, value: int) -> int:
        """The maximum over all processes."""
        if self.world_size > 1:
            device = "cuda" if dist.get_backend() == "nccl" else "cpu"
            dist.all_reduce(highest := torch.tensor(value, device=device), dist.ReduceOp.MAX)
            return int(highest)
        return value

    def wrap_ddp(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network in DistributedDataParallel, which averages gradients over processes; alone, itself."""
        if self.world_size == 1:
            return network
        return nn.parallel.DistributedDataParallel(
            network, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
        )

    def no_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        """While active, gradients stay each process's own: more of the batch is to come."""
        if isinstance(network, nn.parallel.DistributedDataParallel):
            return network.no_sync()
        return nullcontext()

    def sync_state(self, network: nn.Module) -> None:
        """Give every process the main one's weights and statistics."""
        if self.world_size > 1:
            for value in network.state_dict().values():
                dist.broadcast(value, 0)
