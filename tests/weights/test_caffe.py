"""Caffe's networks: laid out once more as their prototxt files have them, and computed by OpenCV's reader of Caffe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from convatlas import atlas
from convatlas.spec import Spec
from convatlas.weights.caffe import CAFFE
from convatlas.weights.library import Network
from convatlas.weights.mapping import Mapped, MappingError, mapped
from convatlas.weights.reading import read_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

LARGEST_DIFFERENCE = 1e-4
"""Of logits in single precision, over the largest logit."""


class Prototxt:
    """A network as text, with random blobs for the layers that have any."""

    def __init__(self, name: str, side: int, layer: Any, seed: int = 0) -> None:
        self.layer_of, self.draw = layer, np.random.default_rng(seed)
        self.text = f'name: "{name}"\ninput: "data"\ninput_shape {{ dim: 1 dim: 3 dim: {side} dim: {side} }}\n'
        self.layers: list[Any] = []
        self.channels = {"data": 3}

    def add(
        self, name: str, kind: str, bottoms: Sequence[str], top: str = "", options: str = "", blobs: Sequence[Any] = ()
    ) -> str:
        """A layer; its output has its name, or `top`, and as many channels as its input unless somebody says more."""
        top = top or name
        reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.text += f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top}" {options} }}\n'
        self.layers.append(self.layer_of(name, kind, tuple(bottoms), (top,), tuple(blobs)))
        self.channels[top] = self.channels[bottoms[0]]
        return top

    def numbers(self, *shape: int, around: float = 0.0, spread: float = 0.2) -> Any:
        return self.draw.uniform(around - spread, around + spread, shape).astype(np.float32)

    def conv(
        self,
        name: str,
        bottom: str,
        num: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        group: int = 1,
        bias: bool = True,
    ) -> str:
        read = self.channels[bottom] // group
        blobs = [self.numbers(num, read, kernel, kernel, spread=(6 / (read * kernel**2)) ** 0.5)]
        blobs += [self.numbers(num)] * bias
        options = (
            f"convolution_param {{ num_output: {num} kernel_size: {kernel} stride: {stride} pad: {pad} group: {group} "
            f"bias_term: {str(bias).lower()} }}"
        )
        self.add(name, "Convolution", [bottom], "", options, blobs)
        self.channels[name] = num
        return name

    def full(self, name: str, bottom: str, num: int, read: int) -> str:
        blobs = [self.numbers(num, read, spread=(6 / read) ** 0.5), self.numbers(num)]
        self.add(name, "InnerProduct", [bottom], "", f"inner_product_param {{ num_output: {num} }}", blobs)
        self.channels[name] = num
        return name

    def relu(self, bottom: str) -> str:
        return self.add(f"relu_{bottom}", "ReLU", [bottom], bottom)

    def norm(self, bottom: str, name: str, scale: str, in_place: bool) -> str:
        """Batch normalization, its mean and variance over a divisor of their own, and the scale."""
        num, divisor = self.channels[bottom], 7.5
        blobs = self.numbers(num), self.numbers(num, around=1) * divisor, np.array([divisor], np.float32)
        options = "batch_norm_param { use_global_stats: true }"
        top = self.add(name, "BatchNorm", [bottom], bottom if in_place else "", options, blobs)
        blobs = self.numbers(num, around=1), self.numbers(num)
        return self.add(scale, "Scale", [top], top, "scale_param { bias_term: true }", blobs)

    def pool(self, name: str, bottom: str, kind: str = "MAX", kernel: int = 3, stride: int = 2, pad: int = 0) -> str:
        options = f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride} pad: {pad} }}"
        return self.add(name, "Pooling", [bottom], "", options)

    def average(self, name: str, bottom: str) -> str:
        return self.add(name, "Pooling", [bottom], "", "pooling_param { pool: AVE global_pooling: true }")

    def lrn(self, name: str, bottom: str) -> str:
        return self.add(name, "LRN", [bottom], "", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def joined(self, name: str, bottoms: Sequence[str]) -> str:
        self.add(name, "Concat", bottoms)
        self.channels[name] = sum(self.channels[bottom] for bottom in bottoms)
        return name


def bvlc_alexnet(p: Prototxt, spec: Any) -> None:
    c1, c2, c3, c4, c5 = spec.convolutions
    x = p.pool("pool1", p.lrn("norm1", p.relu(p.conv("conv1", "data", c1, 11, 4))))
    x = p.pool("pool2", p.lrn("norm2", p.relu(p.conv("conv2", x, c2, 5, 1, 2, 2))))
    x = p.relu(p.conv("conv4", p.relu(p.conv("conv3", x, c3, 3, 1, 1)), c4, 3, 1, 1, 2))
    x = p.pool("pool5", p.relu(p.conv("conv5", x, c5, 3, 1, 1, 2)))
    x = p.relu(p.full("fc6", x, spec.fully[0], c5 * 6 * 6))
    p.full("fc8", p.relu(p.full("fc7", x, spec.fully[1], spec.fully[0])), spec.num_classes, spec.fully[1])


def vgg(p: Prototxt, spec: Any) -> None:
    x = "data"
    for number, stage in enumerate(spec.stages, 1):
        for place, (num, _) in enumerate(stage, 1):
            x = p.relu(p.conv(f"conv{number}_{place}", x, num, 3, 1, 1))
        x = p.pool(f"pool{number}", x, kernel=2)
    x = p.relu(p.full("fc6", x, spec.fully[0], p.channels[x] * 7 * 7))
    p.full("fc8", p.relu(p.full("fc7", x, spec.fully[1], spec.fully[0])), spec.num_classes, spec.fully[1])


def bvlc_googlenet(p: Prototxt, spec: Any) -> None:
    c1, reduce, c2 = spec.stem
    x = p.lrn("pool1/norm1", p.pool("pool1/3x3_s2", p.relu(p.conv("conv1/7x7_s2", "data", c1, 7, 2, 3))))
    x = p.relu(p.conv("conv2/3x3", p.relu(p.conv("conv2/3x3_reduce", x, reduce, 1)), c2, 3, 1, 1))
    x = p.pool("pool2/3x3_s2", p.lrn("conv2/norm2", x))
    middle = {}
    for number, stage in enumerate(spec.stages, 3):
        for letter, (n1x1, r3x3, n3x3, r5x5, n5x5, pool_proj) in zip("abcde", stage, strict=False):
            name = f"inception_{number}{letter}"
            branches = [
                p.relu(p.conv(f"{name}/1x1", x, n1x1, 1)),
                p.relu(p.conv(f"{name}/3x3", p.relu(p.conv(f"{name}/3x3_reduce", x, r3x3, 1)), n3x3, 3, 1, 1)),
                p.relu(p.conv(f"{name}/5x5", p.relu(p.conv(f"{name}/5x5_reduce", x, r5x5, 1)), n5x5, 5, 1, 2)),
                p.relu(p.conv(f"{name}/pool_proj", p.pool(f"{name}/pool", x, stride=1, pad=1), pool_proj, 1)),
            ]
            middle[f"{number}{letter}"] = x = p.joined(f"{name}/output", branches)
        x = p.pool(f"pool{number}/3x3_s2", x) if number < 5 else x
    for name, place in (("loss1", "4a"), ("loss2", "4d")):
        y = p.relu(p.conv(f"{name}/conv", p.pool(f"{name}/ave_pool", middle[place], "AVE", 5, 3), spec.auxiliary[0], 1))
        y = p.relu(p.full(f"{name}/fc", y, spec.auxiliary[1], spec.auxiliary[0] * 4 * 4))
        p.full(f"{name}/classifier", y, spec.num_classes, spec.auxiliary[1])
    x = p.average("pool5/7x7_s1", x)
    p.full("loss3/classifier", x, spec.num_classes, p.channels[x])


def resnet(p: Prototxt, spec: Any, numbered: bool, bias: bool) -> None:
    def unit(name: str, bottom: str, num: int, kernel: int = 1, stride: int = 1) -> str:
        x = p.conv(f"res{name}", bottom, num, kernel, stride, kernel // 2, bias=False)
        return p.norm(x, f"bn{name}", f"scale{name}", in_place=True)

    x = p.norm(p.conv("conv1", "data", spec.stem, 7, 2, 3, bias=bias), "bn_conv1", "scale_conv1", in_place=True)
    x = p.pool("pool1", p.relu(x))
    for number, stage in enumerate(spec.stages, 2):
        for place, (a, b, c) in enumerate(stage):
            counted = numbered and number in (3, 4) and place
            name = f"{number}b{place}" if counted else f"{number}{'abcdef'[place]}"
            stride = 2 if number > 2 and not place else 1
            shortcut = x if place else unit(f"{name}_branch1", x, c, 1, stride)
            y = p.relu(unit(f"{name}_branch2b", p.relu(unit(f"{name}_branch2a", x, a, 1, stride)), b, 3))
            y = unit(f"{name}_branch2c", y, c)
            x = p.relu(p.add(f"res{name}", "Eltwise", [shortcut, y]))
    x = p.average("pool5", x)
    p.full("fc1000", x, spec.num_classes, p.channels[x])


def squeezenet(p: Prototxt, spec: Any, pad: int) -> None:
    x, number = p.relu(p.conv("conv1", "data", spec.conv1, spec.kernel, 2)), 2
    for stage in spec.stages:
        x = p.pool(f"pool_before{number}", x)
        for s1x1, e1x1, e3x3 in stage:
            name = f"fire{number}"
            y = p.relu(p.conv(f"{name}/squeeze1x1", x, s1x1, 1))
            expanded = [p.conv(f"{name}/expand1x1", y, e1x1, 1), p.conv(f"{name}/expand3x3", y, e3x3, 3, 1, 1)]
            x, number = p.joined(f"{name}/concat", list(map(p.relu, expanded))), number + 1
    p.average("pool10", p.relu(p.conv("conv10", x, spec.num_classes, 1, 1, pad)))


def mobilenet(p: Prototxt, spec: Any) -> None:
    def layer(name: str, bottom: str, num: int, kernel: int, stride: int = 1, group: int = 1) -> str:
        x = p.conv(name, bottom, num, kernel, stride, kernel // 2, group, bias=False)
        return p.relu(p.norm(x, f"{name}/bn", f"{name}/scale", in_place=False))

    x = layer("conv1", "data", spec.conv1, 3, 2)
    names = ["2_1", "2_2", "3_1", "3_2", "4_1", "4_2", "5_1", "5_2", "5_3", "5_4", "5_5", "5_6", "6"]
    strided = ("2_2", "3_2", "4_2", "5_6")
    for name, num in zip(names, sum(spec.stages, ()), strict=True):
        x = layer(f"conv{name}/dw", x, p.channels[x], 3, 2 if name in strided else 1, p.channels[x])
        x = layer(f"conv{name}/sep", x, num, 1)
    p.conv("fc7", p.average("pool6", x), spec.num_classes, 1)


LAYOUTS: dict[str, Callable[[Prototxt, Any], None]] = {
    "bvlc_alexnet": bvlc_alexnet,
    "bvlc_googlenet": bvlc_googlenet,
    "VGG_ILSVRC_16_layers": vgg,
    "VGG_ILSVRC_19_layers": vgg,
    "ResNet-50-model": lambda p, spec: resnet(p, spec, numbered=False, bias=True),
    "ResNet-101-model": lambda p, spec: resnet(p, spec, numbered=True, bias=False),
    "ResNet-152-model": lambda p, spec: resnet(p, spec, numbered=True, bias=False),
    "squeezenet_v1.0": lambda p, spec: squeezenet(p, spec, pad=1),
    "squeezenet_v1.1": lambda p, spec: squeezenet(p, spec, pad=0),
    "mobilenet": mobilenet,
}
NETWORKS = {network.name: network for network in CAFFE.networks}


def thin(network: Network) -> Spec:
    """The network of a small width: all of its layers, at its own resolution."""
    spec = atlas.find(network.variant).spec.at(replace(network.scale, width=0.125))
    return replace(spec, num_classes=10)


@pytest.fixture
def laid_out(tmp_path: Path, layer: Any, encoder: Callable[..., Any]) -> Callable[[str], tuple[nn.Module, Mapped]]:
    """`laid_out(name)` is our network with random weights from Caffe's files, which lie in `tmp_path`."""

    def lay_out(name: str) -> tuple[nn.Module, Mapped]:
        network = NETWORKS[name]
        spec = thin(network)
        prototxt = Prototxt(name, spec.resolution, layer)
        LAYOUTS[name](prototxt, spec)
        (tmp_path / "net.prototxt").write_text(prototxt.text)
        (tmp_path / "net.caffemodel").write_bytes(encoder().network(prototxt.layers))
        net = atlas.find(network.variant).network(spec).eval()
        checkpoint = read_checkpoint(tmp_path / "net.caffemodel")
        found = mapped(checkpoint.tensors, CAFFE.names(spec), net, name)
        found.load_into(net)
        return net, found

    return lay_out


def test_every_network_has_a_layout() -> None:
    assert LAYOUTS.keys() == NETWORKS.keys()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "ResNet-50-model" else pytest.mark.parity) for name in LAYOUTS]
)
def test_all_tensors_are_mapped(name: str, laid_out: Callable[[str], tuple[nn.Module, Mapped]]) -> None:
    net, found = laid_out(name)
    assert {row.ours for row in found.rows} == {
        tensor for tensor in net.state_dict() if not tensor.endswith("num_batches_tracked")
    }
    assert not found.ignored


@pytest.mark.parity
@pytest.mark.parametrize("name", LAYOUTS)
def test_opencv_gives_the_same_outputs(
    name: str, laid_out: Callable[[str], tuple[nn.Module, Mapped]], tmp_path: Path
) -> None:
    dnn = pytest.importorskip("cv2", reason="compares with OpenCV's reader of Caffe").dnn
    if not hasattr(dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV reads no networks of Caffe; version 4 does")
    net, _ = laid_out(name)
    theirs = dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    side = net.get_submodule("").spec.resolution
    images = np.random.default_rng(1).uniform(-100, 100, (1, 3, side, side)).astype(np.float32)
    theirs.setInput(images)
    outputs = [("", "")]
    if name == "bvlc_googlenet":
        outputs = [("loss3/classifier", ""), ("loss1/classifier", "auxiliary_4a"), ("loss2/classifier", "auxiliary_4d")]
    for their_name, our_name in outputs:
        expected = torch.from_numpy(theirs.forward(their_name or None)).flatten(1)
        logits = output_of(net, our_name, torch.from_numpy(images)).flatten(1)
        assert (logits - expected).abs().max() <= LARGEST_DIFFERENCE * expected.abs().max()
        assert expected.std() > 1e-3 * expected.abs().max()


def output_of(net: nn.Module, name: str, images: Tensor) -> Tensor:
    """Of a network in evaluation mode, or of one of its auxiliary classifiers, which only training calls."""
    read: list[Tensor] = []
    if name:
        stage = net.get_submodule("inception4")
        place = 0 if name.endswith("a") else net.get_submodule("").last_auxiliary
        stage[place].register_forward_hook(lambda module, inputs, output: read.append(output))
    with torch.no_grad():
        outputs: Tensor = net(images)
        return net.get_submodule(name)(read[-1]) if name else outputs


def test_another_network_is_refused_by_the_name_of_a_tensor(
    laid_out: Callable[[str], tuple[nn.Module, Mapped]], tmp_path: Path
) -> None:
    laid_out("squeezenet_v1.1")
    tensors = read_checkpoint(tmp_path / "net.caffemodel").tensors
    for name, message in (
        (
            "squeezenet_v1.0",
            r"its conv1.weight has the shape \(8, 3, 3, 3\), and conv1.conv.weight has \(12, 3, 7, 7\)",
        ),
        ("VGG_ILSVRC_16_layers", r"it has no conv1_1.weight, conv1_1.bias, conv1_2.weight and 29 other tensors"),
    ):
        spec = thin(NETWORKS[name])
        net = atlas.find(NETWORKS[name].variant).network(spec)
        with pytest.raises(MappingError, match=message):
            mapped(tensors, CAFFE.names(spec), net, "it")


# --- the authors' own SqueezeNet 1.1 -------------------------------------------------------------------------------

CLASSES = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
"""Of ImageNet, that Imagenette's folders are in order."""


def prepared(path: Path) -> Tensor:
    """The short side to 256 pixels, the center's 227, blue before green before red, less a mean of each."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    factor = 256 / min(image.size)
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)
    left, top = (image.width - 227) // 2, (image.height - 227) // 2
    pixels = np.asarray(image.crop((left, top, left + 227, top + 227)), np.float32)[:, :, ::-1]
    return torch.from_numpy((pixels - (104, 117, 123)).astype(np.float32)).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("num", "correct", "among_five"),
    [(1, 3, 8), pytest.param(30, 164, 229, marks=pytest.mark.slow)],
    ids=["few", "all"],
)
def test_the_real_weights_reach_their_accuracy(
    num: int, correct: int, among_five: int, needs_data: Callable[[str], Path]
) -> None:
    path = needs_data("weights") / "squeezenet-1.1" / "squeezenet_v1.1.caffemodel"
    net = atlas.find("squeezenet1.1").network(atlas.find("squeezenet1.1").spec).eval()
    mapped(read_checkpoint(path).tensors, CAFFE.names(net.spec), net, str(path)).load_into(net)
    top1 = top5 = 0
    folders = sorted((needs_data("imagenette-224") / "val").iterdir())
    for label, folder in zip(CLASSES, folders, strict=True):
        images = torch.stack([prepared(image) for image in sorted(folder.iterdir())[:num]])
        with torch.no_grad():
            best = net(images).topk(5).indices
        top1 += int((best[:, 0] == label).sum())
        top5 += int((best == label).any(1).sum())
    assert (top1, top5) == (correct, among_five)
