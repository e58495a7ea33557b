"""The figures that He et al. print in 2015 and 2016, and Tan and Le in 2019 of a ResNet that they scale."""

from __future__ import annotations

from collections.abc import Mapping

from convatlas.spec import Claim, Scale, layers_deep


def macs(billions: str) -> Claim:
    return Claim("MACs", f"{billions} billion", "Table 1", lambda net: net.macs)


def params(millions: str, source: str) -> Claim:
    return Claim("parameters", f"{millions} million", source, lambda net: net.params)


def top1(error: str, source: str) -> Claim:
    return Claim("top-1 error on ImageNet validation, 10 crops", f"{error} %", source)


def of_table_1(layers: int, billions: str) -> tuple[Claim, Claim]:
    return layers_deep(layers, "Table 1"), macs(billions)


def on_cifar(error: str, source: str, setting: str = "") -> Claim:
    return Claim(f"test error on CIFAR-10{setting}", f"{error} %", source)


def scaled_macs(billions: str, scale: Scale, total: int | None = None) -> Claim:
    source = "EfficientNet paper, Table 3"
    return Claim("MACs", f"{billions} billion", source, lambda net: net.macs, at=scale, sum=total)


def scaled_accuracy(percent: str, scale: str = "") -> Claim:
    return Claim(f"top-1 accuracy on ImageNet{scale}", f"{percent} %", "EfficientNet paper, Table 3")


# Tan and Le 2019, Table 3; their base has the stride in the 3x3 convolution. They do not print what they repeat and
# widen; counted here is every unit and every layer, as everywhere in this package.
SCALED_BY_2019 = (
    scaled_macs("4.1", Scale()),
    scaled_macs("16.2", Scale(depth=4), 14_570_749_952),
    scaled_macs("14.7", Scale(width=2), 16_116_613_120),
    scaled_macs("16.4", Scale(resolution=448)),
    scaled_accuracy("76.0"),
    scaled_accuracy("78.1", ", depth 4"),
    scaled_accuracy("77.7", ", width 2"),
    scaled_accuracy("77.5", ", resolution 2"),
    Claim("MACs, compound; the factors are not printed", "16.7 billion", "EfficientNet paper, Table 3"),
    scaled_accuracy("78.8", ", compound"),
)

# 2015, Table 6: layers, parameters in million, test error in percent, and of how many trainings
TABLE_6 = (
    (20,   "0.27", "8.75", ""),
    (32,   "0.46", "7.51", ""),
    (44,   "0.66", "7.17", ""),
    (56,   "0.85", "6.97", ""),
    (110,  "1.7",  "6.43", ", best of five"),
    (1202, "19.4", "7.93", ""),
)  # fmt: skip

CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "plain18": (*of_table_1(18, "1.8"), top1("27.94", "Table 2")),
    "plain34": (*of_table_1(34, "3.6"), top1("28.54", "Table 2")),
    "resnet18": of_table_1(18, "1.8"),
    "resnet18-a": (top1("27.88", "Table 2"),),
    "resnet34": (*of_table_1(34, "3.6"), top1("24.52", "Table 3")),
    "resnet34-a": (macs("3.6"), top1("25.03", "Table 3")),
    "resnet34-c": (top1("24.19", "Table 3"),),
    "resnet50": (*of_table_1(50, "3.8"), top1("22.85", "Table 3")),
    "resnet101": (*of_table_1(101, "7.6"), top1("21.75", "Table 3")),
    "resnet152": (
        *of_table_1(152, "11.3"),
        top1("21.43", "Table 3"),
        Claim("top-5 error on ImageNet validation, 10 crops", "5.71 %", "Table 3"),
        Claim("top-5 error on ImageNet validation, several scales", "4.49 %", "Table 4"),
        Claim("top-5 error on ImageNet test, six nets", "3.57 %", "Table 5"),
    ),
    "resnet50-v1.5": SCALED_BY_2019,
    "plain110-cifar": (on_cifar("60", "Figure 6", ", more than that"),),
    **{
        f"resnet{layers}-cifar": (
            layers_deep(layers, "Table 6"),
            params(millions, "Table 6"),
            on_cifar(error, "Table 6", setting),
            *((on_cifar("6.61", "Table 6", ", mean of five"),) if layers == 110 else ()),
        )
        for layers, millions, error, setting in TABLE_6
    },
    "resnet110-preact-cifar": (on_cifar("6.37", "2016, Table 2", ", median of five"),),
    "resnet164-preact-cifar": (
        on_cifar("5.46", "2016, Table 2", ", median of five"),
        on_cifar("4.92", "2016, Table 3", ", 1001 layers, median of five"),
    ),
}
