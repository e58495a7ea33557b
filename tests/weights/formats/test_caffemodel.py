"""Caffe's files: both forms of layers, every way to write numbers, and what a normalization makes of two layers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convatlas.weights.checkpoint import CheckpointError
from convatlas.weights.formats import caffemodel

DRAW = np.random.default_rng(0)


def numbers(*shape: int) -> Any:
    return DRAW.uniform(-1, 1, shape).astype(np.float32)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], dict[str, Tensor]]:
    """The tensors of a file with these bytes."""

    def read_bytes(content: bytes) -> dict[str, Tensor]:
        path = tmp_path / "net.caffemodel"
        path.write_bytes(content)
        return caffemodel.read(path)

    return read_bytes


@pytest.mark.parametrize("v1", [False, True], ids=["layer", "layers"])
@pytest.mark.parametrize("old_shapes", [False, True], ids=["shape", "num"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "single"])
@pytest.mark.parametrize("double", [False, True], ids=["float", "double"])
def test_numbers_in_every_form_are_read(
    v1: bool, old_shapes: bool, packed: bool, double: bool, layer: Any, encoder: Any, read: Any
) -> None:
    weight, bias, full = numbers(4, 3, 5, 5), numbers(4), numbers(6, 1200)
    layers = [
        layer("data", "Data", (), ("data",)),
        layer("conv", "Convolution", ("data",), ("conv",), (weight, bias)),
        layer("relu", "ReLU", ("conv",), ("conv",)),
        layer("fc", "InnerProduct", ("conv",), ("fc",), (full,)),
    ]
    found = read(encoder(v1=v1, old_shapes=old_shapes, packed=packed, double=double).network(layers))
    assert list(found) == ["conv.weight", "conv.bias", "fc.weight"]
    for tensor, expected in zip(found.values(), (weight, bias, full), strict=True):
        assert tensor.dtype == (torch.float64 if double else torch.float32)
        assert tensor.shape == expected.shape
        assert np.array_equal(tensor.numpy(), expected)


def test_numbers_in_pieces_are_joined(read: Any) -> None:
    # As a program may write them that does not know how many will come.
    def part(values: Sequence[float], packed: bool) -> bytes:
        content = struct.pack(f"<{len(values)}f", *values)
        if packed:
            return b"\x2a" + bytes([len(content)]) + content
        return b"".join(b"\x2d" + content[4 * i : 4 * i + 4] for i in range(len(values)))

    shape = b"\x3a\x04\x0a\x02\x02\x04"
    blob = part([1, 2, 3], True) + part([4, 5], False) + shape + part([], True) + part([6, 7, 8], True)
    content = b"\x0a\x01a\x12\x0cInnerProduct\x3a" + bytes([len(blob)]) + blob
    found = read(b"\xa2\x06" + bytes([len(content)]) + content)
    assert found["a.weight"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_many_single_numbers_are_read_at_once(layer: Any, encoder: Any, read: Any) -> None:
    weight = numbers(300, 1000)
    found = read(encoder(packed=False).network([layer("fc", "InnerProduct", blobs=(weight,))]))
    assert np.array_equal(found["fc.weight"].numpy(), weight)


@pytest.mark.parametrize("v1", [False, True], ids=["layer", "layers"])
def test_caffenet_is_not_taken_for_alexnet(v1: bool, layer: Any, encoder: Any, read: Any) -> None:
    def network(first: str, second: str, last: str) -> bytes:
        kinds = {"norm1": "LRN", "pool1": "Pooling"}
        layers = [
            layer("conv1", "Convolution", ("data",), ("conv1",), [numbers(2, 1, 3, 3)]),
            layer("relu1", "ReLU", ("conv1",), ("conv1",)),
            layer(first, kinds[first], ("conv1",), (first,)),
            layer(second, kinds[second], (first,), (second,)),
            layer(last, "InnerProduct", (second,), (last,), [numbers(5, 8)]),
        ]
        return bytes(encoder(v1=v1).network(layers))

    assert set(read(network("norm1", "pool1", "fc8"))) == {"conv1.weight", "fc8.weight"}
    # GoogLeNet's is pooled first, as its paper has it.
    assert "loss3/classifier.weight" in read(network("pool1", "norm1", "loss3/classifier"))
    with pytest.raises(
        CheckpointError,
        match=r"net.caffemodel pools before it normalizes, as CaffeNet .* alexnet-caffe takes bvlc_alexnet",
    ):
        read(network("pool1", "norm1", "fc8"))


# --- normalization -------------------------------------------------------------------------------------------------


def normalized(layer: Any, *, bias: bool, scaled: int = 2, in_place: bool = True, factor: float = 3.0) -> list[Any]:
    """A convolution of one channel to three, and what follows it."""
    top = "conv" if in_place else "bn"
    blobs = [numbers(3, 1, 1, 1)] + [numbers(3)] * bias
    moments = numbers(3), 1 + numbers(3) ** 2, np.array([factor], np.float32)
    layers = [
        layer("conv", "Convolution", ("data",), ("conv",), blobs),
        layer("bn", "BatchNorm", ("conv",), (top,), moments),
    ]
    if scaled:
        layers.append(layer("scale", "Scale", (top,), (top,), [numbers(3) for _ in range(scaled)]))
    return [*layers, layer("relu", "ReLU", (top,), (top,))]


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "apart"])
@pytest.mark.parametrize("scaled", [0, 1, 2])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_normalization_and_scale_are_the_plain_formula(
    bias: bool, scaled: int, in_place: bool, layer: Any, encoder: Any, read: Any
) -> None:
    layers = normalized(layer, bias=bias, scaled=scaled, in_place=in_place)
    found = {name: tensor.double().numpy() for name, tensor in read(encoder(double=True).network(layers)).items()}
    # It is in the mean.
    assert "conv.bias" not in found
    x = DRAW.uniform(-5, 5, (100, 1))
    (weight, *biases), (mean, variance, (factor,)), *rest = (each.blobs for each in layers)
    made = x * weight.reshape(3).astype(np.float64) + (biases[0] if biases else 0.0)
    expected = (made - mean.astype(np.float64) / factor) / np.sqrt(variance.astype(np.float64) / factor + 1e-5)
    factors, offsets = [*(rest[0] if scaled else ()), *(np.ones(3), np.zeros(3))[scaled:]]
    expected = expected * factors + offsets
    ours = (x * found["conv.weight"].reshape(3) - found["bn.running_mean"]) / np.sqrt(found["bn.running_var"] + 1e-5)
    ours = ours * found["bn.weight"] + found["bn.bias"]
    assert np.abs(ours - expected).max() <= 1e-12 * np.abs(expected).max()


def test_a_divisor_of_zero_gives_zeros(layer: Any, encoder: Any, read: Any) -> None:
    # Caffe has it before the first step of training.
    found = read(encoder().network(normalized(layer, bias=False, factor=0.0)))
    assert not found["bn.running_mean"].any()
    assert not found["bn.running_var"].any()


def test_a_bias_that_something_else_reads_stays(layer: Any, encoder: Any, read: Any) -> None:
    layers = normalized(layer, bias=True, in_place=False)
    found = read(encoder().network([*layers, layer("other", "Eltwise", ("conv",), ("other",))]))
    assert np.array_equal(found["conv.bias"].numpy(), layers[0].blobs[1])


# --- what it refuses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("a", "PReLU", (), (), ((3,),))], r"its layer a \(PReLU\) has blobs, and nothing is known about them$"),
        ([("a", "Scale", ("b",), ("b",), ((3,),))], r"its layer a \(Scale\) scales what no normalization gives$"),
        ([("a", "BatchNorm", (), (), ((3,), (3,)))], r"a \(BatchNorm\) has 2 blobs, not mean, variance and their div"),
        ([("a", "BatchNorm", (), (), ((3,), (4,), (1,)))], r"a \(BatchNorm\) has 4 numbers for 3 channels$"),
        ([("a", "Convolution", (), (), ((2, 2),))], r"a \(Convolution\) has weights of the shape \(2, 2\)$"),
        ([("a", "Convolution", (), (), ((2, 1, 1, 1), (3,)))], r"a \(Convolution\) has 3 numbers for 2 channels$"),
        ([("a", "InnerProduct", (), (), ((2, 2), (2,), (2,)))], r"has 3 blobs, not weights and biases alone$"),
        ([("a", "InnerProduct", (), (), ((2, 2),))] * 2, r"its layer a \(InnerProduct\) has the name of another$"),
        ([("a\nb", "\x1b[2J", (), (), ((3,),))], r"its layer a\\nb \(\\x1b\[2J\) has blobs"),
        ([], r"it has no layer$"),
    ],
)
def test_a_layer_that_makes_no_sense_is_named(
    layers: list[Any], message: str, layer: Any, encoder: Any, read: Any
) -> None:
    made = [layer(*rest, [numbers(*shape) for shape in shapes]) for *rest, shapes in layers]
    with pytest.raises(CheckpointError, match=rf"^.*net\.caffemodel is no network of Caffe's, or damaged: .*{message}"):
        read(encoder().network(made))


def wrong_bytes(block: Callable[..., bytes]) -> dict[str, bytes]:
    """Bytes of a network, by what a message says of them."""
    shape = block(7, block(1, bytes([2, 2])))
    data = block(5, struct.pack("<4f", 1, 2, 3, 4))

    def full(*blobs: bytes) -> bytes:
        return block(100, block(1, "a") + block(2, "InnerProduct") + b"".join(block(7, blob) for blob in blobs))

    huge = block(7, block(1, b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 4))
    return {
        "field 100 says that it has 1,000,000 bytes, and 3 are left": b"\xa2\x06\xc0\x84\x3dabc",
        "field 1 says that it has 9,223,372,036,854,775,807 bytes": b"\x0a" + b"\xff" * 8 + b"\x7f",
        "begins a field of type 3, which is none": b"\x0b" + full(shape + data),
        "begins a field of type 7, which is none": b"\x0f",
        "has more than 64 bits": b"\xff" * 11,
        "ends in the middle of a number": b"\xa2",
        "field 100 at byte 2 is written as VARINT, not as LEN": b"\xa0\x06\x01",
        "field 5 at byte .* is written as VARINT, not as LEN": full(shape + b"\x28\x01"),
        "field 1 at byte .* is written as VARINT, not as LEN": block(100, b"\x08\x01"),
        "begins a name that is no text": block(100, block(1, b"\xff\xfe")),
        "end in the middle of one": full(shape + block(5, b"abcde")),
        r"has a blob of 2 x 2 with 0 numbers": full(shape),
        r"has a blob of 2 x 2 with 8 numbers": full(shape + data + data),
        r"has a blob of 0 x 0 x 0 x 0 with 4 numbers": full(data),
        r"has a blob of -1 x -4 with 4 numbers": full(
            block(7, block(1, b"\xff" * 9 + b"\x01" + b"\xfc" + b"\xff" * 8 + b"\x01")) + data
        ),
        r"has a blob of 72,057,594,037,927,935 x .* with 4 numbers": full(huge + data),
        "has a blob of single and double precision at once": full(shape + data + block(8, b"\x00" * 32)),
        "it is of Caffe's format of 2013; upgrade it with upgrade_net_proto_binary": block(2, block(1, block(1, "a"))),
        "has a blob of 1 x 1 x .* with 4 numbers": full(block(7, block(1, b"\x01" * 40)) + data),
    }


@pytest.mark.parametrize("number", range(19))
def test_bytes_that_are_no_network_are_refused(number: int, read: Any, block: Callable[..., bytes]) -> None:
    message, content = list(wrong_bytes(block).items())[number]
    with pytest.raises(CheckpointError, match=message) as caught:
        read(content)
    assert len(str(caught.value).splitlines()) == 1


def test_more_fields_than_any_network_has_are_refused(read: Any) -> None:
    with pytest.raises(CheckpointError, match="it has more fields than any network needs"):
        read(b"\x20\x01" * 300_001)


def test_half_a_file_is_refused(layer: Any, encoder: Any, read: Any) -> None:
    content = encoder().network(normalized(layer, bias=True))
    for end in range(1, len(content)):
        try:
            found = read(content[:end])
        except CheckpointError:
            continue
        # At the end of a layer nothing is missing but layers.
        assert "bn.running_mean" in found or "conv.weight" in found
