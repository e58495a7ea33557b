"""A model in another runtime's form: the files of its network and of its preprocessing."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from convatlas.compression.folding import fold_batch_norm
from convatlas.deployment.entrance import ImageEntrance
from convatlas.deployment.manifest import RuntimeName
from convatlas.deployment.predictor import LOGITS, PROBABILITIES
from convatlas.deployment.runtimes import runtime_module
from convatlas.errors import UserError
from convatlas.files.artefacts import ENTRANCE
from convatlas.models.model import Model
from convatlas.networks.connections import ConnectedConv2d
from convatlas.networks.features import Features
from convatlas.networks.quantization import remove_fake_quant
from convatlas.spec import Objective, Spec, Variant

OPSET = 21
"""Of ONNX: the first whose quantization is complete."""
NETWORK = "features.network"
"""The name of the network's module in the one that is exported."""
EXAMPLE_BATCH = 2
"""A batch of one would be taken for a constant."""
EXAMPLE_SIDES = (301, 402)
"""Of an image; they differ from each other and from all sides that a network has."""


class WithProbabilities(nn.Module):
    """A network that gives its logits, the probabilities of the classes and feature maps."""

    def __init__(self, network: nn.Module, objective: Objective, outputs: Sequence[str]) -> None:
        super().__init__()
        self.features = Features(network, outputs)
        self.objective = objective

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits, maps = self.features.with_output(images)
        return logits, self.objective.probabilities(logits), *(maps[name] for name in self.features.at)


class UnitBiasConv2d(nn.Conv2d):
    """A convolution with a bias for every unit."""

    def __init__(self, layer: ConnectedConv2d) -> None:
        weight = layer.dense_weight()
        out_channels, in_channels, kernel_size, _ = weight.shape
        super().__init__(in_channels, out_channels, kernel_size, layer.stride, bias=False)
        self.weight = nn.Parameter(weight.detach())
        self.unit_bias = nn.Parameter(layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.unit_bias


def check_keeps_floats(model: Model) -> None:
    """
    Raises:
        UserError: the model computes in 8 bits, and would be another one in another precision.
    """
    if any(layer.input_low is not None for layer in model.card.quantization or ()):
        raise UserError(f"the layers of {model.name} round their inputs to 8 bits; export it in int8")


def with_dense_weights(network: nn.Module) -> nn.Module:
    """The network with usual convolutions in place of those with a table: a graph would make their weights anew for
    every image, and quantizers know no weights that are made."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, ConnectedConv2d):
            network.set_submodule(name, UnitBiasConv2d(layer))
    return network


def write_network(network: nn.Module, variant: Variant, folder: Path, outputs: Sequence[str] = ()) -> Path:
    """Write a network as ONNX, in float32 and for batches of any size.

    Batch normalization is folded into the convolutions before it, unless feature maps are asked for: those of a folded
    convolution would be others.

    Args:
        outputs: layers whose feature maps the network is to give too, see `check_outputs`.
    """
    copied = copy.deepcopy(network) if outputs else fold_batch_norm(network)
    network = with_dense_weights(remove_fake_quant(copied)).eval()
    spec = network.spec
    assert isinstance(spec, Spec), "every network of the atlas has one"
    example = torch.zeros(EXAMPLE_BATCH, spec.in_channels, spec.resolution, spec.resolution)
    return write_onnx(
        WithProbabilities(network, variant.objective, outputs),
        example,
        {0: torch.export.Dim("batch")},
        ("images", (LOGITS, PROBABILITIES, *outputs)),
        folder / "model.onnx",
    )


@torch.inference_mode()
def check_outputs(model: Model, outputs: Sequence[str]) -> None:
    """
    Raises:
        UserError: there is no such layer, it does not run, or it is named twice.
    """
    if not outputs:
        return
    if len(set(outputs)) < len(outputs):
        raise UserError(f"`outputs` names a layer twice: {', '.join(outputs)}")
    spec = model.spec
    found = Features(model.network, outputs)(torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution))
    if missing := [name for name in outputs if not isinstance(found.get(name), Tensor)]:
        raise UserError(f"the layer {missing[0]} gives no maps; convatlas show lists those that do")


def write_entrance(model: Model, folder: Path) -> Path:
    """Write a model's preprocessing as ONNX, for images of any size.

    Raises:
        UserError: it has no graph.
    """
    height, width = EXAMPLE_SIDES
    return write_onnx(
        ImageEntrance(model.preprocessing).eval(),
        torch.zeros(height, width, 3, dtype=torch.uint8),
        {0: torch.export.Dim("height"), 1: torch.export.Dim("width")},
        ("image", ("prepared",)),
        folder / f"{ENTRANCE}.onnx",
    )


def write_onnx(
    network: nn.Module,
    example: Tensor,
    dims: dict[int, torch.export.Dim],
    names: tuple[str, tuple[str, ...]],
    path: Path,
) -> Path:
    given, outputs = names
    with quiet_exporter():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            input_names=[given],
            output_names=list(outputs),
            dynamic_shapes=[dims],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None, "with dynamo it gives a program"
    program.save(path)
    return path


def in_form_of(path: Path, runtime: RuntimeName) -> Path:
    """An ONNX file in the form of a runtime: as it is, or converted in its place."""
    if runtime is RuntimeName.ONNX:
        return path
    openvino = runtime_module(runtime)
    converted = path.with_suffix(runtime.suffix)
    # Not `convert_model`, which reports to its makers that it was called.
    try:
        openvino.save_model(openvino.Core().read_model(str(path)), str(converted), compress_to_fp16=False)
    except RuntimeError as error:
        raise UserError(f"{converted} cannot be written: {str(error).strip().splitlines()[-1][:200]}") from error
    path.unlink()
    return converted


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """While active, PyTorch's exporter says nothing: not that torchvision is missing, and not how it is built."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
