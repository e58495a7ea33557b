"""PyTorch's files: state dicts however they are wrapped, and pickles and archives of strangers, of which none runs."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas.weights.checkpoint import CheckpointError
from convatlas.weights.formats import torch_file

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """The path of what `torch.save` makes of something."""

    def save(content: Any, legacy: bool = False) -> Path:
        path = tmp_path / "net.pth"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        return path

    return save


def same(found: dict[str, Tensor], expected: dict[str, Tensor] = WEIGHTS) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "pickles"])
@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        OrderedDict(WEIGHTS),
        {name: nn.Parameter(tensor) for name, tensor in WEIGHTS.items()},
        {f"module.{name}": tensor for name, tensor in WEIGHTS.items()},
        {"state_dict": WEIGHTS, "epoch": 3, "best_prec1": torch.tensor(91.0), "optimizer": {"state": {}}},
        {"model": OrderedDict(WEIGHTS), "scheduler": {"last_epoch": 3}},
        {"net": {f"module.{name}": tensor for name, tensor in WEIGHTS.items()}, "acc": 93.1},
        {"state_dict_ema": WEIGHTS, "state_dict": {}},
    ],
    ids=["plain", "ordered", "parameters", "parallel", "wrapped", "model", "net", "ema"],
)
def test_state_dicts_are_found(content: Any, legacy: bool, saved: Any) -> None:
    found = torch_file.read(saved(content, legacy))
    assert same(found)
    assert not any(tensor.requires_grad for tensor in found.values())


def test_a_network_is_read_back(saved: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).half()
    assert same(torch_file.read(saved(net.state_dict())), dict(net.state_dict()))


def test_tensors_of_other_orders_are_read(saved: Any) -> None:
    weights = {"a": torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last), "b": torch.randn(3, 5).T}
    assert same(torch_file.read(saved(weights)), weights)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"net": WEIGHTS, "state_dict": WEIGHTS}, r"several networks' weights \(state_dict, net\)"),
        ({"epoch": 3, "lr": 0.1}, "holds no state dict of tensors, but epoch, lr$"),
        ({"a.weight": torch.ones(2), "step": 3}, "holds no state dict of tensors, but a.weight, step$"),
        ({}, "holds no state dict of tensors, but nothing$"),
        ([torch.ones(2)], "holds no state dict of tensors, but a list$"),
        ({3: torch.ones(2)}, "holds no state dict of tensors, but 3$"),
    ],
)  # fmt: skip
def test_what_is_no_state_dict_is_refused(content: Any, message: str, saved: Any) -> None:
    with pytest.raises(CheckpointError, match=message):
        torch_file.read(saved(content))


# --- code ----------------------------------------------------------------------------------------------------------


class Harmful:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "pickles"])
def test_code_is_never_run(legacy: bool, saved: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = saved({"a": torch.ones(2), "b": Harmful(mark)}, legacy)
    with pytest.raises(
        CheckpointError, match=r"is a pickle with code in it \(posix\.mkdir\), which is never run; save"
    ):
        torch_file.read(path)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_code_of_every_protocol_is_named(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(pickle.dumps(Harmful(tmp_path / "mark"), protocol))
    with pytest.raises(CheckpointError, match=r"is a pickle with code in it \(posix\.mkdir\), which is never run"):
        torch_file.read(path)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\nbytearray\n",
        b"c__builtin__\nbytearray\n",
        b"ctorch\nTensor\n",
        b"ctorch.storage\nUntypedStorage\n",
        b"ctorch.storage\nTypedStorage\n",
        b"c_codecs\nencode\n",
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
        b"ctorch._tensor\n_rebuild_from_type_v2\n",
    ],
)
def test_what_fills_memory_is_code_too(call: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(b"\x80\x02" + call + b"J\xff\xff\xff\x7f\x85R.")
    with pytest.raises(CheckpointError, match="is a pickle with code in it"):
        torch_file.read(path)


def test_a_whole_network_is_named(saved: Any) -> None:
    with pytest.raises(
        CheckpointError, match=r"is a whole network with its code \(torch\.nn\.modules\.linear\.Linear\)"
    ):
        torch_file.read(saved(nn.Linear(2, 3)))


def test_a_torchscript_program_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py"):
            archive.writestr(name, b"\x80\x02}.")
    with pytest.raises(CheckpointError, match=r"net\.pt is a TorchScript program; save the state dict of its network"):
        torch_file.read(path)


def test_numpy_is_code(saved: Any) -> None:
    with pytest.raises(CheckpointError, match=r"is a pickle with code in it \(numpy"):
        torch_file.read(saved({"a": np.ones(2)}))


# --- archives and pickles of strangers -----------------------------------------------------------------------------


def rewritten(
    path: Path,
    *,
    compressed: bool = False,
    comment: bytes = b"",
    twice: bool = False,
    change: Callable[[bytes], bytes] = bytes,
) -> None:
    """The same archive by another program."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
        archive.comment = comment
        if twice:
            archive.writestr(f"other/{next(iter(parts)).partition('/')[2]}", b"\x80\x02}.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compressed": True}, "holds net/data.pkl compressed, which PyTorch never does$"),
        ({"comment": b"a note"}, "is no archive as PyTorch writes it: programs may disagree on what is in it$"),
        ({"twice": True}, "is no archive as PyTorch writes it: programs may disagree on what is in it$"),
    ],
)
def test_archives_that_pytorch_does_not_write_are_refused(changes: Any, message: str, saved: Any) -> None:
    path = saved(WEIGHTS)
    rewritten(path)
    assert same(torch_file.read(path))
    rewritten(path, **changes)
    with pytest.raises(CheckpointError, match=message):
        torch_file.read(path)


def test_a_part_far_behind_the_end_is_refused(saved: Any) -> None:
    path = saved(WEIGHTS)
    rewritten(path)
    content = path.read_bytes()
    # Where the list of parts says that the first one begins: in the last of its fixed 46 bytes.
    begins = content.index(b"PK\x01\x02") + 42
    path.write_bytes(content[:begins] + b"\xff\xff\xff\x7f" + content[begins + 4 :])
    with pytest.raises(CheckpointError, match=r"damaged zip archive, or half of one: .*/data\.pkl does not lie in it$"):
        torch_file.read(path)


def test_a_part_before_the_beginning_is_refused(saved: Any) -> None:
    path = saved(WEIGHTS)
    content = bytearray(path.read_bytes())
    # The archive's end says that its list of parts lies further back than it does: so would all parts.
    place = content.rindex(b"PK\x06\x06") + 48
    struct.pack_into("<Q", content, place, struct.unpack_from("<Q", content, place)[0] + 10**6)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged zip archive, or half of one: .* does not lie in it$"):
        torch_file.read(path)


def test_other_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, b"{}")
    with pytest.raises(CheckpointError, match=r"none that PyTorch wrote; extract its model\.weights\.h5, and import"):
        torch_file.read(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "pickles"])
def test_half_a_file_is_refused(legacy: bool, saved: Any) -> None:
    path = saved(WEIGHTS, legacy)
    content = path.read_bytes()
    for end in range(4, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(CheckpointError, match=r"half of one|damaged|is no archive") as caught:
            torch_file.read(path)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "pickles"])
def test_tensors_larger_than_their_file_are_refused(legacy: bool, saved: Any) -> None:
    stretched = {"a": torch.ones(1).expand(50_000, 10_000)}
    shared = {f"a{i}": tensor for tensor in [torch.ones(1000)] for i in range(50)}
    for content in (stretched, shared):
        with pytest.raises(CheckpointError, match=r"says of its tensors that they have .*, and has .* itself$"):
            torch_file.read(saved(content, legacy))


@pytest.mark.parametrize("num", [2**31 - 1, 2**40, 2**62, -16])
def test_storages_larger_than_their_file_are_refused(num: int, saved: Any) -> None:
    # The pickle says how many numbers there are: 16, as K and a byte.
    path = saved({"a": torch.ones(16)})
    written = b"\x8a\x08" + struct.pack("<q", num)
    rewritten(path, change=lambda content: content.replace(b"K\x10", written))
    with pytest.raises(CheckpointError, match=r"is a damaged checkpoint of PyTorch|says of its tensors"):
        torch_file.read(path)


def test_an_endless_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pkl"
    for content, message in (
        (b"\x80\x02" + b"N0" * 600_000 + b".", "has more instructions than any network needs"),
        (b"\x80\x02" + b"X\xff\xff\xff\x7fa", "is a damaged pickle, or half of one"),
        (b"\x80\x02" + b"N" * 100, "is a damaged pickle, or half of one"),
        (b"\x80\x02" + b"X\x00\x00\x00\x02" + b"a" * 2**25 + b".", "is a damaged pickle, or half of one"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            torch_file.read(path)


def test_a_pickle_in_an_archive_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", bytes(2**24 + 1))
    with pytest.raises(CheckpointError, match=r"names its tensors in 16\.0 MiB, which no network needs$"):
        torch_file.read(path)


def test_sums_of_bits_that_pytorch_left_out_do_not_matter(saved: Any) -> None:
    path = saved(WEIGHTS)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        crc = next(part.CRC for part in archive.infolist() if part.filename.endswith("data.pkl"))
    assert content.count(struct.pack("<I", crc)) > 0
    path.write_bytes(content.replace(struct.pack("<I", crc), struct.pack("<I", zlib.crc32(b""))))
    assert same(torch_file.read(path))
