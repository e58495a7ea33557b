"""Which layers compute in 8 bits, and what that costs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import convatlas as ca
from convatlas.compression.int8 import has_int8_kernels
from convatlas.deployment import pages
from convatlas.deployment.artefact import sums, write_artefact
from convatlas.deployment.export import export, export_fastest, prepared
from convatlas.deployment.forms import NETWORK, write_entrance, write_network
from convatlas.deployment.gate import Gate, GateError
from convatlas.deployment.int8 import Candidate, why
from convatlas.deployment.int8_child import node_outputs, quantized, read_network, relative_errors
from convatlas.deployment.int8_child import write_network as write
from convatlas.deployment.manifest import MANIFEST, Manifest, PairedLoss, Precision, RuntimeName
from convatlas.deployment.products import Product, openvino_names, products_of
from convatlas.deployment.runtimes import executed, is_product, layer_precision, open_network
from convatlas.deployment.samples import Samples
from convatlas.files import SILENT
from convatlas.models.device import computes_bfloat16
from convatlas.models.model import Model
from convatlas.runs.run import Run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A network that reads digits, so that its classes have margins."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return ca.train("lenet5-modern", epochs=12, out=out, runtime=ca.Runtime(autotune=False))


@pytest.mark.slow
def test_depthwise_convolutions_and_pooled_products_are_known(finished: Callable[..., Run], tmp_path: Path) -> None:
    run = finished("efficientnet-b0")
    products = products_of(write_network(run.network, run.variant, tmp_path), NETWORK)
    depthwise = {product.layer for product in products if product.is_depthwise}
    pooled = {product.layer for product in products if product.is_pooled}
    assert "stages.0.0.depthwise.conv" in depthwise
    assert all("depthwise" in name for name in depthwise)
    assert pooled
    assert all("excitation" in name for name in pooled)
    assert len({product.node for product in products}) == len(products)


def test_errors_are_fractions_of_the_outputs() -> None:
    exact = [np.ones((2, 3)), np.full(4, 2.0), np.empty(0)]
    rounded = [np.ones((2, 3)), np.full(4, 1.0), np.empty(0)]
    assert relative_errors(exact, rounded) == pytest.approx([0, 0.5, 0])
    # A layer that quantization renamed is none with a large error.
    assert relative_errors([np.ones(3)], [np.empty(0)]) == [0]


def product_precisions(path: Path) -> dict[str, str]:
    """What OpenVINO computes the products of a file in, by the names that they have in it."""
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {
        # Of a product that was fused with others the first, or what its scale became.
        str(op.get_rt_info()["originalLayersNames"].astype(str)).split(",")[0].removesuffix("/DequantizationMultiply"):
            layer_precision(op)
        for op in compiled.get_runtime_model().get_ops()
        if is_product(op)
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [(), ("conv1.conv",), ("stages.0.0.layers.0",)], ids=str)
def test_what_is_left_in_float32_computes_in_float32(outputs: tuple[str, ...], model: Model, tmp_path: Path) -> None:
    path = write_network(model.network, model.variant, tmp_path, outputs)
    products = products_of(path, NETWORK)
    kept = [products[0], products[4]]
    inputs = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
    network = read_network(path, RuntimeName.OPENVINO)
    made = quantized(network, inputs, kept, True, RuntimeName.OPENVINO)
    write(made, tmp_path / "int8.xml", RuntimeName.OPENVINO)
    ran, names = product_precisions(tmp_path / "int8.xml"), openvino_names(products, network)
    assert {name for name, precision in ran.items() if precision == "f32"} == {names[0], names[4]}
    assert set(ran) == set(names)
    exact, rounded = (
        node_outputs(one, names, inputs, RuntimeName.OPENVINO, tmp_path / "watched.xml") for one in (network, made)
    )
    errors = relative_errors(exact, rounded)
    # The first reads the images as they are; no other is without an error, the last one neither.
    assert errors[0] == 0 < min(errors[1:])


@pytest.mark.slow
def test_mixed_computes_in_bfloat16_what_int8_leaves_in_float32(model: Model, tmp_path: Path) -> None:
    path = write_network(model.network, model.variant, tmp_path)
    products = products_of(path, NETWORK)
    inputs = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
    network = read_network(path, RuntimeName.OPENVINO)
    write(quantized(network, inputs, [products[0], products[4]], True, RuntimeName.OPENVINO), tmp_path / "int8.xml",
          RuntimeName.OPENVINO)  # fmt: skip
    # Where the processor has no bfloat16 it is int8, which the gate then says.
    mixed = (Precision.MIXED, "bfloat16") if computes_bfloat16("cpu") else (Precision.INT8, "float32")
    for asked, (told, floats) in {Precision.INT8: (Precision.INT8, "float32"), Precision.MIXED: mixed}.items():
        computed = open_network(tmp_path / "int8.xml", RuntimeName.OPENVINO, asked).products()
        assert computed == {"int8": len(products) - 2, floats: 2}
        assert executed(computed) == told


@pytest.mark.slow
def test_swish_and_excitation_are_not_rounded_within(finished: Callable[..., Run], tmp_path: Path) -> None:
    run = finished("efficientnet-b0")
    path = write_network(run.network, run.variant, tmp_path)
    side = run.model.preprocessing.crop
    inputs = np.random.default_rng(0).standard_normal((2, run.model.preprocessing.channels, side, side), np.float32)
    made = quantized(read_network(path, RuntimeName.OPENVINO), inputs, [], True, RuntimeName.OPENVINO)
    assert any(op.get_type_name() == "FakeQuantize" for op in made.get_ops())
    for op in made.get_ops():
        if op.get_type_name() in ("Sigmoid", "Multiply", "ReduceMean"):
            sources = {op.input_value(i).get_node().get_type_name() for i in range(op.get_input_size())}
            assert "FakeQuantize" not in sources


def candidate(what: str, kept: tuple[Product, ...], lost: float, seconds: float, agreement: float = 0.99) -> Candidate:
    loss = PairedLoss(
        images="validation images", num_images=1000, model_accuracy=0.9, artefact_accuracy=0.9 - lost / 100,
        agreement=agreement, interval=(lost - 1, lost + 1),
    )  # fmt: skip
    return Candidate(kept=kept, what=what, path=Path("x"), loss=loss, latency_s=seconds)


def test_a_layer_in_float32_says_why(finished: Callable[..., Run]) -> None:
    gate = Gate(model=finished("lenet5").model, samples=Samples(gate=()))
    layer = Product("node", "output", "layer", True, False)
    everything = candidate("", (), 0.1, 0.005)
    faster = candidate("depthwise convolutions", (layer,), 0.1, 0.004)
    said = why(faster, [everything, faster], gate)
    assert said == "of depthwise convolutions: so it takes 4.00 ms an image, against 5.00 with 8 bits everywhere"
    lossy = candidate("", (), 3.0, 0.002)
    said = why(faster, [lossy, faster], gate)
    assert said == "of depthwise convolutions: with 8 bits everywhere 3.00 points of accuracy are lost"
    # Of those that fail, it is the one without any layer in float32 that has 8 bits everywhere.
    other = Product("other", "output", "layer", False, True)
    both = candidate("both", (layer, other), 0.1, 0.003)
    lossy_too = candidate("depthwise convolutions", (layer,), 2.0, 0.002)
    assert why(both, [lossy, lossy_too, both], gate).endswith("with 8 bits everywhere 3.00 points of accuracy are lost")
    disagreeing = candidate("", (), 0.1, 0.002, agreement=0.95)
    said = why(faster, [disagreeing, faster], gate)
    assert said.endswith("with 8 bits everywhere the model's class is named for 95.00 % of the images alone")
    # What passes is what it is faster than.
    assert why(both, [lossy, faster, both], gate).endswith("against 4.00 with depthwise convolutions alone")


def largest_weight(path: Path, runtime: RuntimeName) -> int:
    """The largest of a network's weights in 8 bits, in steps."""
    network = read_network(path, runtime)
    if runtime is RuntimeName.ONNX:
        weights = [numpy_helper.to_array(one) for one in network.graph.initializer if one.data_type == TensorProto.INT8]
    else:
        constants = [one for one in network.get_ops() if one.get_type_name() == "Constant"]
        weights = [one.get_data() for one in constants if one.get_element_type().get_type_name() == "i8"]
    return max(int(np.abs(one.astype(int)).max()) for one in weights)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RuntimeName)
def test_weights_use_7_bits_where_sums_would_overflow(runtime: RuntimeName, model: Model, tmp_path: Path) -> None:
    path = write_network(model.network, model.variant, tmp_path)
    inputs = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
    for overflow_fix, bits in ((True, 7), (False, 8)):
        made = quantized(read_network(path, runtime), inputs, [], overflow_fix, runtime)
        write(made, tmp_path / f"int8{runtime.suffix}", runtime)
        assert 0.9 * 2 ** (bits - 1) < largest_weight(tmp_path / f"int8{runtime.suffix}", runtime) <= 2 ** (bits - 1)


def test_the_page_says_how_many_bits_weights_use(shipped: Path) -> None:
    manifest = Manifest.read(shipped)
    assert "its weights use 7 of 8 bits" in " ".join(pages.proof(replace(manifest, weight_bits=7)))
    assert "Its weights use all 8 bits" in " ".join(pages.proof(replace(manifest, weight_bits=8)))


@pytest.mark.parametrize("runtime", [pytest.param(one, marks=pytest.mark.slow) for one in RuntimeName])
def test_a_trained_network_is_shipped_in_int8(runtime: RuntimeName, trained: Run, tmp_path: Path) -> None:
    manifest = export(trained, runtime, tmp_path / "artefact", precision=Precision.INT8)
    loss, latency = manifest.gate.loss, manifest.int8_latency
    assert loss is not None
    assert latency is not None
    assert manifest.gate.executed == "int8"
    assert manifest.gate.products == {"int8": 5}
    assert loss.agreement >= 0.98
    assert loss.loss <= 0.5
    assert loss.images == "training images"
    assert min(latency.int8_ms, latency.float32_ms) > 0
    page = (tmp_path / "artefact" / "README.md").read_text()
    assert "as the runtime says that it computes them: 5 in int8." in page
    assert latency.is_faster != ("it is smaller there, and not faster" in page)
    assert manifest.weight_bits == (8 if has_int8_kernels() else 7)
    assert f"its weights use {'all 8' if manifest.weight_bits == 8 else '7 of 8'} bits" in page.replace("Its", "its")
    largest = largest_weight(tmp_path / "artefact" / manifest.network, runtime)
    assert 0.9 * 2 ** (manifest.weight_bits - 1) < largest <= 2 ** (manifest.weight_bits - 1)
    assert "points lost (95 % interval" in page
    whole = export(trained, runtime, tmp_path / "float")
    sizes = [sum(file.num_bytes for file in one.files if "model" in file.name) for one in (manifest, whole)]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_small_network_is_shipped_in_int8(in_int8: Path, int8_gate: Gate) -> None:
    manifest = Manifest.read(in_int8)
    assert manifest.gate.executed == "int8"
    assert manifest.gate.products["int8"] >= 8
    assert manifest.gate.loss is not None
    assert manifest.gate.loss.agreement >= 0.98
    calibration = int8_gate.samples.calibration
    assert calibration is not None
    assert manifest.gate.num_calibration == len(calibration)
    assert "as the runtime says that it computes them" in (in_int8 / "README.md").read_text()


def minus_the_batch(path: Path) -> None:
    """Every image becomes its difference from the mean of those in its batch: alone it is nothing."""
    network = onnx.load(path)
    for node in network.graph.node:
        node.input[:] = ["centered" if name == "images" else name for name in node.input]
    network.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axes"))
    network.graph.node.insert(0, helper.make_node("ReduceMean", ["images", "axes"], ["mean of the batch"]))
    network.graph.node.insert(1, helper.make_node("Sub", ["images", "mean of the batch"], ["centered"]))
    onnx.save(network, path)


@pytest.mark.slow
def test_int8_is_held_to_its_preprocessing_and_its_classes_as_float32_is(trained: Run, tmp_path: Path) -> None:
    with prepared(trained, tmp_path / "artefact", None, (Precision.INT8,), (), 0.5, SILENT) as (gate, stage):
        folder = stage / "artefact"
        folder.mkdir()
        manifest = write_artefact(folder, trained.model, RuntimeName.ONNX, Precision.INT8, gate, SILENT)
        card = replace(manifest.card, classes=manifest.card.classes[::-1])
        (folder / MANIFEST).write_bytes(replace(manifest, card=card).to_json())
        with pytest.raises(GateError, match="its classes are others, or in another order"):
            gate.check(folder, Precision.INT8)
        kept = (folder / "model.onnx").read_bytes()
        minus_the_batch(folder / "model.onnx")
        (folder / MANIFEST).write_bytes(replace(manifest, files=sums(folder)).to_json())
        with pytest.raises(GateError, match="answers otherwise than one by one"):
            gate.check(folder, Precision.INT8)
        (folder / "model.onnx").write_bytes(kept)
        brighter = replace(trained.card, preprocessing=replace(trained.model.preprocessing, mean=(0.3,)))
        write_entrance(Model(brighter, load_network=trained.model.load_network), folder)
        (folder / MANIFEST).write_bytes(replace(manifest, files=sums(folder)).to_json())
        with pytest.raises(GateError, match="it prepares images otherwise"):
            gate.check(folder, Precision.INT8)


def without_margins(network: nn.Module) -> nn.Module:
    """The classes' weights become nearly the same: steps of 8 bits are larger than what tells them apart."""
    changed = copy.deepcopy(network)
    weight = next(layer for layer in reversed(list(changed.modules())) if isinstance(layer, nn.Linear)).weight
    with torch.no_grad():
        weight.copy_(1e-3 * weight + torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(0)))
    return changed


@pytest.mark.slow
def test_layers_for_which_8_bits_are_too_coarse_stay_in_float32(trained: Run, tmp_path: Path) -> None:
    network = without_margins(trained.network)
    model = Model(trained.card, load_network=lambda: network)
    manifest = export(model, "onnx", tmp_path / "artefact", precision="int8")
    reasons = {layer.name: layer.reason for layer in manifest.float_layers}
    assert "output" in reasons
    assert "with the largest errors: with 8 bits everywhere" in reasons["output"]
    assert "points of accuracy are lost" in reasons["output"]
    assert "the 1 layers" not in reasons["output"]
    assert f"`output`: {reasons['output']}" in (tmp_path / "artefact" / "README.md").read_text()


@pytest.mark.slow
def test_the_fastest_of_those_that_pass_is_kept(trained: Run, tmp_path: Path) -> None:
    found = export_fastest(trained, tmp_path / "artefact")
    passed = [one for one in found.tried if one.latency_ms is not None]
    fastest = min(passed, key=lambda one: one.latency_ms or 0)
    assert len(passed) >= 4
    assert (found.manifest.runtime, found.manifest.precision) == (fastest.runtime, fastest.precision)
    assert Manifest.read(tmp_path / "artefact") == found.manifest
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]
    refused = {(one.runtime, one.precision): one.refused for one in found.tried if one.refused}
    assert "does not compute in bfloat16" in refused[RuntimeName.ONNX, Precision.BFLOAT16]


FAMILIES = (
    ("lenet5", 40), ("alexnet", 30), ("vgg11", 20), ("googlenet-bn", 20), ("resnet20-cifar", 20), ("squeezenet", 60),
    ("mobilenet", 30), ("efficientnet-b0", 30),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epochs"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_every_family_passes_the_gate_in_every_runtime_and_precision(name: str, epochs: int, tmp_path: Path) -> None:
    scale = ca.Scale(width=1.0 if name == "lenet5" else 0.25, resolution=None if name == "lenet5" else 32)
    run = ca.train(name, scale=scale, epochs=epochs, out=tmp_path / "run", runtime=ca.Runtime(autotune=False))
    assert run.test_accuracy > 0.8
    for runtime in RuntimeName:
        for precision in (Precision.FLOAT32, Precision.INT8):
            manifest = export(run, runtime, tmp_path / f"{runtime}-{precision}", precision=precision)
            assert manifest.gate.executed == precision
    if name == "efficientnet-b0" and computes_bfloat16("cpu"):
        # Its depthwise convolutions stay in floats in any case.
        manifest = export(run, "openvino", tmp_path / "mixed", precision="mixed")
        assert manifest.gate.executed == "mixed"
        assert set(manifest.gate.products) == {"int8", "bfloat16"}
