"""Inferences and training steps on images in memory, to be timed."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from convatlas.data.batches import Batch
from convatlas.measure import Workload, torch_engine
from convatlas.models.device import resolve_device
from convatlas.runs.options import Execution
from convatlas.spec import Spec, Variant
from convatlas.training import optimizers
from convatlas.training.recipes import DEFAULT
from convatlas.training.step import Step, to_memory_format

OF_EACH_FAMILY = (
    "lenet5-modern", "alexnet", "vgg16", "googlenet", "resnet18", "squeezenet", "mobilenet", "efficientnet-b0",
)  # fmt: skip
"""A network of each family, of the size that its paper is known for."""


def inference(variant: Variant, spec: Spec, batch_size: int) -> Workload:
    """One inference of the network, with new weights, on a batch of noise."""
    device = resolve_device(None)
    network = to_memory_format(variant.network(spec).to(device).eval(), Execution(threads=torch.get_num_threads()))
    inputs = torch.randn(batch_size, spec.in_channels, spec.resolution, spec.resolution, device=device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode():
            network(inputs)

    return Workload(forward, torch_engine(device))


def training_step(variant: Variant, spec: Spec, batch_size: int) -> Workload:
    """Forward pass, backward pass and update of the network, with new weights, on a batch of noise."""
    device = resolve_device(None)
    execution = Execution(threads=torch.get_num_threads())
    network = to_memory_format(variant.network(spec).to(device).train(), execution)
    # With so small a learning rate no network diverges while it is timed.
    optimizer = optimizers.build(replace(DEFAULT, lr=1e-6), network)
    step = Step.prepared(
        network,
        variant.objective,
        execution,
        class_weights=torch.ones(spec.num_classes, device=device),
        batch_size=batch_size,
    )
    labels = torch.arange(batch_size, device=device) % spec.num_classes
    inputs = torch.randn(batch_size, spec.in_channels, spec.resolution, spec.resolution, device=device)
    batch = Batch(
        inputs.contiguous(memory_format=torch.channels_last),
        F.one_hot(labels, spec.num_classes).float(),
        labels,
        torch.arange(batch_size),
        batch_size,
    )

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        step.gradient(batch)
        optimizer.step()

    return Workload(train, torch_engine(device))
