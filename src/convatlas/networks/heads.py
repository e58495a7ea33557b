"""The two ends of a network: the layers whose shapes follow from the number of classes and of input channels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from convatlas.spec import Spec, Variant


def without_memory(variant: Variant, spec: Spec) -> nn.Module:
    """The network with the shapes of its weights alone, on PyTorch's meta device."""
    with torch.device("meta"):
        return variant.network(spec)


def shaped_by(variant: Variant, spec: Spec, field: str) -> list[str]:
    """The tensors of the network, in the order of its definition, whose shapes follow from a number of its spec.

    Args:
        field: for "num_classes" the head's are the first, since auxiliary classifiers are defined after it; for
            "in_channels" it is the weight of the first convolution.
    """
    own, other = (
        without_memory(variant, replace(spec, **{field: getattr(spec, field) + more})).state_dict() for more in (0, 1)
    )
    return [name for name in own if own[name].shape != other[name].shape]


def head_of(variant: Variant, spec: Spec) -> str:
    """The name of the layer that gives the outputs."""
    return shaped_by(variant, spec, "num_classes")[0].rpartition(".")[0]
