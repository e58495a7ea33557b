"""Batch-norm statistics estimated anew on training images, as `torch.optim.swa_utils.update_bn` does.

While a network trains, batch normalization keeps running averages of each batch's statistics, which lag behind: after
15 steps 21 % of them are still their initial values. Averaged weights have never seen an image at all.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from convatlas.data import Batches
from convatlas.models.evaluation import batch_size
from convatlas.training.distribution import Processes

NUM_IMAGES = 10_000
"""Training images that statistics are estimated on, at most."""

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


def trained_batch_norms(network: nn.Module) -> list[str]:
    """The names of a network's batch normalizations, without frozen ones, which are in evaluation mode."""
    return [name for name, layer in network.named_modules() if isinstance(layer, BatchNorm) and layer.training]


@torch.no_grad()
def estimate_statistics(network: nn.Module, names: Collection[str], batches: Batches, processes: Processes) -> None:
    """Set the running statistics of those layers to the mean over batches of training images, not augmented.

    A function of the weights, the images and the seed alone: the same whenever it is repeated, and on any number of
    processes but for rounding. Leaves the network in evaluation mode.

    Args:
        network: with the same weights in every process.
    """
    layers = [layer for name, layer in network.named_modules() if name in names and isinstance(layer, BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    # Dropout, and layers that are frozen, stay as in evaluation.
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # The mean of all batches.
        layer.train()
    images = batches.order(0)[:NUM_IMAGES]
    whole = images.tensor_split(-(-len(images) // batch_size(batches.resolution)))
    own = whole[processes.rank :: processes.world_size]
    for indices in own:
        network(batches.plain(indices).inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        for values in (layer.running_mean, layer.running_var):
            assert values is not None, "a network is evaluated by them"
            processes.all_reduce_sum(values.mul_(len(own) / len(whole)))
    network.eval()
