"""The figures that Szegedy et al. print in 2014: every row of Table 1, and the errors on ImageNet."""

from __future__ import annotations

import string

from convatlas.spec import Claim, Layers

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
    return (
        Claim(
            f"parameters of {name}",
            f"{printed_params} K",
            "Table 1",
            lambda net: layers_of_row(name, net).params,
            sum=params,
            note=f"{formula} + {biases} biases = {params:,}, {params / 1024:.2f} K",
        ),
        Claim(
            f"MACs of {name}",
            f"{printed_macs} million",
            "Table 1",
            lambda net: layers_of_row(name, net).macs,
            sum=macs,
            note=f"{size} x {size} x ({formula}) = {macs:,}",
        ),
    )


def claims_of(stages: Table) -> tuple[Claim, ...]:
    """The claims of the network that has these modules, as Table 1 prints them."""
    return (
        *(claim for name, row in arithmetic(stages).items() for claim in claims_of_row(name, *row)),
        Claim("top-5 error on ILSVRC-2014 validation, one net, one crop", "10.07 %", "Table 3"),
        Claim("top-5 error on ILSVRC-2014 validation, one net, 144 crops", "7.89 %", "Table 3"),
        Claim("top-5 error on ILSVRC-2014 test, seven nets, 144 crops", "6.67 %", "Table 2"),
    )
