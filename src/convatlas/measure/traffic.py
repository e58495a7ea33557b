"""What training on several machines sends: the gradients of every step, counted between two processes."""

# Without `from __future__ import annotations`: DistributedDataParallel reads the types of what it calls.
import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from convatlas import atlas
from convatlas.spec import Spec, Variant

PROCESSES = 2
WAIT_S = 120
"""For a neighbour that does not come."""
WORKER = "from convatlas.measure.traffic import work; work()"
NETWORKS, MEETING = "networks", "meeting"


def all_reduced_bytes(networks: Sequence[tuple[str, Spec]]) -> tuple[int, ...]:
    """The bytes of gradients over which two processes take the mean in one step of training, for each network.

    Two real processes train a step of each, on a picture of noise each, under DistributedDataParallel; what it hands
    over to be sent is counted on its way.

    Args:
        networks: (a variant's name, a spec of its family).

    Raises:
        RuntimeError: a process ended otherwise than by its end, or they counted differently.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Processes of our own code read it, of nobody else.
        (Path(folder) / NETWORKS).write_bytes(pickle.dumps(tuple(networks)))
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(rank), folder],
                stdout=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            for rank in range(PROCESSES)
        ]
        told = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError(f"processes ended with status {[worker.returncode for worker in workers]}")
    first, *others = (tuple(json.loads(one)) for one in told)
    if any(other != first for other in others):
        raise RuntimeError(f"processes sent different numbers of bytes: {first}, {others}")
    return first


def work() -> None:
    """Count as the process whose rank and folder the command line gives, and print what it came to."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    networks = pickle.loads((folder / NETWORKS).read_bytes())
    dist.init_process_group(
        "gloo",
        init_method=(folder / MEETING).as_uri(),
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=WAIT_S),
    )
    try:
        torch.manual_seed(rank)
        found = [sent_by(atlas.find(name), spec) for name, spec in networks]
        # None leaves while the other still speaks.
        dist.barrier()
    finally:
        dist.destroy_process_group()
    print(json.dumps(found))


def sent_by(variant: Variant, spec: Spec) -> int:
    """The bytes that this process gives away in a step of that network."""
    network = DistributedDataParallel(variant.network(spec).train(), gradient_as_bucket_view=True)
    sent: list[int] = []

    # In PyTorch's documentation, but not in what it tells type checkers.
    def counting(
        group: dist.ProcessGroup,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> torch.futures.Future[Tensor]:
        sent.append(bucket.buffer().nbytes)
        return allreduce_hook(group, bucket)

    network.register_comm_hook(dist.group.WORLD, counting)
    pictures = torch.randn(1, spec.in_channels, spec.resolution, spec.resolution)
    targets = F.one_hot(torch.zeros(1, dtype=torch.long), spec.num_classes).float()
    variant.objective.losses(network(pictures), targets).sum().backward()
    return sum(sent)


def ring_seconds(num_bytes: float, gigabits: float, machines: int = 2) -> float:
    """How long a ring of machines takes for the mean over so many bytes of each (Patarasuk and Yuan 2009).

    Each sends 2 (n - 1) / n of them; no delay is counted, and no work beside it.

    Args:
        gigabits: 10^9 bits a second, of each machine, in each direction.

    Raises:
        ValueError: there is no machine, or no line.
    """
    if machines < 1 or not (gigabits > 0 and math.isfinite(gigabits)):
        raise ValueError(f"{machines} machines at {gigabits:g} Gbit/s send nothing")
    return 2 * (machines - 1) / machines * num_bytes * 8 / (gigabits * 1e9)
