"""The figures that LeCun et al. print in 1989, 1990 and 1998."""

from __future__ import annotations

import math
from collections.abc import Mapping

from convatlas.spec import Claim, Layer, Layers


def num_connections(net: Layers) -> int:
    """The papers' count: every use of a weight or a bias."""

    def of(layer: Layer) -> int:
        units = math.prod(layer.output_shape)
        if layer.kind == "Subsampling":
            return (4 + 1) * units
        return layer.macs + (units if layer.params else 0)

    return sum(of(layer) for layer in net)


# fmt: off
CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "lenet1989": (
        Claim("parameters", "9,760", "section 3.3", lambda net: net.params),
        Claim("connections", "64,660", "section 3.3", num_connections),
        Claim("test error on US zip codes", "5.0 %", "section 5"),
    ),
    "lenet1": (
        Claim("parameters", "2,578", "page 402", lambda net: net.params),
        Claim("connections", "98,442", "page 402", num_connections),
        Claim("parameters, about", "2,600", "1998, section III.C.7", lambda net: net.params, about=100),
        Claim("MACs, about", "100,000", "1998, section III.C.7", lambda net: net.macs, about=10_000),
        Claim("test error on MNIST, 16x16 images centered in 28x28", "1.7 %", "1998, section III.C.7"),
    ),
    "lenet4": (
        Claim("parameters, about", "17,000", "section III.C", lambda net: net.params, about=1000),
        Claim("connections, about", "260,000", "section III.C", num_connections, about=10000),
        Claim("test error on MNIST", "1.1 %", "section III.C"),
        Claim("test error on MNIST, three boosted nets, with distortions", "0.7 %", "section III.C.9"),
    ),
    "lenet5": (
        Claim("parameters", "60,000", "section II.A", lambda net: net.params),
        Claim("connections", "340,908", "section II.A", num_connections),
        Claim(
            "MACs", "401 thousand", "Figure 11", lambda net: net.macs, sum=326_520,
            note="326,520 in the layers; with biases and subsampling the paper itself counts 340,908 connections",
        ),
        Claim("parameters of C1", "156", "section II.B", lambda net: net["c1"].params),
        Claim("parameters of S2", "12", "section II.B", lambda net: net["s2"].params),
        Claim("parameters of C3", "1,516", "section II.B", lambda net: net["c3"].params),
        Claim("parameters of S4", "32", "section II.B", lambda net: net["s4"].params),
        Claim("parameters of C5", "48,120", "section II.B", lambda net: net["c5"].params),
        Claim("parameters of F6", "10,164", "section II.B", lambda net: net["f6"].params),
        Claim("inputs of each output", "84", "section II.B", lambda net: net["f6"].output_shape[0]),
        Claim("connections of C1", "122,304", "section II.B", lambda net: num_connections(net.part("c1"))),
        Claim("connections of S2", "5,880", "section II.B", lambda net: num_connections(net.part("s2"))),
        Claim("connections of C3", "151,600", "section II.B", lambda net: num_connections(net.part("c3"))),
        Claim("connections of S4", "2,000", "section II.B", lambda net: num_connections(net.part("s4"))),
        Claim("test error on MNIST", "0.95 %", "section III.B"),
        Claim("test error on MNIST, with distortions", "0.8 %", "section III.B"),
    ),
    "lenet-300": (
        Claim("test error on MNIST", "4.7 %", "section III.C"),
    ),
    "lenet-300-100": (
        Claim("test error on MNIST", "3.05 %", "section III.C"),
    ),
}
