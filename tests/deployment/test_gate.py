"""The gate lets an artefact pass that answers as the model does, and refuses what was broken on purpose."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import convatlas.deployment.gate
from convatlas.data import Split
from convatlas.deployment import forms, gate_child, int8_child, pages
from convatlas.deployment.artefact import UNPROVEN, sums, write_artefact
from convatlas.deployment.entrance import ImageEntrance, gray
from convatlas.deployment.forms import NETWORK, in_form_of, write_entrance, write_network, write_onnx
from convatlas.deployment.gate import (
    Gate,
    GateError,
    check_batches,
    check_classes,
    largest_difference,
    paired_loss,
    run_child,
)
from convatlas.deployment.int8 import WHOLE, weight_bits
from convatlas.deployment.int8_child import quantized, read_network
from convatlas.deployment.manifest import MANIFEST, PAGE, SCRIPT, Manifest, Precision, RuntimeName
from convatlas.deployment.predictor import Artefact
from convatlas.deployment.products import products_of
from convatlas.deployment.samples import Samples, as_files, draw_samples
from convatlas.files import SILENT
from convatlas.images import ChannelOrder, ResizeMode
from convatlas.models.device import computes_bfloat16
from convatlas.models.model import Model
from convatlas.runs.run import Run

FEW = 3
"""Image files of those tests that break something."""


@pytest.fixture(scope="module")
def ink_gate(finished: Callable[..., Run], drawings: list[Path]) -> Gate:
    """The gate of the artefact that all tests share."""
    return Gate(model=finished("lenet5", compressed=False).model, samples=Samples(gate=tuple(drawings[:FEW])))


@pytest.fixture
def of_ink(shipped: Path, tmp_path: Path) -> Path:
    """A copy of it to be broken."""
    return Path(shutil.copytree(shipped, tmp_path / "artefact"))


@pytest.fixture(scope="module")
def gate(model: Model, samples: Samples) -> Gate:
    return Gate(model=model, samples=replace(samples, gate=samples.gate[:FEW]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: Model, gate: Gate) -> Path:
    """An artefact that passed the gate."""
    folder = tmp_path_factory.mktemp("whole") / "artefact"
    folder.mkdir()
    write_artefact(folder, model, RuntimeName.ONNX, Precision.FLOAT32, gate, SILENT)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to be broken."""
    return Path(shutil.copytree(whole, tmp_path / "artefact"))


def refused(gate: Gate, folder: Path, **fields: object) -> str:
    """Why the gate refuses an artefact whose checksums are right."""
    manifest = replace(Manifest.read(folder), files=sums(folder), **fields)  # type: ignore[arg-type]
    (folder / MANIFEST).write_bytes(manifest.to_json())
    with pytest.raises(GateError) as error:
        gate.check(folder, manifest.precision)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.slow
def test_color_images_enter_as_they_are_prepared(whole: Path) -> None:
    figures = Manifest.read(whole).gate
    assert figures.num_images == FEW
    assert figures.changed_values == 0
    assert figures.logit_difference < 1e-5


def test_an_artefact_that_answers_as_the_model_does_passes(ink_gate: Gate, of_ink: Path) -> None:
    figures = ink_gate.check(of_ink, Precision.FLOAT32)
    assert figures.num_images == FEW
    assert figures.batch_sizes == (1, 3, 8)
    assert figures.logit_difference < 1e-5
    assert figures.changed_values == 0
    assert figures.executed == "float32"
    assert figures.loss is None


# --- the preprocessing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"channel_order": ChannelOrder.BGR}, id="red and blue swapped", marks=pytest.mark.slow),
        pytest.param({"mode": ResizeMode.CROP}, id="center crop for letterbox", marks=pytest.mark.slow),
        pytest.param(
            {"mean": (0.485, 0.456, 0.406)}, id="mean of another data set", marks=pytest.mark.slow
        ),
        pytest.param({"mean": (0.5, 0.45, 0.401)}, id="a quarter of a level", marks=pytest.mark.slow),
        pytest.param({"std": (1.0, 1.0, 1.0)}, id="std of another data set", marks=pytest.mark.slow),
        pytest.param({"resize": 32}, id="no center crop", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_images_that_are_prepared_otherwise_are_refused(
    fields: dict[str, object], gate: Gate, folder: Path, with_preprocessing: Callable[..., Model]
) -> None:
    write_entrance(with_preprocessing(gate.model, **fields), folder)
    assert "it prepares images otherwise" in refused(gate, folder)


class WithoutAntialias(ImageEntrance):
    """As many exported networks resize: the filter does not grow where an image shrinks."""

    def forward(self, image: Tensor) -> Tensor:
        own = self.preprocessing
        pixels = image.permute(2, 0, 1)[None].float()
        pixels = F.interpolate(pixels, (own.resize, own.resize), mode="bilinear", antialias=False).round()
        part = slice(own.margin, own.margin + own.crop)
        normalized: Tensor = (pixels[:, :, part, part] - self.mean) / self.std
        return normalized


def write_other_entrance(entrance: ImageEntrance, folder: Path) -> None:
    write_onnx(
        entrance.eval(),
        torch.zeros(*forms.EXAMPLE_SIDES, 3, dtype=torch.uint8),
        {0: torch.export.Dim("height"), 1: torch.export.Dim("width")},
        ("image", ("prepared",)),
        folder / "preprocessing.onnx",
    )


def write_without_antialias(model: Model, folder: Path) -> None:
    write_other_entrance(WithoutAntialias(model.preprocessing), folder)


@pytest.mark.slow
def test_a_resize_without_antialias_is_refused(
    model: Model, samples: Samples, tmp_path: Path, with_preprocessing: Callable[..., Model]
) -> None:
    squashing = with_preprocessing(model, mode=ResizeMode.SQUASH)
    gate = Gate(model=squashing, samples=samples)
    write_artefact(tmp_path, squashing, RuntimeName.ONNX, Precision.FLOAT32, gate, SILENT)
    write_without_antialias(squashing, tmp_path)
    assert "it prepares images otherwise" in refused(gate, tmp_path)


# --- for OpenVINO ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def color_gate(of_colors: Run, photographs: tuple[Path, ...]) -> Gate:
    return Gate(model=of_colors.model, samples=Samples(gate=photographs[:FEW]))


@pytest.fixture(scope="module")
def for_openvino(tmp_path_factory: pytest.TempPathFactory, color_gate: Gate) -> Path:
    """A small artefact for OpenVINO that passed the gate."""
    folder = tmp_path_factory.mktemp("openvino")
    write_artefact(folder, color_gate.model, RuntimeName.OPENVINO, Precision.FLOAT32, color_gate, SILENT)
    return folder


@pytest.fixture
def broken(for_openvino: Path, tmp_path: Path) -> Path:
    """A copy of it to be broken."""
    return Path(shutil.copytree(for_openvino, tmp_path / "artefact"))


def test_an_artefact_for_openvino_passes_in_float32(for_openvino: Path, color_gate: Gate) -> None:
    manifest = Manifest.read(for_openvino)
    manifest.check_files(for_openvino)
    assert manifest.gate.executed == "float32"
    assert manifest.gate.logit_difference < 1e-5
    assert manifest.gate.changed_values == 0
    path = color_gate.samples.gate[0]
    own, (found,) = color_gate.model.predict(path), Artefact.open(for_openvino).predict([path])
    assert found.classes == own.classes
    assert found.probabilities == pytest.approx(own.probabilities, abs=1e-5)
    page = (for_openvino / PAGE).read_text()
    for name in ("model.xml", "model.bin", "preprocessing.xml", "preprocessing.bin"):
        assert f"| `{name}` | " in page


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"channel_order": ChannelOrder.BGR}, id="red and blue swapped"),
        pytest.param({"mode": ResizeMode.CROP}, id="center crop for letterbox", marks=pytest.mark.slow),
    ],
)
def test_images_that_openvino_prepares_otherwise_are_refused(
    fields: dict[str, object], color_gate: Gate, broken: Path, with_preprocessing: Callable[..., Model]
) -> None:
    assert color_gate.model.preprocessing.mode is ResizeMode.LETTERBOX
    in_form_of(write_entrance(with_preprocessing(color_gate.model, **fields), broken), RuntimeName.OPENVINO)
    assert "it prepares images otherwise" in refused(color_gate, broken)


def test_probabilities_twice_through_softmax_are_refused_for_openvino(color_gate: Gate, broken: Path) -> None:
    in_form_of(write_twice(color_gate.model, broken), RuntimeName.OPENVINO)
    assert "its probabilities are not those of its logits" in refused(color_gate, broken)


# --- resizing --------------------------------------------------------------------------------------------------------


class NearestPixels(ImageEntrance):
    """As hosts resize that take the pixel which lies nearest."""

    def forward(self, image: Tensor) -> Tensor:
        own = self.preprocessing
        planes = image.permute(2, 0, 1)
        pixels = gray(planes) if own.channels == 1 else planes
        rows, columns = ((2 * torch.arange(own.resize) + 1) * side // (2 * own.resize) for side in pixels.shape[1:])
        part = slice(own.margin, own.margin + own.crop)
        normalized: Tensor = (pixels[:, rows][:, :, columns][:, part, part] - self.mean) / self.std
        return normalized[None]


def write_nearest(model: Model, folder: Path) -> None:
    write_other_entrance(NearestPixels(model.preprocessing), folder)


def test_a_wrong_resize_is_refused_where_the_data_set_has_no_files(
    finished: Callable[..., Run], of_ink: Path, tmp_path: Path
) -> None:
    run = finished("lenet5", compressed=False)
    gate = Gate(model=run.model, samples=draw_samples(run, None, tmp_path, ()), outputs=("c1", "f6"))
    assert gate.check(of_ink, Precision.FLOAT32).num_levels == 0
    write_nearest(run.model, of_ink)
    assert "it prepares images otherwise" in refused(gate, of_ink)


@pytest.mark.slow
def test_a_wrong_resize_is_refused_where_small_color_images_have_no_files(
    folder: Path, model: Model, tmp_path: Path, with_preprocessing: Callable[..., Model]
) -> None:
    squashing = with_preprocessing(model, mode=ResizeMode.SQUASH, resize=32)
    smooth = [np.asarray(Image.effect_noise((8, 8), 200).resize((32, 32), Image.Resampling.BICUBIC)) for _ in range(12)]
    images = np.stack([np.stack(smooth[i : i + 3]) for i in range(len(smooth) - 2)])
    split = Split(images, np.arange(len(images)) % 6)
    gate = Gate(model=squashing, samples=Samples(gate=tuple(as_files(split, tmp_path))))
    write_entrance(squashing, folder)
    (folder / MANIFEST).write_bytes(replace(Manifest.read(folder), files=sums(folder)).to_json())
    assert gate.check(folder, Precision.FLOAT32).num_levels == 0
    write_nearest(squashing, folder)
    assert "it prepares images otherwise" in refused(gate, folder)


# --- the network ---------------------------------------------------------------------------------------------------


def without_normalization(network: nn.Module) -> None:
    """Batch normalization that was to be folded and was forgotten."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            network.set_submodule(name, nn.Identity())


def four_bits(network: nn.Module) -> None:
    """One layer's weights, in steps of a seventh of the largest."""
    layer = next(layer for layer in reversed(list(network.modules())) if isinstance(layer, nn.Conv2d | nn.Linear))
    with torch.no_grad():
        step = layer.weight.abs().max() / 7
        layer.weight.copy_((layer.weight / step).round() * step)


def bfloat16(network: nn.Module) -> None:
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(value.bfloat16().float())


@pytest.mark.slow
@pytest.mark.parametrize("breaking", [four_bits, without_normalization, bfloat16])
def test_other_weights_are_refused(breaking: Callable[[nn.Module], None], gate: Gate, folder: Path) -> None:
    broken = copy.deepcopy(gate.model.network)
    breaking(broken)
    write_network(broken, gate.model.variant, folder)
    assert "logits differ from the model's" in refused(gate, folder)


def test_one_layer_of_four_bits_is_refused(ink_gate: Gate, of_ink: Path) -> None:
    model = ink_gate.model
    # Untrained, all classes are as near: the last layer's weights hardly count.
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        network.get_submodule("f6").get_parameter("weight").mul_(50)
    broken = copy.deepcopy(network)
    four_bits(broken)
    write_network(broken, model.variant, of_ink)
    gate = replace(ink_gate, model=Model(model.card, load_network=lambda: network))
    assert "logits differ from the model's" in refused(gate, of_ink, outputs=())


def test_classes_in_another_order_are_refused(ink_gate: Gate, of_ink: Path) -> None:
    card = replace(ink_gate.model.card, classes=ink_gate.model.classes[::-1])
    assert "its classes are others, or in another order" in refused(ink_gate, of_ink, card=card)


def write_frozen(model: Model, folder: Path) -> None:
    """A network for batches of one image alone."""
    spec = model.spec
    write_onnx(
        forms.WithProbabilities(model.network, model.variant.objective, ()),
        torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution),
        {},
        ("images", ("logits", "probabilities")),
        folder / "model.onnx",
    )


@pytest.mark.slow
def test_a_batch_that_was_frozen_is_refused(gate: Gate, folder: Path) -> None:
    write_frozen(gate.model, folder)
    assert "Got invalid dimensions for input: images" in refused(gate, folder)


class Twice:
    """Probabilities of probabilities."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(1).softmax(1)


def write_twice(model: Model, folder: Path) -> Path:
    spec = model.spec
    return write_onnx(
        forms.WithProbabilities(model.network, Twice(), ()),
        torch.zeros(2, spec.in_channels, spec.resolution, spec.resolution),
        {0: torch.export.Dim("batch")},
        ("images", ("logits", "probabilities")),
        folder / "model.onnx",
    )


@pytest.mark.slow
def test_probabilities_twice_through_softmax_are_refused(gate: Gate, folder: Path) -> None:
    write_twice(gate.model, folder)
    assert "its probabilities are not those of its logits" in refused(gate, folder)


@pytest.mark.slow
def test_a_script_that_answers_otherwise_is_refused(gate: Gate, folder: Path) -> None:
    script = folder / SCRIPT
    script.write_text(
        script.read_text().replace("np.argsort(-row", "np.argsort(row").replace("classes[i]", "classes[0]")
    )
    assert f"its {SCRIPT} answers otherwise" in refused(gate, folder)
    script.write_text("raise SystemExit('no')")
    assert f"its {SCRIPT} fails" in refused(gate, folder)


def test_a_script_that_leaves_an_image_out_is_refused(ink_gate: Gate, of_ink: Path) -> None:
    script = of_ink / SCRIPT
    script.write_text(script.read_text().replace("reframe(decode(path))", "reframe(decode(path), ink=None)"))
    assert f"its {SCRIPT} does not answer to every image: " in refused(ink_gate, of_ink)


def test_a_file_that_no_runtime_loads_is_refused(ink_gate: Gate, of_ink: Path) -> None:
    path = of_ink / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "damaged" in refused(ink_gate, of_ink)


def test_what_says_int8_and_computes_in_float32_is_refused(
    finished: Callable[..., Run], of_ink: Path, tmp_path: Path
) -> None:
    run = finished("lenet5", compressed=False)
    gate = Gate(model=run.model, samples=draw_samples(run, None, tmp_path, (Precision.INT8,)))
    assert refused(gate, of_ink, precision=Precision.INT8) == "it computes in float32, not in int8"


@pytest.mark.slow
@pytest.mark.skipif(not computes_bfloat16("cpu"), reason="this processor does not multiply in bfloat16")
def test_float32_that_computes_in_bfloat16_is_refused(gate: Gate, tmp_path: Path) -> None:
    manifest = write_artefact(tmp_path, gate.model, RuntimeName.OPENVINO, Precision.FLOAT32, gate, SILENT)
    (tmp_path / MANIFEST).write_bytes(replace(manifest, precision=Precision.BFLOAT16, gate=UNPROVEN).to_json())
    with pytest.raises(GateError, match=r"it computes in bfloat16, not in float32|logits differ"):
        gate.check(tmp_path, Precision.FLOAT32)


# --- what of this is caught in int8 ----------------------------------------------------------------------------------


@pytest.fixture
def of_int8(in_int8: Path, tmp_path: Path) -> Path:
    """A copy of an artefact in int8 to be broken."""
    return Path(shutil.copytree(in_int8, tmp_path / "artefact"))


def quantize_again(gate: Gate, folder: Path) -> None:
    """Put the network of a folder into 8 bits as exports do."""
    split, preprocessing = gate.samples.calibration, gate.model.preprocessing
    assert split is not None
    inputs, path = preprocessing.normalize(preprocessing.center(split.images[:])), folder / "model.onnx"
    made = quantized(read_network(path, RuntimeName.ONNX), inputs, [], weight_bits() < WHOLE, RuntimeName.ONNX)
    int8_child.write_network(made, path, RuntimeName.ONNX)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"channel_order": ChannelOrder.BGR}, id="red and blue swapped"),
        pytest.param({"mode": ResizeMode.CROP}, id="center crop for letterbox"),
        pytest.param({"mean": (0.485, 0.456, 0.406)}, id="mean of another data set"),
    ],
)
def test_int8_that_is_prepared_otherwise_is_refused(
    fields: dict[str, object], int8_gate: Gate, of_int8: Path, with_preprocessing: Callable[..., Model]
) -> None:
    write_entrance(with_preprocessing(int8_gate.model, **fields), of_int8)
    assert "it prepares images otherwise" in refused(int8_gate, of_int8)


@pytest.mark.slow
def test_int8_that_resizes_without_antialias_is_refused(
    int8_gate: Gate, of_int8: Path, with_preprocessing: Callable[..., Model]
) -> None:
    squashing = replace(int8_gate, model=with_preprocessing(int8_gate.model, mode=ResizeMode.SQUASH))
    write_without_antialias(squashing.model, of_int8)
    assert "it prepares images otherwise" in refused(squashing, of_int8)


@pytest.mark.slow
def test_int8_with_classes_in_another_order_is_refused(int8_gate: Gate, of_int8: Path) -> None:
    card = replace(int8_gate.model.card, classes=int8_gate.model.classes[::-1])
    assert "its classes are others, or in another order" in refused(int8_gate, of_int8, card=card)


@pytest.mark.slow
def test_int8_of_a_batch_that_was_frozen_is_refused(int8_gate: Gate, of_int8: Path) -> None:
    write_frozen(int8_gate.model, of_int8)
    quantize_again(int8_gate, of_int8)
    assert "Got invalid dimensions for input: images" in refused(int8_gate, of_int8)


@pytest.mark.slow
def test_int8_with_probabilities_twice_through_softmax_is_refused(int8_gate: Gate, of_int8: Path) -> None:
    write_twice(int8_gate.model, of_int8)
    quantize_again(int8_gate, of_int8)
    assert "its probabilities are not those of its logits" in refused(int8_gate, of_int8)


@pytest.mark.slow
def test_int8_whose_normalization_was_forgotten_is_refused_for_its_accuracy(int8_gate: Gate, of_int8: Path) -> None:
    broken = copy.deepcopy(int8_gate.model.network)
    without_normalization(broken)
    write_network(broken, int8_gate.model.variant, of_int8)
    quantize_again(int8_gate, of_int8)
    assert "points fewer right than the model" in refused(int8_gate, of_int8)


@pytest.mark.slow
@pytest.mark.parametrize("breaking", [four_bits, bfloat16])
def test_int8_with_coarser_weights_passes_as_long_as_it_costs_no_accuracy(
    breaking: Callable[[nn.Module], None], int8_gate: Gate, of_int8: Path
) -> None:
    broken = copy.deepcopy(int8_gate.model.network)
    breaking(broken)
    write_network(broken, int8_gate.model.variant, of_int8)
    quantize_again(int8_gate, of_int8)
    (of_int8 / MANIFEST).write_bytes(replace(Manifest.read(of_int8), files=sums(of_int8)).to_json())
    loss = int8_gate.check(of_int8, Precision.INT8).loss
    assert loss is not None
    assert loss.loss <= int8_gate.max_loss


# --- what lower precision costs --------------------------------------------------------------------------------------


def test_a_loss_is_paired() -> None:
    right = np.array([True] * 90 + [False] * 10)
    answered = right.copy()
    answered[:4], answered[95:97] = False, True
    loss = paired_loss(right, answered, 0.94, "validation images")
    assert loss.loss == pytest.approx(2.0)
    low, high = loss.interval
    # The model was right alone for 4 of 100 and the artefact for 2: the interval is that of their difference.
    assert low == pytest.approx(-3.1, abs=0.1)
    assert high == pytest.approx(7.0, abs=0.1)


def test_where_nothing_changed_few_images_show_little() -> None:
    spans = [paired_loss(np.ones(n, bool), np.ones(n, bool), 1.0, "images").interval[1] for n in (50, 500, 5000)]
    assert spans[0] > 2.5
    assert spans[0] > 8 * spans[1] > 64 * spans[2]


@pytest.mark.parametrize(("changed", "message"), [(6, "6.00 points fewer"), (3, "97.0 %"), (0, "")])
def test_a_loss_beyond_what_is_allowed_says_why(changed: int, message: str, ink_gate: Gate) -> None:
    right = np.ones(100, bool)
    answered = np.arange(100) >= (changed if changed > 3 else 0)
    loss = paired_loss(right, answered, 1 - changed / 100, "validation images")
    assert message in ink_gate.why_not(loss)
    assert bool(ink_gate.why_not(loss)) == bool(message)


def test_another_class_is_refused_only_where_the_difference_of_logits_is_not_why() -> None:
    logits = np.array([[1.0, 0.0], [0.0, 0.01]])
    close = np.array([[1.0, 0.0], [0.01, 0.0]])
    check_classes(close, logits)
    # The margin of the first image is larger than its own difference, whatever that of another image is.
    for second in (0.01, 9.0):
        with pytest.raises(GateError, match="another class than the model for 1 of 2"):
            check_classes(np.array([[0.3, 0.4], [0.0, second]]), logits)


def test_an_image_in_a_batch_is_answered_as_alone() -> None:
    logits = np.array([[1.0, 0.0], [0.0, 4.0]])
    check_batches({1: logits, 3: logits + 0.1, 8: logits - 0.1})
    with pytest.raises(GateError, match="in batches of 8 it answers otherwise than one by one"):
        check_batches({1: logits, 3: logits, 8: logits - logits.mean(0)})


def test_differences_from_zeros_and_from_no_numbers_are_numbers_and_none() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert largest_difference(zeros, zeros) == 0
    assert largest_difference(zeros + 0.5, zeros) == 0.5
    assert np.isnan(largest_difference(zeros * np.nan, zeros))


def test_few_images_go_through_the_gate_in_whole_batches(
    ink_gate: Gate, of_ink: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def noting(artefact: Path, work: Path) -> object:
        sizes.append(len(np.load(work / gate_child.PREPARED)))
        return run_child(artefact, work)

    monkeypatch.setattr(convatlas.deployment.gate, "run_child", noting)
    figures = ink_gate.check(of_ink, Precision.FLOAT32)
    assert sizes == [8]
    assert figures.num_images == FEW


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_products_have_the_names_of_their_layers(model: Model, whole: Path) -> None:
    found = [product.layer for product in products_of(whole / "model.onnx", NETWORK)]
    names = [name for name, layer in model.network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sorted(found) == sorted(names)


def test_the_script_and_the_page_are_short_and_whole(shipped: Path) -> None:
    manifest = Manifest.read(shipped)
    assert (shipped / SCRIPT).read_bytes() == pages.script(manifest)
    for runtime in RuntimeName:
        lines = pages.script(replace(manifest, runtime=runtime)).decode().splitlines()
        assert len(lines) < 100
        assert max(map(len, lines)) <= 120
    assert len((shipped / "requirements.txt").read_text().splitlines()) == 2
    page = (shipped / "README.md").read_text()
    assert "lenet5 on digits, for ONNX Runtime in float32" in page
    assert "(n, 1, 28, 28)" in page
    assert "the feature maps `c1`, `f6`" in page
