"""Keras's networks (`keras.applications`), whose weights are `.h5` or `.weights.h5`.

Keras's ResNets are the paper's first version, with the stride in the first 1x1, and have biases in their convolutions.
MobileNet and EfficientNet are padded as TensorFlow does; the former only at sides that are multiples of 32, as those of
its published weights are (see `networks.mobilenet`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase

import torch
from torch import Tensor

from convatlas.networks.efficientnet import EfficientNetSpec
from convatlas.networks.mobilenet import MobileNetSpec
from convatlas.networks.resnet import ResNetSpec
from convatlas.networks.vgg import VGGSpec
from convatlas.spec import Scale
from convatlas.weights.checkpoint import Format
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Names, Rule

NORMALIZATION = r"normalization(_\d+)?"
"""What Keras calls the layer at the beginning of its EfficientNets."""
IMAGENET_STD = (0.229, 0.224, 0.225)

CONV, DEPTHWISE, NORM, DENSE = "conv2d", "depthwise_conv2d", "batch_normalization", "dense"


@dataclass(frozen=True)
class Counterpart:
    """A layer of Keras's, and which of ours it is."""

    kind: str
    """Keras's class of it, in the letters of `.weights.h5`."""
    theirs: str
    ours: str
    change: Callable[[Tensor], Tensor] | None = None
    """What makes our weight of theirs."""


KerasSpec = VGGSpec | ResNetSpec | MobileNetSpec | EfficientNetSpec


# In the order in which Keras has each kind of layer, which a file may number.


def vgg(spec: VGGSpec) -> Iterator[Counterpart]:
    for s, stage in enumerate(spec.stages):
        for u in range(len(stage)):
            yield Counterpart(CONV, f"block{s + 1}_conv{u + 1}", f"stages.{s}.{u}.conv")
    yield Counterpart(DENSE, "fc1", "fc6", partial(channels_first, side=spec.feature_size))
    yield Counterpart(DENSE, "fc2", "fc7")
    yield Counterpart(DENSE, "predictions", "fc8")


def resnet(spec: ResNetSpec) -> Iterator[Counterpart]:
    yield from normalized(CONV, "conv1_conv", "conv1_bn", "conv1")
    for s, stage in enumerate(spec.stages):
        for u in range(len(stage)):
            theirs, ours = f"conv{s + 2}_block{u + 1}", f"stages.{s}.{u}"
            layers = [("1", "layers.0"), ("2", "layers.1"), ("0", "shortcut"), ("3", "layers.2")]
            for number, layer in layers:
                if number != "0" or u == 0:
                    yield from normalized(CONV, f"{theirs}_{number}_conv", f"{theirs}_{number}_bn", f"{ours}.{layer}")
    yield Counterpart(DENSE, "predictions", "fc")


def mobilenet(spec: MobileNetSpec) -> Iterator[Counterpart]:
    yield from normalized(CONV, "conv1", "conv1_bn", "conv1")
    places = [f"stages.{s}.{u}" for s, stage in enumerate(spec.stages) for u in range(len(stage))]
    for number, ours in enumerate(places, 1):
        yield from normalized(DEPTHWISE, f"conv_dw_{number}", f"conv_dw_{number}_bn", f"{ours}.depthwise")
        yield from normalized(CONV, f"conv_pw_{number}", f"conv_pw_{number}_bn", f"{ours}.pointwise")
    # Of 1x1, after the pooling.
    yield Counterpart(CONV, "conv_preds", "fc", partial(torch.flatten, start_dim=1))


def efficientnet(spec: EfficientNetSpec) -> Iterator[Counterpart]:
    yield from normalized(CONV, "stem_conv", "stem_bn", "stem")
    before = spec.stem
    for s, stage in enumerate(spec.stages):
        for letter, (u, (expanded, _)) in zip(ascii_lowercase, enumerate(stage.blocks), strict=False):
            theirs, ours = f"block{s + 1}{letter}", f"stages.{s}.{u}"
            if expanded != before:
                yield from normalized(CONV, f"{theirs}_expand_conv", f"{theirs}_expand_bn", f"{ours}.expand")
            yield from normalized(DEPTHWISE, f"{theirs}_dwconv", f"{theirs}_bn", f"{ours}.depthwise")
            yield Counterpart(CONV, f"{theirs}_se_reduce", f"{ours}.excitation.squeeze")
            yield Counterpart(CONV, f"{theirs}_se_expand", f"{ours}.excitation.excite")
            yield from normalized(CONV, f"{theirs}_project_conv", f"{theirs}_project_bn", f"{ours}.project")
            before = stage.out_channels
    yield from normalized(CONV, "top_conv", "top_bn", "head")
    yield Counterpart(DENSE, "predictions", "fc")


def normalized(kind: str, conv: str, norm: str, ours: str) -> Iterator[Counterpart]:
    """A convolution and its normalization: our `ConvNorm`."""
    yield Counterpart(kind, conv, f"{ours}.conv")
    yield Counterpart(NORM, norm, f"{ours}.norm")


def channels_first(weight: Tensor, side: int) -> Tensor:
    """The weight of a fully connected layer that reads feature maps, (outputs, side x side x channels), for maps whose
    channels come first: (outputs, channels x side x side)."""
    maps: Tensor = weight.unflatten(1, (side, side, -1))
    return maps.permute(0, 3, 1, 2).flatten(1)


def counterparts(spec: KerasSpec) -> tuple[Counterpart, ...]:
    match spec:
        case VGGSpec():
            return tuple(vgg(spec))
        case ResNetSpec():
            return tuple(resnet(spec))
        case MobileNetSpec():
            return tuple(mobilenet(spec))
        case EfficientNetSpec():
            return tuple(efficientnet(spec))


def names(spec: KerasSpec) -> Names:
    rules = tuple(Rule(layer.ours, layer.theirs, layer.change) for layer in counterparts(spec))
    return Names(rules, ignored=(rf"{NORMALIZATION}\.running_(mean|var)",))


def renamed(tensors: Mapping[str, Tensor], spec: KerasSpec) -> Mapping[str, Tensor]:
    """Tensors under the names of their layers.

    A `.weights.h5` of an older Keras 3 has no names: layers of a class are numbered in the order of the network.
    """
    layers = counterparts(spec)
    if f"{layers[0].theirs}.weight" in tensors:
        return tensors
    numbers, named = Counter[str](), {}
    for layer in layers:
        number = numbers[layer.kind]
        named[f"{layer.kind}_{number}" if number else layer.kind] = layer.theirs
        numbers[layer.kind] += 1
    found = {}
    for name, tensor in tensors.items():
        layer_there, _, ending = name.rpartition(".")
        found[f"{named.get(layer_there, layer_there)}.{ending}"] = tensor
    return found


def normalization(tensors: Mapping[str, Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation, for pixels of 0 to 1, by which Keras's EfficientNets normalize within the network;
    None: these tensors are of another network.

    A pitfall lies here (tensorflow/tensorflow issue 49930). The layer divides by the root of its variance. In the
    published files that is no variance: it is ImageNet's standard deviation. Keras mends it by a second division by the
    root, in a layer without tensors that the network has only with `weights="imagenet"`. So these very values are taken
    for a standard deviation, and others for a variance. Who loaded a published file into a network of `weights=None`
    and trained on has the values without the second division, which no file tells.
    """
    found = [name for name in tensors if re.fullmatch(rf"{NORMALIZATION}\.running_(mean|var)", name)]
    if len(found) != 2:
        return None
    mean, variance = (tensors[name].double().flatten() for name in sorted(found))
    published = torch.tensor(IMAGENET_STD, dtype=torch.float64)
    is_std = variance.shape == published.shape and torch.allclose(variance, published, rtol=0, atol=1e-4)
    return tuple(mean.tolist()), tuple((variance if is_std else variance.sqrt()).tolist())


KERAS = Library(
    name="keras",
    formats=(Format.KERAS,),
    networks=(
        Network(name="vgg16", variant="vgg16"),
        Network(name="vgg19", variant="vgg19"),
        *(
            Network(
                name=f"resnet{layers}",
                variant=f"resnet{layers}-keras",
                departs_from=f"resnet{layers}",
                why="its convolutions have biases, and the epsilon of its normalization is 1.001e-5",
            )
            for layers in (50, 101, 152)
        ),
        *(
            Network(
                name=f"mobilenet_{alpha:.2f}",
                variant="mobilenet-tf",
                scale=Scale(width=alpha),
                departs_from="mobilenet",
                why="it has ReLU6, TensorFlow's padding, and 1e-3 as the epsilon of its normalization",
            )
            for alpha in (1, 0.75, 0.5, 0.25)
        ),
        *(
            Network(
                name=f"efficientnetb{number}",
                variant=f"efficientnet-b{number}-tf",
                departs_from=f"efficientnet-b{number}",
                why="it has TensorFlow's padding",
            )
            for number in range(8)
        ),
    ),
    names=names,
    renamed=renamed,
    normalization=normalization,
)
