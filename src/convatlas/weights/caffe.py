"""Caffe: the networks that their authors, or Caffe's, released as .caffemodel.

The names are those of the layers in the files beside them, deploy.prototxt and train_val.prototxt, of BVLC/caffe,
forresti/SqueezeNet, KaimingHe/deep-residual-networks and shicai/MobileNet-Caffe, and of the gists of VGG's authors.
"""

from __future__ import annotations

from convatlas.networks.alexnet import AlexNetSpec
from convatlas.networks.googlenet import GoogLeNetSpec, letters
from convatlas.networks.mobilenet import MobileNetSpec
from convatlas.networks.resnet import ResNetSpec
from convatlas.networks.squeezenet import SqueezeNetSpec
from convatlas.networks.vgg import VGGSpec
from convatlas.spec import Scale, Spec
from convatlas.weights.checkpoint import Format
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Names, Rule

POOLING = "its first pooling is not padded and rounds sizes up"


def names(spec: Spec) -> Names:
    """The layers of a network in Caffe's files."""
    match spec:
        case AlexNetSpec():
            return Names(ALEXNET)
        case VGGSpec():
            return Names(VGG)
        case GoogLeNetSpec():
            return Names(googlenet(spec), optional=("auxiliary_4a", "auxiliary_4d"))
        case ResNetSpec():
            return Names(resnet(spec))
        case SqueezeNetSpec():
            return Names(SQUEEZENET)
        case MobileNetSpec():
            return Names(mobilenet(spec))
    raise TypeError(f"Caffe has no {type(spec).__name__}")


ALEXNET = (
    Rule("conv5.{k}.conv", "conv{k+5}"),
    Rule("conv{k}.conv", "conv{k}"),
    Rule("fc{k}", "fc{k}"),
)
VGG = (
    Rule("stages.{s}.{k}.conv", "conv{s+1}_{k+1}"),
    Rule("fc{k}", "fc{k}"),
)
SQUEEZENET = (
    Rule("conv1.conv", "conv1"),
    Rule("stages.{s}.fire{n}.squeeze.conv", "fire{n}/squeeze1x1"),
    Rule("stages.{s}.fire{n}.expand{k}x{k2}.conv", "fire{n}/expand{k}x{k2}"),
    Rule("conv10", "conv10"),
)


def googlenet(spec: GoogLeNetSpec) -> tuple[Rule, ...]:
    branches = (
        ("one", "1x1"),
        ("three.reduce", "3x3_reduce"),
        ("three.conv", "3x3"),
        ("five.reduce", "5x5_reduce"),
        ("five.conv", "5x5"),
        ("project", "pool_proj"),
    )
    modules = (f"{stage}.{letters(i)}" for stage, table in enumerate(spec.stages, 3) for i in range(len(table)))
    return (
        Rule("conv1.conv", "conv1/7x7_s2"),
        Rule("conv2_reduce.conv", "conv2/3x3_reduce"),
        Rule("conv2.conv", "conv2/3x3"),
        *(
            Rule(f"inception{module}.{ours}.conv", f"inception_{module.replace('.', '')}/{theirs}")
            for module in modules
            for ours, theirs in branches
        ),
        # Files of a whole training have the auxiliary classifiers.
        *(
            Rule(f"{ours}.{layer}", f"{theirs}/{name}")
            for ours, theirs in (("auxiliary_4a", "loss1"), ("auxiliary_4d", "loss2"))
            for layer, name in (("conv.conv", "conv"), ("fc1", "fc"), ("fc2", "classifier"))
        ),
        Rule("fc", "loss3/classifier"),
    )


def resnet(spec: ResNetSpec) -> tuple[Rule, ...]:
    deep = sum(map(len, spec.stages)) > 16
    rules = [Rule("conv1.conv", "conv1"), Rule("conv1.norm", "bn_conv1"), Rule("fc", "fc1000")]
    for stage, units in enumerate(spec.stages):
        for unit in range(len(units)):
            # The long stages of the deep networks count b1, b2, b3 where the others have b, c, d.
            name = f"{stage + 2}b{unit}" if deep and stage in (1, 2) and unit else f"{stage + 2}{letters(unit)}"
            ours = f"stages.{stage}.{unit}"
            for layer, branch in (
                (f"{ours}.shortcut", "1"),
                *((f"{ours}.layers.{k}", f"2{letters(k)}") for k in range(3)),
            ):
                rules.append(Rule(f"{layer}.conv", f"res{name}_branch{branch}"))
                rules.append(Rule(f"{layer}.norm", f"bn{name}_branch{branch}"))
    return tuple(rules)


def mobilenet(spec: MobileNetSpec) -> tuple[Rule, ...]:
    # conv2_1, conv2_2, conv3_1, and so on to conv6: two layers to a number, six to the fifth.
    numbers = ("2_1", "2_2", "3_1", "3_2", "4_1", "4_2", *(f"5_{k}" for k in range(1, 7)), "6")
    places = (f"{stage}.{layer}" for stage, layers in enumerate(spec.stages) for layer in range(len(layers)))
    rules = [Rule("conv1.conv", "conv1"), Rule("conv1.norm", "conv1/bn")]
    for place, number in zip(places, numbers, strict=True):
        for ours, theirs in (("depthwise", "dw"), ("pointwise", "sep")):
            rules.append(Rule(f"stages.{place}.{ours}.conv", f"conv{number}/{theirs}"))
            rules.append(Rule(f"stages.{place}.{ours}.norm", f"conv{number}/{theirs}/bn"))
    # There it is a 1x1 convolution.
    rules.append(Rule("fc", "fc7", change=lambda weight: weight.flatten(1)))
    return tuple(rules)


CAFFE = Library(
    name="caffe",
    formats=(Format.CAFFE,),
    networks=(
        Network(
            name="bvlc_alexnet",
            variant="alexnet-caffe",
            departs_from="alexnet",
            why="its response normalization sees both towers, with k = 1 and alpha over n",
        ),
        Network(name="bvlc_googlenet", variant="googlenet"),
        Network(name="VGG_ILSVRC_16_layers", variant="vgg16"),
        Network(name="VGG_ILSVRC_19_layers", variant="vgg19"),
        *(
            Network(
                name=f"ResNet-{layers}-model",
                variant=f"resnet{layers}-caffe",
                departs_from=f"resnet{layers}",
                why=POOLING,
            )
            for layers in (50, 101, 152)
        ),
        Network(
            name="squeezenet_v1.0",
            variant="squeezenet1.0-caffe",
            departs_from="squeezenet",
            why="ReLU follows conv10, which is padded",
        ),
        Network(name="squeezenet_v1.1", variant="squeezenet1.1", scale=Scale(resolution=227)),
        Network(name="mobilenet", variant="mobilenet"),
    ),
    names=names,
)
