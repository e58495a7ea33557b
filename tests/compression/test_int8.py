"""Networks that compute in 8 bits: layer by layer they multiply the same numbers as in 32."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import convatlas as ca
from convatlas.compression.int8 import QuantizedLayer, compiled, to_int8
from convatlas.compression.low_bits import calibrated, low_bits_of, quantize_weights
from convatlas.networks.blocks import WeightedLayer, fold_batch_norm
from convatlas.networks.low_bits import LowBits
from convatlas.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


def of_eight_bits(network: nn.Module) -> tuple[nn.Module, LowBits, Tensor]:
    """A copy in 8 bits, its normalization far from that of a new network, and images for it."""
    torch.manual_seed(0)
    own = copy.deepcopy(network)
    for layer in own.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # Of both signs.
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    spec = own.spec
    images = torch.randn(20, spec.in_channels, spec.resolution, spec.resolution)
    low_bits = low_bits_of(own, 8, calibrated(own, images))
    return quantize_weights(own, low_bits), low_bits, images


@torch.no_grad()
def test_each_layer_multiplies_the_same_numbers(family: str, finished: Callable[..., Run]) -> None:
    network, low_bits, images = of_eight_bits(finished(family, compressed=False).network)
    expected, found = fold_batch_norm(network), to_int8(network, low_bits)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in found.modules())
    for bits in low_bits:
        layer, other = expected.get_submodule(bits.name), found.get_submodule(bits.name)
        if bits.inputs is None or isinstance(layer, WeightedLayer):
            assert not isinstance(other, QuantizedLayer)
            continue
        assert isinstance(other, QuantizedLayer)
        assert other.codes.dtype == torch.int8
        # Inputs that lie on their steps: half a step away, both may round otherwise.
        shape = (layer.in_channels, 16, 16) if isinstance(layer, nn.Conv2d) else (layer.in_features,)
        (x,) = bits.inputs(layer, (torch.randn(2, *shape),))
        torch.testing.assert_close(other(x), layer(x), rtol=1e-3, atol=1e-5)
    answers = found(images)
    assert answers.shape == network(images).shape
    assert answers.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width", "num"), [("resnet20-cifar", 1, 20), ("mobilenet", 0.25, 28)])
def test_the_compiler_puts_layers_of_eight_bits_in_their_place(name: str, width: float, num: int) -> None:
    network = ca.create(name, width=width, resolution=32, in_channels=1, num_classes=10).eval()
    quantize_weights, low_bits, images = of_eight_bits(network)
    whole = to_int8(quantize_weights, low_bits)
    counters.clear()
    with torch.no_grad():
        answers = compiled(whole, images[:1])
        kinds = ("qconv_unary_lower_count", "qlinear_unary_lower_count")
        assert sum(counters["inductor"][kind] for kind in kinds) == num
        found = torch.cat([answers(image[None]) for image in images])
        # A number half way between two steps may go up in one and down in the other.
        expected = whole(images)
        assert (found - expected).abs().mean() < 0.02 * expected.std()
