"""Networks that compute in 8-bit integers: layer by layer they multiply the same numbers as in float."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import convatlas as ca
from convatlas.compression import int8
from convatlas.compression.folding import fold_batch_norm
from convatlas.compression.int8 import QuantizedLayer, compiled, has_int8_kernels, to_int8
from convatlas.compression.quantization import input_ranges, quantization_for, quantize_weights
from convatlas.networks.blocks import WeightedLayer
from convatlas.networks.quantization import input_quantizer
from convatlas.runs.run import Run
from convatlas.spec.quantization import Quantization

pytestmark = pytest.mark.usefixtures("one_thread")

needs_int8_kernels = pytest.mark.skipif(not has_int8_kernels(), reason="this CPU has no exact 8-bit kernels")


def quantized(network: nn.Module) -> tuple[nn.Module, Quantization, Tensor]:
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
    quantization = quantization_for(own, 8, input_ranges(own, images))
    return quantize_weights(own, quantization), quantization, images


def kernels(work: Callable[[], object]) -> Counter[str]:
    """How often each of PyTorch's operators that multiply inputs by weights is called."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    called = Counter({event.key: event.count for event in found.key_averages()})
    names = {name for name in called if any(part in name for part in ("conv", "linear", "addmm", "mm"))}
    return Counter({name: called[name] for name in names})


@needs_int8_kernels
@torch.no_grad()
def test_each_layer_multiplies_the_same_numbers(family: str, finished: Callable[..., Run]) -> None:
    network, quantization, images = quantized(finished(family, compressed=False).model.network)
    expected, found = fold_batch_norm(network), to_int8(network, quantization, images)
    norms = [
        [name for name, layer in made.named_modules() if isinstance(layer, nn.BatchNorm2d)]
        for made in (expected, found)
    ]
    assert norms[0] == norms[1]
    for part in quantization:
        layer, other = expected.get_submodule(part.name), found.get_submodule(part.name)
        inputs = input_quantizer(part)
        if inputs is None or isinstance(layer, WeightedLayer):
            assert not isinstance(other, QuantizedLayer)
            continue
        assert isinstance(other, QuantizedLayer)
        assert other.packed.dtype == torch.int8
        # Inputs that are rounded already: half a step away, both may round otherwise.
        shape = (layer.in_channels, 16, 16) if isinstance(layer, nn.Conv2d) else (layer.in_features,)
        (x,) = inputs(layer, (torch.randn(2, *shape),))
        torch.testing.assert_close(other(x), layer(x), rtol=1e-3, atol=1e-5)
    answers = found(images)
    assert answers.shape == network(images).shape
    assert answers.isfinite().all()


@needs_int8_kernels
@pytest.mark.slow
@pytest.mark.parametrize(("name", "width", "num"), [("resnet20-cifar", 1, 20), ("mobilenet", 0.25, 28)])
def test_compiled_networks_run_8_bit_kernels_only(name: str, width: float, num: int) -> None:
    network = ca.create(name, width=width, resolution=32, in_channels=1, num_classes=10).eval()
    network, quantization, images = quantized(network)
    integer = to_int8(network, quantization, images[:1])
    with torch.no_grad():
        answers = compiled(integer, images[:1])
        assert {"aten::conv2d", "aten::linear"} <= kernels(lambda: network(images[:1])).keys()
        expected_kernels = {"onednn::qconv_pointwise": num - 1, "onednn::qlinear_pointwise": 1}
        assert kernels(lambda: answers(images[:1])) == expected_kernels
        found = torch.cat([answers(image[None]) for image in images])
        # A number half way between two steps may go up in one and down in the other.
        expected = integer(images)
        assert (found - expected).abs().mean() < 0.02 * expected.std()


@pytest.mark.slow
def test_cpus_whose_kernels_overflow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without VNNI, oneDNN adds two products in 16 bits.
    code = "from convatlas.compression.int8 import has_int8_kernels as has; raise SystemExit(has())"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
    monkeypatch.setattr(int8, "has_int8_kernels", lambda: False)
    network, quantization, images = quantized(ca.create("lenet5-modern", resolution=28))
    with pytest.raises(RuntimeError, match="this CPU has no exact 8-bit kernels"):
        to_int8(network, quantization, images)
