"""Other libraries' networks, recorded and themselves where they are installed, and files as Caffe writes them."""

from __future__ import annotations

import gzip
import importlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from convatlas import atlas
from convatlas.spec import Spec
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Mapped, Names, mapped

RECORDED = Path(__file__).with_name("state_dicts.txt.gz")
"""See record_state_dicts.py."""
AUXILIARY = re.compile("aux(iliary)?_?[124]")

StateDict = dict[str, Tensor]


@pytest.fixture(scope="session")
def recorded() -> Callable[[str, str], StateDict]:
    """`recorded("timm", "resnet18")` has that network's tensors by their names, in its order, without values."""
    found: dict[str, StateDict] = {}
    for paragraph in gzip.decompress(RECORDED.read_bytes()).decode().split("\n\n"):
        title, *lines = paragraph.splitlines()
        found[title] = {}
        for name, shape in (line.split(" ") for line in lines):
            sides = [int(side) for side in shape.split("x") if side]
            found[title][name] = torch.empty(sides, device="meta")
    return lambda library, network: found[f"{library} {network}"]


def spec_of(network: Network) -> Spec:
    return atlas.find(network.variant).spec.at(network.scale)


@cache
def on_meta(variant: str, spec: Spec) -> nn.Module:
    """Most sources have the same networks of ours, which take their time to build."""
    with torch.device("meta"):
        return atlas.find(variant).network(spec)


def mapped_on_meta(library: Library, network: Network, tensors: StateDict, spec: Spec | None = None) -> Mapped:
    spec = spec or spec_of(network)
    return mapped(tensors, library.names(spec), on_meta(network.variant, spec), f"{library.name}:{network.name}")


@pytest.fixture(scope="session")
def map_shapes() -> Callable[..., Mapped]:
    """`map_shapes(library, network, tensors)` maps tensors without values. Another spec of the network may follow."""
    return mapped_on_meta


@pytest.fixture(scope="session")
def check_recorded(recorded: Callable[[str, str], StateDict]) -> Callable[[Library, Network], None]:
    """Check that every tensor of a network has one of ours, in the same order, so that none can change places."""

    def check(library: Library, network: Network) -> None:
        theirs = recorded(library.name, network.name)
        report = mapped_on_meta(library, network, theirs)
        counters = [name for name in theirs if name.endswith("num_batches_tracked")]
        assert sorted(report.ignored) == sorted(counters), network.name
        assert report.kept == (), network.name
        # torchvision has its auxiliary classifiers before its last layer, and we after it.
        ours = sorted((row.theirs for row in report.rows), key=lambda name: bool(AUXILIARY.match(name)))
        order = sorted((name for name in theirs if name not in counters), key=lambda name: bool(AUXILIARY.match(name)))
        assert ours == order, network.name

    return check


@pytest.fixture(scope="session")
def torchvision_library() -> Iterator[ModuleType]:
    """`torchvision.models`"""
    # A torch for processors alone lacks these operators, without which torchvision does not load.
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It has a part for files of images, which such a torch cannot load.
        pytest.importorskip("torchvision", reason="torchvision is not installed", exc_type=ImportError)
        yield importlib.import_module("torchvision.models")


@pytest.fixture(scope="session")
def timm_library(torchvision_library: ModuleType) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("timm", reason="timm is not installed", exc_type=ImportError)


def randomize(network: nn.Module, x: Tensor) -> None:
    """Give every number another value than it begins with, such that outputs depend on inputs after many layers too.

    Normalization gets the statistics of what it reads of the images `x`, and then others near them.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    module.bias.normal_(std=0.1)
        for norm in norms:
            norm.momentum = 1.0
        if norms:
            network.train()(x)
        for norm in norms:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_var.clamp_(min=0.01).mul_(torch.empty_like(norm.running_var).uniform_(0.7, 1.4))
            norm.running_mean.add_(0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.normal_(std=0.2)


def compare(theirs: nn.Module, names: Names, ours: nn.Module, spec: Spec) -> None:
    images = torch.randn(2, spec.in_channels, spec.resolution, spec.resolution)
    randomize(theirs, images)
    for dtype, limit in ((torch.float64, 1e-5), (torch.float32, 1e-4)):
        theirs, ours, x = theirs.to(dtype).eval(), ours.to(dtype).eval(), images.to(dtype)
        mapped(theirs.state_dict(), names, ours, "a network").load_into(ours)
        with torch.no_grad():
            expected, outputs = theirs(x), ours(x)
        largest = expected.abs().max()
        # Outputs that are the same whatever the input would compare nothing.
        assert (expected[0] - expected[1]).abs().max() > 1e-3 * largest
        difference = (outputs - expected).abs().max() / largest
        assert difference <= limit, dtype
        print(f"{type(theirs).__name__} {dtype}: {difference:.1e}")


@pytest.fixture(scope="session")
def check_parity() -> Callable[[nn.Module, Library, Network, Spec], None]:
    """Check that their network and ours have the same outputs for the same random weights, and print the difference.

    Of the outputs, relative to the largest of them: at most 1e-5 in double precision, and 1e-4 in single.
    """

    def check(theirs: nn.Module, library: Library, network: Network, spec: Spec) -> None:
        torch.manual_seed(0)
        compare(theirs, library.names(spec), atlas.find(network.variant).network(spec), spec)

    return check


Blob = npt.NDArray[np.floating]


def varint(value: int) -> bytes:
    value %= 1 << 64
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def number(key: int, value: int) -> bytes:
    """A field with a number."""
    return varint(key << 3) + varint(value)


def block(key: int, content: bytes | str) -> bytes:
    """A field with a text or a message."""
    content = content.encode() if isinstance(content, str) else content
    return varint(key << 3 | 2) + varint(len(content)) + content


@dataclass(frozen=True)
class Layer:
    name: str
    kind: str
    bottoms: Sequence[str] = ()
    tops: Sequence[str] = ()
    blobs: Sequence[Blob] = ()


@dataclass(frozen=True)
class Encoder:
    """Writes networks as Caffe does, and in the other ways that its format allows."""

    v1: bool = False
    """The older form of layers."""
    old_shapes: bool = False
    """num, channels, height and width in place of a shape."""
    packed: bool = True
    """Numbers in one field, or in one each."""
    double: bool = False
    types: dict[str, int] = field(
        default_factory=lambda: {"Convolution": 4, "Data": 5, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18}
    )
    """Of V1."""

    def blob(self, blob: Blob) -> bytes:
        if self.old_shapes:
            sides = [1] * (4 - blob.ndim) + list(blob.shape)
            shape = b"".join(number(key, side) for key, side in enumerate(sides, 1))
        else:
            shape = block(7, block(1, b"".join(map(varint, blob.shape))))
        values = blob.astype("<f8" if self.double else "<f4")
        key = 8 if self.double else 5
        if self.packed:
            return block(key, values.tobytes()) + shape
        tag = varint(key << 3 | (1 if self.double else 5))
        return shape + b"".join(tag + value.tobytes() for value in values.ravel())

    def layer(self, layer: Layer) -> bytes:
        name, kind, bottom, top, blobs = (4, 5, 2, 3, 6) if self.v1 else (1, 2, 3, 4, 7)
        content = block(name, layer.name)
        content += number(kind, self.types[layer.kind]) if self.v1 else block(kind, layer.kind)
        content += b"".join(block(bottom, text) for text in layer.bottoms)
        content += b"".join(block(top, text) for text in layer.tops)
        content += b"".join(block(blobs, self.blob(blob)) for blob in layer.blobs)
        return block(2 if self.v1 else 100, content)

    def network(self, layers: Sequence[Layer], name: str = "net") -> bytes:
        return block(1, name) + b"".join(map(self.layer, layers))


@pytest.fixture(name="block", scope="session")
def block_fixture() -> Callable[..., bytes]:
    """`block(number, content)` is a field of a message with a text, or with a message."""
    return block


@pytest.fixture(scope="session")
def encoder() -> Callable[..., Encoder]:
    """`encoder(v1=True, ...)` writes Caffe's files."""
    return Encoder


@pytest.fixture(scope="session")
def layer() -> type[Layer]:
    """A layer of them."""
    return Layer


@pytest.fixture(scope="session")
def randomized() -> Callable[[nn.Module, int], nn.Module]:
    """`randomized(network, seed)` has weights of its own everywhere, also where networks begin with zeros and ones."""

    def randomize(network: nn.Module, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                if name.endswith(("running_var", "norm.weight", "bn1.weight", "bn2.weight")):
                    drawn = 0.5 + drawn
                elif tensor.dim() > 1:
                    drawn = (drawn - 0.5) * (12 / tensor[0].numel()) ** 0.5
                else:
                    drawn = 0.2 * (drawn - 0.5)
                tensor.copy_(drawn)
        return network.eval()

    return randomize
