"""Keras's files: laid out as PyTorch's whatever version wrote them, and refused in one line where Keras did not."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from convatlas.errors import UserError
from convatlas.weights.checkpoint import CheckpointError
from convatlas.weights.formats import keras

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
child = pytest.importorskip("convatlas.weights.formats.keras_child", reason="h5py is not installed")

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Written:
    """A layer in a file."""

    kind: str
    name: str
    variables: dict[str, Array]


def numbers(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


LAYERS = (
    Written("input_layer", "input_1", {}),
    Written("normalization", "normalization_2", {"mean": numbers(3), "variance": numbers(3) ** 2}),
    Written("conv2d", "conv1", {"kernel": numbers(3, 3, 3, 8), "bias": numbers(8)}),
    Written(
        "batch_normalization",
        "conv1_bn",
        {name: abs(numbers(8)) + i for i, name in enumerate(("gamma", "beta", "moving_mean", "moving_variance"))},
    ),
    Written("depthwise_conv2d", "conv_dw_1", {"depthwise_kernel": numbers(3, 3, 8, 1)}),
    Written("conv2d", "conv_pw_1", {"kernel": numbers(1, 1, 8, 5)}),
    Written("dense", "predictions", {"kernel": numbers(5, 4), "bias": numbers(4)}),
)


def legacy(
    path: Path, layers: Sequence[Written] = LAYERS, name: str = "{layer}/{variable}:0", below: str = "/", parts: int = 0
) -> None:
    """An `.h5` file.

    Args:
        name: of a tensor.
        below: the group that has it all.
        parts: in how many the lists are split, as Keras splits long ones; 0: they are whole.
    """

    def listed(group: Any, attribute: str, names: Sequence[str]) -> None:
        for i in range(parts):
            group.attrs[f"{attribute}{i}"] = np.array([text.encode() for text in names[i::parts]], "S")
        if not parts:
            group.attrs[attribute] = np.array([text.encode() for text in names], "S")

    with h5py.File(path, "w") as file:
        root = file.require_group(below)
        listed(root, "layer_names", [layer.name for layer in layers])
        for layer in layers:
            group = root.create_group(layer.name)
            names = [name.format(layer=layer.name, variable=variable) for variable in layer.variables]
            listed(group, "weight_names", names)
            for text, values in zip(names, layer.variables.values(), strict=True):
                group[text] = values


def keras_3(path: Path, layers: Sequence[Written] = LAYERS, named: bool = True) -> None:
    """A `.weights.h5` file; those of the first versions do not name layers."""
    with h5py.File(path, "w") as file:
        file.create_group("vars")
        found: dict[str, int] = {}
        for layer in layers:
            number = found[layer.kind] = found.get(layer.kind, -1) + 1
            key = f"layers/{layer.kind}_{number}" if number else f"layers/{layer.kind}"
            group = file.create_group(f"{key}/vars")
            if named:
                group.attrs["name"] = layer.name
            for i, values in enumerate(layer.variables.values()):
                group[str(i)] = values
            if layer.kind == "normalization":
                group["2"] = np.int32(0)


def keras_1(path: Path) -> None:
    """With the names of VGG's published weights."""
    layers = [
        replace(layer, variables={{"kernel": "W", "bias": "b"}[key]: values for key, values in layer.variables.items()})
        for layer in LAYERS
        if layer.kind in ("conv2d", "dense")
    ]
    legacy(path, layers, "{layer}_{variable}_1:0")


def without_depthwise_kernels(path: Path) -> None:
    """Keras 3 calls all kernels alike in `.h5`."""
    layers = [
        replace(layer, variables={key.removeprefix("depthwise_"): values for key, values in layer.variables.items()})
        for layer in LAYERS
    ]
    legacy(path, layers, "{layer}/{variable}")


def read_here(path: Path) -> dict[str, torch.Tensor]:
    """As `keras.read`, without the process of its own, which takes most of the time."""
    return keras.views(path, child.answer(str(path)))


WRITERS: dict[str, Callable[[Path], None]] = {
    "Keras 1": keras_1,
    "Keras 2": legacy,
    "a whole model": lambda path: legacy(path, below="model_weights"),
    "long lists": lambda path: legacy(path, parts=2),
    "Keras 3, .h5": without_depthwise_kernels,
    "Keras 3": keras_3,
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_tensors_are_laid_out_as_pytorchs(writer: Callable[[Path], None], tmp_path: Path) -> None:
    writer(path := tmp_path / "weights.h5")
    tensors = read_here(path)
    written = {layer.name: layer.variables for layer in LAYERS}
    expected = {
        "conv1.weight": np.einsum("hwio->oihw", written["conv1"]["kernel"]),
        "conv1.bias": written["conv1"]["bias"],
        "conv_pw_1.weight": np.einsum("hwio->oihw", written["conv_pw_1"]["kernel"]),
        "predictions.weight": written["predictions"]["kernel"].T,
        "predictions.bias": written["predictions"]["bias"],
    }
    if writer is not keras_1:
        expected |= {
            "conv_dw_1.weight": np.einsum("hwcm->cmhw", written["conv_dw_1"]["depthwise_kernel"]),
            "conv1_bn.weight": written["conv1_bn"]["gamma"],
            "conv1_bn.bias": written["conv1_bn"]["beta"],
            "conv1_bn.running_mean": written["conv1_bn"]["moving_mean"],
            "conv1_bn.running_var": written["conv1_bn"]["moving_variance"],
            "normalization_2.running_mean": written["normalization_2"]["mean"],
            "normalization_2.running_var": written["normalization_2"]["variance"],
        }
    assert set(tensors) == set(expected)
    for name, tensor in tensors.items():
        assert np.array_equal(tensor.numpy(), expected[name]), name


def test_layers_without_names_keep_their_class_and_number(tmp_path: Path) -> None:
    keras_3(path := tmp_path / "weights.h5", named=False)
    layers = {name.partition(".")[0] for name in read_here(path)}
    assert layers == {"normalization", "conv2d", "batch_normalization", "depthwise_conv2d", "conv2d_1", "dense"}


def test_a_depthwise_convolution_with_a_multiplier_computes_the_same(tmp_path: Path) -> None:
    kernel, image = numbers(3, 3, 4, 2), numbers(4, 9, 9)
    keras_3(path := tmp_path / "weights.h5", [Written("depthwise_conv2d", "dw", {"depthwise_kernel": kernel})])
    weight = read_here(path)["dw.weight"]
    computed = nn.functional.conv2d(torch.from_numpy(image), weight, groups=4)
    # Output c x 2 + m is channel c under its filter m.
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), (1, 2))
    expected = np.einsum("cyxhw,hwcm->cmyx", windows, kernel).reshape(8, 7, 7)
    assert np.allclose(computed.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_types_are_kept_also_where_bytes_are_not_aligned(dtype: type, tmp_path: Path) -> None:
    values = numbers(5, 4).astype(dtype)
    layers = [Written("dense", f"dense{i}", {"kernel": values + i}) for i in range(3)]
    legacy(path := tmp_path / "weights.h5", layers)
    shifted = tmp_path / "shifted.h5"
    with h5py.File(path) as old, h5py.File(shifted, "w", userblock_size=512) as new:
        new["odd"] = np.zeros(3, np.int8)
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in old:
            old.copy(name, new)
    offsets = {tensor.offset % values.itemsize for tensor in child.stored(str(shifted))}
    assert offsets != {0}, "this should try bytes that are not aligned"
    for i, tensor in enumerate(read_here(shifted).values()):
        assert tensor.dtype == torch.from_numpy(values).dtype
        assert np.array_equal(tensor.numpy(), (values + i).T)


def test_what_no_list_names_is_not_opened(tmp_path: Path) -> None:
    legacy(path := tmp_path / "weights.h5")
    with h5py.File(path, "a") as file:
        file["optimizer_weights"] = h5py.ExternalLink("nowhere.h5", "/x")
        file["conv1/other"] = h5py.SoftLink("/nowhere")
    assert len(read_here(path)) == 12


def test_a_module_in_the_working_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    legacy(tmp_path / "weights.h5")
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert keras.read(Path("weights.h5"))


def test_without_h5py_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    legacy(path := tmp_path / "weights.h5")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'convatlas\[keras\]'"):
        keras.read(path)


def conv1(path: Path, **options: Any) -> None:
    """A genuine file, but for how the kernel of a convolution is stored."""
    legacy(path)
    with h5py.File(path, "a") as file:
        del file["conv1/conv1/kernel:0"]
        file["conv1"].create_dataset("conv1/kernel:0", **options)


def linked(path: Path, name: str, link: Any) -> None:
    legacy(path)
    with h5py.File(path, "a") as file:
        # A link may lead to what is genuine.
        file.move(name, "elsewhere")
        file[name] = link


def virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((3, 3, 3, 8), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3, 3, 3, 8))
    legacy(path)
    with h5py.File(path, "a") as file:
        del file["conv1/conv1/kernel:0"]
        file["conv1"].create_virtual_dataset("conv1/kernel:0", layout)


def referring(path: Path) -> None:
    legacy(path)
    with h5py.File(path, "a") as file:
        del file["conv1/conv1/bias:0"]
        file["conv1"].create_dataset("conv1/bias:0", data=[file["conv1"].ref] * 8, dtype=h5py.ref_dtype)


def odd_floats(path: Path) -> None:
    """Four bytes a number, of which the exponent means another power than usual."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    legacy(path)
    with h5py.File(path, "a") as file:
        del file["conv1/conv1/bias:0"]
        h5py.h5d.create(file["conv1/conv1"].id, b"bias:0", kind, h5py.h5s.create_simple((8,)))


def shared(path: Path) -> None:
    """Two names for the same bytes, as a small file may have a million."""
    legacy(path)
    with h5py.File(path, "a") as file:
        del file["conv1_bn/conv1_bn/beta:0"]
        file["conv1_bn/conv1_bn/beta:0"] = file["conv1_bn/conv1_bn/gamma:0"]


def cyclic(path: Path) -> None:
    keras_3(path)
    with h5py.File(path, "a") as file:
        file["layers/conv2d_2"] = file["layers"]


def nested(path: Path) -> None:
    keras_3(path)
    with h5py.File(path, "a") as file:
        file.create_group("layers/functional/layers/conv2d/vars")


def other_class(path: Path) -> None:
    keras_3(path, [Written("lstm", "lstm", {"kernel": numbers(4, 4)})])


def without_scale(path: Path) -> None:
    keras_3(path, [Written("batch_normalization", "bn", {name: numbers(4) for name in ("beta", "mean", "variance")})])


def twice(path: Path) -> None:
    keras_3(path, [*LAYERS, replace(LAYERS[2], kind="conv2d")])


def listing(path: Path, value: Any) -> None:
    legacy(path)
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = value


def plain(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = numbers(3)


def cut(path: Path, part: float) -> None:
    legacy(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


def end_cut(path: Path) -> None:
    """The length that HDF5 keeps says so, too."""
    legacy(path)
    content = bytearray(path.read_bytes()[:-700])
    content[40:48] = len(content).to_bytes(8, "little")
    path.write_bytes(content)


BIG = (3, 3, 3, 10**8)
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "external link": (
        lambda path: linked(path, "conv1/conv1/kernel:0", h5py.ExternalLink("other.h5", "/x")),
        "is a link to another place or file",
    ),
    "external group": (
        lambda path: linked(path, "conv1", h5py.ExternalLink("other.h5", "/x")),
        "is a link to another place or file",
    ),
    "soft link": (lambda path: linked(path, "conv1", h5py.SoftLink("/elsewhere")), "is a link to another place"),
    "link to itself": (lambda path: linked(path, "conv1", h5py.SoftLink("/conv1")), "is a link to another place"),
    "virtual": (virtual, "is virtual, or compressed"),
    "external storage": (
        lambda path: conv1(path, shape=(3, 3, 3, 8), dtype="f4", external=[("other.raw", 0, 864)]),
        "lie in another file",
    ),
    "compressed bomb": (
        lambda path: conv1(path, shape=BIG, dtype="f4", chunks=(3, 3, 3, 1000), compression="gzip", fillvalue=1),
        "compressed or stored in chunks",
    ),
    "sparse": (lambda path: conv1(path, shape=BIG, dtype="f4"), "has no data"),
    "empty": (lambda path: conv1(path, data=h5py.Empty("f4")), "has no data"),
    "nothing": (lambda path: conv1(path, data=np.zeros((0, 3, 3, 8), "f4")), "has no data|has the shape"),
    "integers": (lambda path: conv1(path, data=np.zeros((3, 3, 3, 8), int)), "is of type 'int64'"),
    "big endian": (lambda path: conv1(path, data=np.zeros((3, 3, 3, 8), ">f4")), "is of type '>f4'"),
    "texts": (lambda path: conv1(path, data=["a"] * 8), "is of type"),
    "odd floats": (odd_floats, "is of type"),
    "references": (referring, "is of type"),
    "five sides": (lambda path: conv1(path, data=np.zeros((3, 3, 3, 8, 1), "f4")), r"has the shape \(3, 3, 3, 8, 1\)"),
    "a group": (lambda path: linked_group(path), "is no data set"),
    "shared": (shared, "two of its tensors overlap"),
    "cyclic": (cyclic, "is a network of layers"),
    "nested": (nested, "is a network of layers"),
    "other class": (other_class, "is of no kind that is known here"),
    "without scale": (without_scale, "has 3 tensors, and not 4"),
    "twice": (twice, "it has two 'conv1.weight'"),
    "not there": (lambda path: listing(path, [b"conv9"]), "lists 'conv9' and does not have it"),
    "a file": (lambda path: listing(path, [b"conv1/conv1/kernel:0"]), "is no group"),
    "no names": (lambda path: listing(path, [1.5]), "does not have it"),
    "a number": (lambda path: listing(path, 1), "damaged"),
    "many": (lambda path: listing(path, np.zeros(30_000, "S1")), "lists more than 20,000 names"),
    "long": (lambda path: legacy(path, [replace(LAYERS[2], name="x" * 500)]), "is too long for a name"),
    "plain": (plain, "it has neither layers nor layer_names"),
    "half": (lambda path: cut(path, 0.5), "damaged or cut short"),
    "cut": (end_cut, "cut short|damaged"),
    "header alone": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "damaged or cut short"),
    "no HDF5": (lambda path: path.write_text("<!DOCTYPE html>"), "damaged or cut short"),
    "empty file": (lambda path: path.write_bytes(b""), "damaged or cut short"),
}


def linked_group(path: Path) -> None:
    legacy(path)
    with h5py.File(path, "a") as file:
        del file["conv1/conv1/kernel:0"]
        file["conv1/conv1"].create_group("kernel:0")


@pytest.mark.parametrize("name", HOSTILE)
def test_what_keras_does_not_write_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    make, reason = HOSTILE[name]
    make(path := tmp_path / "weights.h5")
    with pytest.raises(CheckpointError) as caught:
        read_here(path)
    message = str(caught.value)
    assert re.search(f"cannot be read as weights of Keras: .*({reason})", message)
    assert len(message.splitlines()) == 1
    assert len(message) < 400 + len(str(path))
    assert path.stat().st_size < 1e6


@pytest.mark.parametrize("name", ["external link", "half"])
def test_the_process_says_the_same(name: str, tmp_path: Path) -> None:
    make, reason = HOSTILE[name]
    make(path := tmp_path / "weights.h5")
    with pytest.raises(CheckpointError, match=reason):
        keras.read(path)


def test_a_file_that_is_not_there_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        keras.read(tmp_path / "weights.h5")


def test_numbers_are_read_as_they_are_and_only_when_they_are_used(tmp_path: Path) -> None:
    kernel = np.zeros((4000, 5000), "f4")
    kernel[0, 1] = np.nan
    legacy(path := tmp_path / "weights.h5", [Written("dense", "fc1", {"kernel": kernel})])
    weight = keras.read(path)["fc1.weight"]
    # A view of the file: nothing was copied, not even to turn it.
    assert weight.stride() == (1, 5000)
    assert weight.untyped_storage().nbytes() >= kernel.nbytes
    assert weight[1, 0].isnan()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what a process has taken")
def test_the_process_takes_little_beyond_its_libraries() -> None:
    """As much as a file may make HDF5's library ask for."""
    code = "from convatlas.weights.formats import keras_child; keras_child.limit(); bytearray({num_bytes})"
    little, much = (
        subprocess.run([sys.executable, "-c", code.format(num_bytes=num)], capture_output=True, text=True)
        for num in (child.MOST_BYTES // 4, 2 * child.MOST_BYTES)
    )
    assert little.returncode == 0, little.stderr
    assert "MemoryError" in much.stderr
