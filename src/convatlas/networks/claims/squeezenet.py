"""The figures that Iandola et al. print in 2016."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from convatlas.spec import Claim, Layers, top_accuracies

# Of AlexNet, which the paper compares with, at 32 bits.
ALEXNET_PARAMS = 60_965_224


def size_bytes(net: Layers) -> int:
    return net.weight_bytes(bits=32)


def filter_ratio(net: Layers) -> Fraction:
    """The multiplications of the 3x3 filters over those of the 1x1 filters, in a module with as many of both."""
    return Fraction(net["stages.0.fire2.expand3x3.conv"].macs, net["stages.0.fire2.expand1x1.conv"].macs)


CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "squeezenet": (
        Claim("parameters", "1,248,424", "Table 1", lambda net: net.params),
        Claim("size at 32 bits", "4.8 MB", "Table 2", size_bytes),
        Claim(
            "times smaller than AlexNet at 32 bits",
            "50 times",
            "Table 2",
            lambda net: Fraction(ALEXNET_PARAMS, net.params),
            about=10,
        ),
        Claim("times the weights of a 1x1 filter in a 3x3", "9 times", "section 3.1", filter_ratio),
        *top_accuracies("ImageNet", "57.5", "80.3", "Table 2"),
        Claim("weights that pruning leaves", "33 %", "section 4"),
        Claim("parameters that pruning leaves", "421,098", "Table 1"),
        Claim("size after Deep Compression to 8 bits", "0.66 MB", "Table 2"),
        Claim("times smaller than AlexNet, 8 bits", "363 times", "Table 2"),
        Claim("size after Deep Compression to 6 bits", "0.47 MB", "Table 2"),
        Claim("times smaller than AlexNet, 6 bits", "510 times", "Table 2"),
        *top_accuracies("ImageNet, after Deep Compression to 8 bits", "57.5", "80.3", "Table 2"),
        *top_accuracies("ImageNet, after Deep Compression to 6 bits", "57.5", "80.3", "Table 2"),
        Claim("size of AlexNet at 32 bits", "240 MB", "Table 2", lambda net: 4 * ALEXNET_PARAMS, about=10),
        Claim("times smaller than AlexNet, singular value decomposition", "5 times", "Table 2"),
        Claim("times smaller than AlexNet, Deep Compression of it", "35 times", "Table 2"),
        Claim("size of AlexNet after singular value decomposition", "48 MB", "Table 2"),
        *top_accuracies("ImageNet, AlexNet after singular value decomposition", "56.0", "79.4", "Table 2"),
        Claim("size of AlexNet after Deep Compression", "6.9 MB", "Table 2"),
        *top_accuracies("ImageNet, AlexNet after Deep Compression", "57.2", "80.3", "Table 2"),
    ),
    "squeezenet-simple-bypass": (
        Claim("size at 32 bits", "4.8 MB", "Table 3", size_bytes),
        *top_accuracies("ImageNet", "60.4", "82.5", "Table 3"),
    ),
    "squeezenet-complex-bypass": (
        Claim(
            "size at 32 bits",
            "7.7 MB",
            "Table 3",
            size_bytes,
            sum=6_358_688,
            contradicts="Table 1 and section 6",
            note="four 1x1 convolutions add 12,416 + 33,024 + 98,688 + 197,120 = 341,248 parameters, and "
            "4 x (1,248,424 + 341,248) = 6,358,688 bytes, 6.06 MiB",
        ),
        *top_accuracies("ImageNet", "58.8", "82.0", "Table 3"),
    ),
}
