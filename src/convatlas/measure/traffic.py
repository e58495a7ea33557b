"""What data-parallel training sends between machines: the gradients of every step."""

# Without `from __future__ import annotations`: DistributedDataParallel reads the types of the hook.
import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from convatlas.spec import Spec, Variant


def allreduce_bytes(variant: Variant, spec: Spec) -> int:
    """The bytes of gradients that all processes average in one training step (an all-reduce), measured.

    Every process of an initialized `torch.distributed` group calls this at the same time. Each trains one step under
    DistributedDataParallel on one image of noise, and a communication hook counts what is handed over to be sent.
    """
    network = DistributedDataParallel(variant.network(spec).train(), gradient_as_bucket_view=True)
    sent: list[int] = []

    # In PyTorch's documentation, but not in its type annotations.
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


def ring_allreduce_s(num_bytes: float, gigabits_per_s: float, num_machines: int = 2) -> float:
    """The seconds that a ring all-reduce takes at least (Patarasuk and Yuan 2009).

    Each of n machines sends 2 (n - 1) / n of the bytes. Delays and computation are not counted.

    Args:
        num_bytes: that each machine has.
        gigabits_per_s: bandwidth of each machine in each direction, in 10^9 bits per second.

    Raises:
        ValueError: there is no machine, or no bandwidth.
    """
    if num_machines < 1 or not (gigabits_per_s > 0 and math.isfinite(gigabits_per_s)):
        raise ValueError(
            f"num_machines must be at least 1 and gigabits_per_s above 0, not {num_machines} and {gigabits_per_s:g}"
        )
    return 2 * (num_machines - 1) / num_machines * num_bytes * 8 / (gigabits_per_s * 1e9)
