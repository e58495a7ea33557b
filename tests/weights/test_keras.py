"""Keras's networks: each tensor has its place in one of ours, which then computes the same."""

from __future__ import annotations

import gzip
import importlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas import atlas
from convatlas.measure.table import build_without_memory
from convatlas.spec import Spec
from convatlas.weights.formats import keras as keras_file
from convatlas.weights.keras import IMAGENET_STD, KERAS, normalization, renamed
from convatlas.weights.library import Network
from convatlas.weights.mapping import Mapped, MappingError, mapped

RECORDED = Path(__file__).with_name("keras_layers.json.gz")
"""See record_keras.py."""
VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "normalization": ("mean", "variance"),
}
RESIDUAL_END = re.compile(r"block\d[b-z]_project_bn")
"""The last normalization of an EfficientNet's residual branch. The first block of a stage, its a, has no shortcut."""
NETWORKS = {network.name: network for network in KERAS.networks}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """For each network its layers, as class, name and shapes."""
    found: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return found


def spec_of(network: Network) -> Any:
    return atlas.find(network.variant).spec.at(network.scale)


def tensors_of(layers: list[Any], numbered: bool = False) -> dict[str, Tensor]:
    """As they are read, without values; layers are called by their classes where they are numbered."""
    tensors, numbers = {}, Counter[str]()
    for kind, name, shapes in layers:
        number = f"_{numbers[kind]}" if numbers[kind] else ""
        numbers[kind] += 1
        for role, shape in zip(VARIABLES[kind], shapes, strict=False):
            ending, lay_out, _ = keras_file.ROLES[role]
            layer = f"{kind}{number}" if numbered else name
            tensors[f"{layer}.{ending}"] = lay_out(torch.empty(shape, device="meta"))
    return tensors


def mapped_on_meta(network: Network, tensors: dict[str, Tensor], spec: Spec | None = None) -> Mapped:
    spec = spec or spec_of(network)
    ours = build_without_memory(atlas.find(network.variant).network, spec)
    return mapped(renamed(tensors, spec), KERAS.names(spec), ours, network.name)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_has_its_place(name: str, recorded: dict[str, Any]) -> None:
    report = mapped_on_meta(NETWORKS[name], tensors_of(recorded[name]))
    aside = ("mean", "var") if name.startswith("efficientnet") else ()
    assert [name.partition("running_")[2] for name in report.ignored] == list(aside)
    assert len({row.ours for row in report.rows}) == len(report.tensors) == len(report.rows)


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_that_a_file_numbers_get_their_names(name: str, recorded: dict[str, Any]) -> None:
    numbered = tensors_of(recorded[name], numbered=True)
    assert "conv2d_1.weight" in numbered
    given = renamed(numbered, spec_of(NETWORKS[name]))
    # In the same order, so that layers of equal shapes cannot change places.
    assert list(given) == [
        tensor.replace("normalization_1.", "normalization.") for tensor in tensors_of(recorded[name])
    ]


def test_a_vgg_for_smaller_images_is_refused_by_its_shape(recorded: dict[str, Any]) -> None:
    # Keras's with an input of 150 px has maps of 4x4, which are not laid out as maps of 7x7.
    smaller = tensors_of(recorded["vgg16"]) | {"fc1.weight": torch.empty(4096, 4 * 4 * 512, device="meta")}
    with pytest.raises(MappingError, match=r"its fc1\.weight has the shape \(4096, 8192\), and fc6\.weight has"):
        mapped_on_meta(NETWORKS["vgg16"], smaller)


@pytest.mark.parametrize(
    ("taken", "asked", "reason"),
    [
        ("resnet50", "resnet101", "it has no conv4_block7_1_conv.weight, conv4_block7_1_conv.bias"),
        ("resnet101", "resnet50", "nothing here takes its conv4_block7_1_conv.weight"),
        ("efficientnetb1", "efficientnetb0", "nothing here takes its block1b_dwconv.weight"),
        ("mobilenet_1.00", "mobilenet_0.50", r"its conv1.weight has the shape \(32, 3, 3, 3\)"),
        ("vgg16", "vgg19", "it has no block3_conv4.weight"),
        ("vgg16", "resnet50", r"its predictions.weight has the shape \(1000, 4096\)"),
    ],
)
def test_another_network_is_refused(taken: str, asked: str, reason: str, recorded: dict[str, Any]) -> None:
    with pytest.raises(MappingError, match=reason):
        mapped_on_meta(NETWORKS[asked], tensors_of(recorded[taken]))


def test_a_network_without_its_head_says_what_is_missing(recorded: dict[str, Any]) -> None:
    tensors = {name: value for name, value in tensors_of(recorded["resnet50"]).items() if "predictions" not in name}
    with pytest.raises(MappingError, match=r"it has no predictions.weight, predictions.bias$"):
        mapped_on_meta(NETWORKS["resnet50"], tensors)


def test_resnet50_of_the_paper_is_not_keras_s(recorded: dict[str, Any]) -> None:
    network = Network(name="resnet50", variant="resnet50")
    with pytest.raises(MappingError, match=r"nothing here takes its conv1_conv\.bias"):
        mapped_on_meta(network, tensors_of(recorded["resnet50"]))


def test_what_efficientnet_normalizes_by() -> None:
    def told(variance: list[float]) -> Any:
        mean = torch.tensor([0.485, 0.456, 0.406])
        return normalization(
            {
                "stem_bn.running_mean": torch.ones(3),
                "stem_bn.running_var": torch.ones(3),
                "normalization_7.running_mean": mean,
                "normalization_7.running_var": torch.tensor(variance),
            }
        )

    # The published files have a standard deviation in the place of a variance.
    assert told([*IMAGENET_STD])[1] == pytest.approx(IMAGENET_STD)
    assert told([0.25, 0.04, 0.01])[1] == pytest.approx((0.5, 0.2, 0.1))
    assert told([1, 1, 1]) == (pytest.approx((0.485, 0.456, 0.406)), (1, 1, 1))
    # One number for all channels is a value too, for whoever holds it against the number of channels.
    scalars = {"normalization.running_mean": torch.tensor(0.5), "normalization.running_var": torch.tensor(0.25)}
    assert normalization(scalars) == ((0.5,), (0.5,))
    assert normalization({"stem_bn.running_mean": torch.ones(3), "stem_bn.running_var": torch.ones(3)}) is None


@pytest.fixture(scope="module")
def keras() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        keras = pytest.importorskip("keras", minversion="3", reason="Keras is not installed")
        pytest.importorskip("h5py", reason="h5py is not installed")
        if keras.config.backend() != "torch":
            pytest.skip("Keras computes with another library")
        # Keras takes double and single together for single, in its normalization and its fully connected layers: small
        # errors that deep networks enlarge. Here double stays double.
        dtypes = importlib.import_module("keras.src.backend.common.dtypes")
        usual = dtypes.result_type

        def result_type(*given: Any) -> str:
            found: str = usual(*given)
            return keras.config.floatx() if found == "float32" else found

        patch.setattr(dtypes, "result_type", result_type)
        patch.setattr("keras.src.backend.result_type", result_type)
        before = keras.config.floatx()
        yield keras
        keras.config.set_floatx(before)


def theirs(keras: ModuleType, network: Network, side: int) -> Any:
    """Keras's network with ten classes."""
    makers = {name.lower(): make for name, make in vars(keras.applications).items() if callable(make)}
    name, *alpha = network.name.split("_")
    options: dict[str, Any] = {"alpha": float(*alpha)} if alpha else {}
    shape = (side, side, 3)
    return makers[name](weights=None, input_shape=shape, classes=10, classifier_activation=None, **options)


def randomize(model: Any, images: Tensor) -> None:
    """Give every number another value than it begins with, such that outputs depend on inputs after many layers too.

    Normalization gets the statistics of what it reads of the images, and then others near them. At the end of a
    residual branch it scales down, as in trained networks: sums of branches as large as their inputs enlarge rounding
    errors block by block, and single precision would tell nothing of networks as deep as EfficientNets.
    """
    draw = np.random.default_rng(0)
    for weight in model.weights:
        shape = tuple(weight.shape)
        match weight.path.rpartition("/")[2]:
            case "kernel":
                # Of a depthwise convolution, an output reads one channel.
                depthwise = len(shape) == 4 and shape[3] == 1 and shape[0] > 1
                inputs = shape[0] * shape[1] if depthwise else int(np.prod(shape[:-1]))
                weight.assign(draw.normal(0, (2 / inputs) ** 0.5, shape))
            case "bias":
                weight.assign(draw.normal(0, 0.1, shape))
            case "mean":
                weight.assign(draw.uniform(0.4, 0.5, shape))
            case "variance":
                weight.assign(draw.uniform(0.05, 0.1, shape))
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        with torch.no_grad():
            model(images, training=True)
    for norm in norms:
        size = norm.gamma.shape
        variance = np.maximum(np.asarray(norm.moving_variance.numpy()), 0.01)
        norm.moving_mean.assign(norm.moving_mean.numpy() + 0.2 * variance**0.5 * draw.normal(size=size))
        norm.moving_variance.assign(variance * draw.uniform(0.7, 1.4, size))
        norm.gamma.assign(draw.uniform(0.7, 1.3, size) * (0.5 if RESIDUAL_END.fullmatch(norm.name) else 1))
        norm.beta.assign(draw.normal(0, 0.2, size))


def save_legacy(keras: ModuleType, model: Any, path: Path) -> None:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def save_keras_3(keras: ModuleType, model: Any, path: Path) -> None:
    model.save_weights(path)


def save_unnamed(keras: ModuleType, model: Any, path: Path) -> None:
    """As the first versions of Keras 3."""
    import h5py

    model.save_weights(path)
    with h5py.File(path, "a") as file:
        for group in file["layers"].values():
            del group["vars"].attrs["name"]


Save = Callable[[ModuleType, Any, Path], None]
SAVED: dict[str, Save] = {"w.h5": save_legacy, "w.weights.h5": save_keras_3, "u.weights.h5": save_unnamed}


def outputs(network: nn.Module, images: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Of ours, for images as Keras's reads them: (batch, height, width, 3)."""
    given = normalization(tensors)
    if given is not None:
        mean, std = (torch.tensor(values, dtype=images.dtype) for values in given)
        images = (images / 255 - mean) / std
    with torch.no_grad():
        found: Tensor = network(images.permute(0, 3, 1, 2))
    return found


def difference(keras: ModuleType, network: Network, side: int, dtype: str, folder: Path, saved: list[str]) -> float:
    """The largest of the outputs, relative to the largest output."""
    keras.config.set_floatx(dtype)
    model = theirs(keras, network, side)
    images = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (2, side, side, 3)).astype(dtype))
    if network.name.startswith("efficientnet"):
        images = 127.5 * (images + 1)
    randomize(model, images)
    with torch.no_grad():
        expected = model(images, training=False)
    # Outputs that are the same whatever the input would compare nothing.
    assert (expected[0] - expected[1]).abs().max() > 0.01 * expected.abs().max()
    variant = atlas.find(network.variant)
    spec = replace(variant.spec.at(replace(network.scale, resolution=side)), num_classes=10)
    ours = variant.network(spec).to(getattr(torch, dtype)).eval()
    worst = 0.0
    for name in saved:
        SAVED[name](keras, model, folder / name)
        tensors = dict(renamed(keras_file.read(folder / name), spec))
        mapped(tensors, KERAS.names(spec), ours, name).load_into(ours)
        found = (outputs(ours, images, tensors) - expected).abs().max() / expected.abs().max()
        worst = max(worst, float(found))
    print(f"{network.name} {dtype}: {worst:.1e}")
    return worst


@pytest.mark.parity
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("default")
def test_ours_computes_what_keras_s_does(name: str, keras: ModuleType, tmp_path: Path) -> None:
    # Odd sides, which are padded otherwise than even ones; MobileNet has a test of its own.
    side = 96 if name.startswith("mobilenet") else 75
    assert difference(keras, NETWORKS[name], side, "float64", tmp_path, list(SAVED)) <= 1e-5
    assert difference(keras, NETWORKS[name], side, "float32", tmp_path, ["w.h5"]) <= 1e-4


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
def test_keras_s_mobilenet_pads_otherwise_at_sides_that_are_no_multiple_of_32(
    keras: ModuleType, tmp_path: Path
) -> None:
    network = NETWORKS["mobilenet_0.25"]
    assert difference(keras, network, 128, "float64", tmp_path, ["w.h5"]) <= 1e-5
    assert difference(keras, network, 100, "float64", tmp_path, ["w.h5"]) > 1e-3
