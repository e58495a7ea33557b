"""torchvision: its networks as ours, and the names of its tensors (https://github.com/pytorch/vision, BSD 3-Clause).

Read from its release 0.24. What it has and papers do not print is in our variants: the AlexNet of "One weird trick"
with 256 channels in its fourth convolution, GoogLeNet with batch normalization and 3x3 filters for 5x5, the stride of
bottlenecks in the 3x3 convolution, ReLU after the last convolution of SqueezeNet, and the epsilon of PyTorch's batch
normalization in EfficientNet-B0 to B4.

GoogLeNet's auxiliary classifiers pool to 4x4 whatever the size of their input; ours pool windows of 5 at a stride of 3,
as the paper does. At 224 pixels both have the same weights, and in training slightly different outputs; otherwise they
may not fit, and are left out. In the published file they are untrained.
"""

from __future__ import annotations

from collections.abc import Iterator

from convatlas.networks.alexnet import AlexNetSpec
from convatlas.networks.efficientnet import EfficientNetSpec
from convatlas.networks.googlenet import GoogLeNetSpec, letters
from convatlas.networks.resnet import ResNetSpec
from convatlas.networks.squeezenet import SqueezeNetSpec
from convatlas.networks.vgg import VGGSpec
from convatlas.spec import Spec
from convatlas.weights.checkpoint import Format
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Names, Rule

ALEXNET = Names(
    (
        Rule("conv1.conv", "features.0"),
        Rule("conv2.conv", "features.3"),
        Rule("conv3.conv", "features.6"),
        Rule("conv4.conv", "features.8"),
        Rule("conv5.0.conv", "features.10"),
        Rule("fc6", "classifier.1"),
        Rule("fc7", "classifier.4"),
        Rule("fc8", "classifier.6"),
    )
)

RESNET = Names(
    (
        Rule("conv1.conv", "conv1"),
        Rule("conv1.norm", "bn1"),
        Rule("stages.{s}.{u}.layers.{k}.conv", "layer{s+1}.{u}.conv{k+1}"),
        Rule("stages.{s}.{u}.layers.{k}.norm", "layer{s+1}.{u}.bn{k+1}"),
        Rule("stages.{s}.{u}.shortcut.conv", "layer{s+1}.{u}.downsample.0"),
        Rule("stages.{s}.{u}.shortcut.norm", "layer{s+1}.{u}.downsample.1"),
        Rule("fc", "fc"),
    )
)


def vgg_features(spec: VGGSpec) -> Iterator[Rule]:
    """Of the convolutions: theirs stand in one sequence with normalization, ReLUs and poolings."""
    place = 0
    for s, stage in enumerate(spec.stages):
        for u in range(len(stage)):
            yield Rule(f"stages.{s}.{u}.conv", f"features.{place}")
            if spec.batch_norm:
                yield Rule(f"stages.{s}.{u}.norm", f"features.{place + 1}")
            place += 3 if spec.batch_norm else 2
        place += 1


def vgg(spec: VGGSpec) -> Names:
    head = Rule("fc6", "classifier.0"), Rule("fc7", "classifier.3"), Rule("fc8", "classifier.6")
    return Names((*vgg_features(spec), *head))


def googlenet(spec: GoogLeNetSpec) -> Names:
    convolutions = [("conv1", "conv1"), ("conv2_reduce", "conv2"), ("conv2", "conv3")]
    for number, stage in enumerate(spec.stages, 3):
        for letter in map(letters, range(len(stage))):
            convolutions += [
                (f"inception{number}.{letter}.{ours}", f"inception{number}{letter}.{theirs}")
                for ours, theirs in (
                    ("one", "branch1"),
                    ("three.reduce", "branch2.0"),
                    ("three.conv", "branch2.1"),
                    ("five.reduce", "branch3.0"),
                    ("five.conv", "branch3.1"),
                    ("project", "branch4.1"),
                )
            ]
    auxiliary = {"auxiliary_4a": "aux1", "auxiliary_4d": "aux2"}
    convolutions += [(f"{ours}.conv", f"{theirs}.conv") for ours, theirs in auxiliary.items()]
    return Names(
        (
            *(
                Rule(f"{ours}.{layer}", f"{theirs}.{layer_there}")
                for ours, theirs in convolutions
                for layer, layer_there in (("conv", "conv"), ("norm", "bn"))
            ),
            *(Rule(f"{ours}.fc{k}", f"{theirs}.fc{k}") for ours, theirs in auxiliary.items() for k in (1, 2)),
            Rule("fc", "fc"),
        ),
        ignored=(r"aux[12]\..+",),
        optional=tuple(auxiliary),
    )


def squeezenet(spec: SqueezeNetSpec) -> Names:
    rules = [Rule("conv1.conv", "features.0"), Rule("conv10", "classifier.1")]
    # A ReLU follows the first convolution, and a pooling comes before each stage.
    place, number = 2, 2
    for s, stage in enumerate(spec.stages):
        place += 1
        for _ in stage:
            rules += [
                Rule(f"stages.{s}.fire{number}.{layer}.conv", f"features.{place}.{layer}")
                for layer in ("squeeze", "expand1x1", "expand3x3")
            ]
            place, number = place + 1, number + 1
    return Names(tuple(rules))


def efficientnet(spec: EfficientNetSpec) -> Names:
    rules = [Rule("stem.conv", "features.0.0"), Rule("stem.norm", "features.0.1")]
    before = spec.stem
    for s, stage in enumerate(spec.stages):
        for u, (expanded, _) in enumerate(stage.blocks):
            ours, theirs = f"stages.{s}.{u}", f"features.{s + 1}.{u}.block"
            # A block that expands nothing has one convolution fewer, and the others move up.
            parts = ["depthwise", "excitation", "project"]
            parts = parts if expanded == before else ["expand", *parts]
            for k, part in enumerate(parts):
                if part == "excitation":
                    rules += [
                        Rule(f"{ours}.excitation.squeeze", f"{theirs}.{k}.fc1"),
                        Rule(f"{ours}.excitation.excite", f"{theirs}.{k}.fc2"),
                    ]
                else:
                    rules += [
                        Rule(f"{ours}.{part}.conv", f"{theirs}.{k}.0"),
                        Rule(f"{ours}.{part}.norm", f"{theirs}.{k}.1"),
                    ]
            before = stage.out_channels
    head = len(spec.stages) + 1
    rules += [Rule("head.conv", f"features.{head}.0"), Rule("head.norm", f"features.{head}.1")]
    return Names((*rules, Rule("fc", "classifier.1")))


def names(spec: Spec) -> Names:
    match spec:
        case AlexNetSpec():
            return ALEXNET
        case VGGSpec():
            return vgg(spec)
        case GoogLeNetSpec():
            return googlenet(spec)
        case ResNetSpec():
            return RESNET
        case SqueezeNetSpec():
            return squeezenet(spec)
        case EfficientNetSpec():
            return efficientnet(spec)
    raise TypeError(f"torchvision has no network of a {type(spec).__name__}")


IN_3X3 = "it has the stride of a bottleneck in its 3x3 convolution"
PYTORCH_EPS = "its batch normalization has PyTorch's epsilon, 1e-5"

TORCHVISION = Library(
    name="torchvision",
    formats=(Format.PYTORCH, Format.SAFETENSORS),
    networks=(
        Network(
            name="alexnet",
            variant="alexnet-owt-256",
            departs_from="alexnet",
            why="it has one tower, no response normalization, and 256 channels in its fourth convolution",
        ),
        *(Network(name=f"vgg{layers}", variant=f"vgg{layers}") for layers in (11, 13, 16, 19)),
        *(Network(name=f"vgg{layers}_bn", variant=f"vgg{layers}-bn") for layers in (11, 13, 16, 19)),
        Network(
            name="googlenet",
            variant="googlenet-bn-3x3",
            departs_from="googlenet",
            why="it has batch normalization, and 3x3 filters where 5x5 should be",
        ),
        *(Network(name=f"resnet{layers}", variant=f"resnet{layers}") for layers in (18, 34)),
        *(
            Network(
                name=f"resnet{layers}",
                variant=f"resnet{layers}-v1.5",
                departs_from=f"resnet{layers}",
                why=IN_3X3,
            )
            for layers in (50, 101, 152)
        ),
        Network(
            name="squeezenet1_0",
            variant="squeezenet1.0-pytorch",
            departs_from="squeezenet",
            why="it has ReLU after its last convolution",
        ),
        Network(name="squeezenet1_1", variant="squeezenet1.1"),
        *(
            Network(
                name=f"efficientnet_b{n}",
                variant=f"efficientnet-b{n}-pytorch",
                departs_from=f"efficientnet-b{n}",
                why=PYTORCH_EPS,
            )
            for n in range(5)
        ),
        *(Network(name=f"efficientnet_b{n}", variant=f"efficientnet-b{n}") for n in (5, 6, 7)),
    ),
    names=names,
)
