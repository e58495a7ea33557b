"""The figures that Szegedy et al. print in 2014: every row of Table 1, and the errors on ImageNet."""

from __future__ import annotations

import string
from fractions import Fraction

from convatlas.spec import Claim, Layers, layers_deep

Table = tuple[tuple[tuple[int, ...], ...], ...]
"""Rows of Table 1 by stage: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj."""

# Table 1, the last two columns: parameters in K (1024) and operations in million, as printed
COSTS = {
    "conv1":        ("2.7",   "34"),
    "conv2":        ("112",  "360"),
    "inception3.a": ("159",  "128"),
    "inception3.b": ("380",  "304"),
    "inception4.a": ("364",   "73"),
    "inception4.b": ("437",   "88"),
    "inception4.c": ("463",  "100"),
    "inception4.d": ("580",  "119"),
    "inception4.e": ("840",  "170"),
    "inception5.a": ("1072",  "54"),
    "inception5.b": ("1388",  "71"),
    "fc":           ("1000",   "1"),
}  # fmt: skip

# What is known of rows that do not add up.
REMARKS = {
    "conv1": "a separable convolution with a depth multiplier of 8, which Ioffe and Szegedy 2015 say theirs was, has "
    "the printed figures: 7 x 7 x 3 x 8 + 24 x 64 = 2,712 weights, and 112 x 112 x 2,712 = 34,019,328",
    "inception4.b": "the weights alone are 438 K, one unit off, and that a K is 1,024 is our reading",
    "inception5.a": "the printed figures agree with each other, as of other layers than the row lists: "
    "1,072 x 1,024 x 49 = 53,788,672",
}
FRAGILE = ("parameters of inception4.b",)
"""Figures that another reading of K and of biases brings within a unit."""
# Krizhevsky et al. 2012, which the paper compares with.
ALEXNET_PARAMS = 60_965_224


def arithmetic(stages: Table) -> dict[str, tuple[str, int, int, int]]:
    """Of each row its weights, as a formula and as a number; its biases; the side of its feature maps, in pixels."""
    rows = {
        "conv1": ("7 x 7 x 3 x 64", 7 * 7 * 3 * 64, 64, 112),
        "conv2": ("64 x 64 + 9 x 64 x 192", 64 * 64 + 9 * 64 * 192, 64 + 192, 56),
    }
    in_channels, size = 192, 28
    for number, stage in enumerate(stages, 3):
        for letter, channels in zip(string.ascii_lowercase, stage, strict=False):
            n1x1, r3x3, n3x3, r5x5, n5x5, pool_proj = channels
            rows[f"inception{number}.{letter}"] = (
                f"{in_channels} x ({n1x1} + {r3x3} + {r5x5} + {pool_proj}) "
                f"+ 9 x {r3x3} x {n3x3} + 25 x {r5x5} x {n5x5}",
                in_channels * (n1x1 + r3x3 + r5x5 + pool_proj) + 9 * r3x3 * n3x3 + 25 * r5x5 * n5x5,
                sum(channels),
                size,
            )
            in_channels = n1x1 + n3x3 + n5x5 + pool_proj
        size //= 2
    return rows | {"fc": ("1024 x 1000", 1024 * 1000, 1000, 1)}


def layers_of_row(name: str, net: Layers) -> Layers:
    """The layers of a row of Table 1; its second convolution includes the reduction before it."""
    return Layers((*net.part(f"{name}_reduce"), *net.part(name)))


def claims_of_row(name: str, formula: str, weights: int, biases: int, size: int) -> tuple[Claim, Claim]:
    params, macs = weights + biases, size * size * weights
    printed_params, printed_macs = COSTS[name]
    remark = f"; {REMARKS[name]}" if name in REMARKS else ""
    return (
        Claim(
            f"parameters of {name}",
            f"{printed_params} K",
            "Table 1",
            lambda net: layers_of_row(name, net).params,
            sum=params,
            contradicts="" if f"parameters of {name}" in FRAGILE else "Table 1",
            note=f"{formula} + {biases} biases = {params:,}, {params / 1024:.2f} K{remark}",
        ),
        Claim(
            f"MACs of {name}",
            f"{printed_macs} million",
            "Table 1",
            lambda net: layers_of_row(name, net).macs,
            sum=macs,
            contradicts="Table 1",
            note=f"{size} x {size} x ({formula}) = {macs:,}{remark}",
        ),
    )


def claims_of(stages: Table) -> tuple[Claim, ...]:
    """The claims of the network that has these modules, as Table 1 prints them."""
    return (
        layers_deep(22, "section 5"),
        Claim(
            "times fewer parameters than AlexNet",
            "12 times",
            "section 1",
            lambda net: Fraction(ALEXNET_PARAMS, net.params),
            sum=Fraction(ALEXNET_PARAMS, 6_998_552),
            contradicts="Table 1",
            note=f"AlexNet has 8.71 times as many, {ALEXNET_PARAMS:,} to 6,998,552; Table 1 prints 6,798 K in all",
        ),
        *(claim for name, row in arithmetic(stages).items() for claim in claims_of_row(name, *row)),
        Claim("top-5 error on ILSVRC-2014 validation, one net, one crop", "10.07 %", "Table 3"),
        Claim("top-5 error on ILSVRC-2014 validation, one net, 144 crops", "7.89 %", "Table 3"),
        Claim("top-5 error on ILSVRC-2014 test, seven nets, 144 crops", "6.67 %", "Table 2"),
    )
