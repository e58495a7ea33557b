"""What training on several machines sends: the gradients of every step."""

# Without `from __future__ import annotations`: DistributedDataParallel reads the types of what it calls.
import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from convatlas.spec import Spec, Variant


def sent_bytes(variant: Variant, spec: Spec) -> int:
    """The bytes of gradients over which all processes take the mean in one step of training.

    To be called by each process of the group that it has joined (`torch.distributed`), at the same time. They train a
    step under DistributedDataParallel, on an image of noise each; what it hands over to be sent is counted on its
    way.
    """
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
    images = torch.randn(1, spec.in_channels, spec.resolution, spec.resolution)
    targets = F.one_hot(torch.zeros(1, dtype=torch.long), spec.num_classes).float()
    variant.objective.losses(network(images), targets).sum().backward()
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
