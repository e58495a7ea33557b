"""timm: its networks as ours, and the names of its tensors (https://github.com/huggingface/pytorch-image-models).

Read from its release 1.0.31 (Apache 2.0). Its ResNets have torchvision's names, and so have the convolutions of its
VGGs, whose first fully connected layers are convolutions. What begins with `tf_` was trained with TensorFlow and padded
as it pads. Left out: `mobilenetv1_100h`, which has a convolution after the last that no paper prints.
"""

from __future__ import annotations

from functools import partial

import torch

from convatlas.networks.efficientnet import EfficientNetSpec
from convatlas.networks.mobilenet import MobileNetSpec
from convatlas.networks.resnet import ResNetSpec
from convatlas.networks.vgg import VGGSpec
from convatlas.spec import Scale, Spec
from convatlas.weights.checkpoint import Format
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Names, Rule
from convatlas.weights.torchvision import IN_3X3, PYTORCH_EPS, RESNET, vgg_features

MOBILENET = Names(
    (
        Rule("conv1.conv", "conv_stem"),
        Rule("conv1.norm", "bn1"),
        Rule("stages.{s}.{u}.depthwise.conv", "blocks.{s}.{u}.conv_dw"),
        Rule("stages.{s}.{u}.depthwise.norm", "blocks.{s}.{u}.bn1"),
        Rule("stages.{s}.{u}.pointwise.conv", "blocks.{s}.{u}.conv_pw"),
        Rule("stages.{s}.{u}.pointwise.norm", "blocks.{s}.{u}.bn2"),
        Rule("fc", "classifier"),
    )
)


def vgg(spec: VGGSpec) -> Names:
    # (units, channels, height, width) to (units, inputs)
    flatten = partial(torch.flatten, start_dim=1)
    return Names(
        (
            *vgg_features(spec),
            Rule("fc6", "pre_logits.fc1", change=flatten),
            Rule("fc7", "pre_logits.fc2", change=flatten),
            Rule("fc8", "head.fc"),
        )
    )


def efficientnet(spec: EfficientNetSpec) -> Names:
    rules = []
    before = spec.stem
    for s, stage in enumerate(spec.stages):
        for u, (expanded, _) in enumerate(stage.blocks):
            # Its convolutions are named by what they do, and a block that expands nothing is of another kind.
            kinds = [("depthwise", "conv_dw"), ("project", "conv_pw")]
            if expanded != before:
                kinds = [("expand", "conv_pw"), ("depthwise", "conv_dw"), ("project", "conv_pwl")]
            for k, (part, conv) in enumerate(kinds, 1):
                rules += [
                    Rule(f"stages.{s}.{u}.{part}.conv", f"blocks.{s}.{u}.{conv}"),
                    Rule(f"stages.{s}.{u}.{part}.norm", f"blocks.{s}.{u}.bn{k}"),
                ]
            before = stage.out_channels
    return Names(
        (
            Rule("stem.conv", "conv_stem"),
            Rule("stem.norm", "bn1"),
            *rules,
            Rule("stages.{s}.{u}.excitation.squeeze", "blocks.{s}.{u}.se.conv_reduce"),
            Rule("stages.{s}.{u}.excitation.excite", "blocks.{s}.{u}.se.conv_expand"),
            Rule("head.conv", "conv_head"),
            Rule("head.norm", "bn2"),
            Rule("fc", "classifier"),
        )
    )


def names(spec: Spec) -> Names:
    match spec:
        case VGGSpec():
            return vgg(spec)
        case ResNetSpec():
            return RESNET
        case MobileNetSpec():
            return MOBILENET
        case EfficientNetSpec():
            return efficientnet(spec)
    raise TypeError(f"timm has no network of a {type(spec).__name__}")


TIMM = Library(
    name="timm",
    formats=(Format.SAFETENSORS, Format.PYTORCH),
    networks=(
        *(Network(name=f"vgg{layers}", variant=f"vgg{layers}") for layers in (11, 13, 16, 19)),
        *(Network(name=f"vgg{layers}_bn", variant=f"vgg{layers}-bn") for layers in (11, 13, 16, 19)),
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
        *(
            Network(
                name=f"mobilenetv1_{100 * alpha:.0f}",
                variant="mobilenet-relu6",
                scale=Scale(width=alpha),
                departs_from="mobilenet",
                why="its ReLUs stop at 6",
            )
            for alpha in (1, 1.25)
        ),
        *(
            Network(
                name=f"efficientnet_b{n}",
                variant=f"efficientnet-b{n}-pytorch",
                departs_from=f"efficientnet-b{n}",
                why=PYTORCH_EPS,
            )
            for n in range(6)
        ),
        *(
            Network(
                name=f"tf_efficientnet_b{n}",
                variant=f"efficientnet-b{n}-tf",
                departs_from=f"efficientnet-b{n}",
                why="it pads as TensorFlow does, with more zeros right and below",
            )
            for n in range(8)
        ),
    ),
    names=names,
)
