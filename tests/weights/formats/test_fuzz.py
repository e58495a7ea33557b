"""Checkpoints of strangers: whatever their bytes, they are read or refused in one line, in bounded time and memory."""

from __future__ import annotations

import io
import json
import random
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from convatlas.errors import UserError
from convatlas.weights.reading import read_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

MOST_BYTES = 64 * 2**20
"""That a file of some kilobytes may take."""
MOST_SECONDS = 5.0
"""Of processor time: a busy machine is not a failure."""
CLEAR_PEAK = Path("/proc/self/clear_refs")
"""Where Linux begins anew with what a process held at most."""
HUGE = (0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1, 10**30)


def held_bytes(name: str) -> int:
    """What this process holds (VmRSS) or held at most (VmHWM); 0 where no system says it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@contextmanager
def taking_little() -> Iterator[None]:
    """Checks the time of what is done inside, and what this process held more than before."""
    if CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5")
    begun, before = time.process_time(), held_bytes("VmRSS")
    yield
    assert time.process_time() - begun < MOST_SECONDS
    assert held_bytes("VmHWM") - before < MOST_BYTES


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Other bytes here and there, parts cut out, doubled or moved, and the end cut off."""
    found = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        # Most of a file is numbers; what tells what they are stands at either end.
        near = draw.choice((len(found), min(len(found), 300)))
        place = draw.choice((draw.randrange(near), len(found) - 1 - draw.randrange(near)))
        match draw.randrange(6):
            case 0:
                found[place] = draw.randrange(256)
            case 1:
                found[place] ^= 1 << draw.randrange(8)
            case 2:
                del found[place : place + draw.choice((1, 2, 50))]
            case 3:
                found[place:place] = found[draw.randrange(len(found)) :][: draw.choice((1, 2, 50))]
            case 4:
                found[place : place + draw.choice((1, 4, 9))] = draw.choice((b"\xff", b"\x00", b"\x7f")) * 9
            case _:
                del found[place:]
        found = found or bytearray(b"\x00")
    return bytes(found)


Mutate = Callable[[random.Random], bytes]


def torch_files() -> dict[str, Mutate]:
    weights = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5)).state_dict()
    contents = {}
    for legacy in (False, True):
        stream = io.BytesIO()
        torch.save({"state_dict": weights, "epoch": 3}, stream, _use_new_zipfile_serialization=not legacy)
        contents[legacy] = stream.getvalue()
    with zipfile.ZipFile(io.BytesIO(contents[False])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    def sealed(draw: random.Random) -> bytes:
        """The archive with another part, and the sums of bits of that."""
        chosen = draw.choice([name for name in parts for _ in range(20 if name.endswith("data.pkl") else 1)])
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, mutated(content, draw) if name == chosen else content)
        return stream.getvalue()

    return {
        "archive": lambda draw: sealed(draw) if draw.random() < 0.7 else mutated(contents[False], draw),
        "pickles": lambda draw: mutated(contents[True], draw),
    }


def safetensors_file() -> Mutate:
    content = save({"a.weight": torch.randn(4, 3, 3, 3), "a.bias": torch.randn(4), "b": torch.randn(7).half()})
    length = int.from_bytes(content[:8], "little")
    header, rest = content[8 : 8 + length], content[8 + length :]

    def mutate(draw: random.Random) -> bytes:
        kind = draw.randrange(3)
        if kind == 0:
            return mutated(content, draw)
        changed = mutated(header, draw)
        if kind == 1:
            values = json.loads(header)
            held = values[draw.choice(list(values))]
            match draw.randrange(3):
                case 0:
                    held["shape"][draw.randrange(len(held["shape"]))] = draw.choice(HUGE)
                case 1:
                    held["data_offsets"][draw.randrange(2)] = draw.choice((*HUGE, draw.randrange(500)))
                case _:
                    held["dtype"] = draw.choice(("F64", "I64", "BOOL", "BF16", "F8_E4M3", "F4", "C64", "F7"))
            changed = json.dumps(values).encode()
        return len(changed).to_bytes(8, "little") + changed + rest

    return mutate


def caffe_files(layer: Any, encoder: Any) -> dict[str, Mutate]:
    draw = np.random.default_rng(0)
    layers = [
        layer("data", "Data", (), ("data",)),
        layer("conv", "Convolution", ("data",), ("conv",), (draw.normal(size=(4, 3, 3, 3)), draw.normal(size=4))),
        layer("bn", "BatchNorm", ("conv",), ("conv",), (draw.normal(size=4), draw.normal(size=4) ** 2, np.ones(1))),
        layer("scale", "Scale", ("conv",), ("conv",), (draw.normal(size=4), draw.normal(size=4))),
        layer("relu", "ReLU", ("conv",), ("conv",)),
        layer("fc", "InnerProduct", ("conv",), ("fc",), (draw.normal(size=(5, 4)), draw.normal(size=5))),
    ]

    def mutate(form: Any, part: list[Any]) -> Mutate:
        messages = [form.layer(each) for each in part]

        def change(draw: random.Random) -> bytes:
            if draw.random() < 0.3:
                return mutated(b"".join(messages), draw)
            # Within a layer, whose length is right again.
            chosen, head = draw.randrange(len(part)), 1 if form.v1 else 2
            content = messages[chosen][head:]
            while content[0] >= 0x80:
                content = content[1:]
            changed = mutated(content[1:], draw)
            tag = messages[chosen][:head]
            length = bytes([len(changed) & 0x7F | 0x80, len(changed) >> 7 & 0x7F | 0x80, len(changed) >> 14])
            return b"".join([*messages[:chosen], tag + length + changed, *messages[chosen + 1 :]])

        return change

    old = [each for each in layers if each.kind not in ("BatchNorm", "Scale")]
    return {
        "caffe": mutate(encoder(), layers),
        "caffe, single numbers": mutate(encoder(packed=False), layers),
        "caffe, old": mutate(encoder(v1=True, old_shapes=True), old),
    }


@pytest.fixture(scope="module")
def mutations(layer: Any, encoder: Any) -> dict[str, Mutate]:
    """What makes another file of each kind."""
    return torch_files() | {"safetensors": safetensors_file()} | caffe_files(layer, encoder)


def fuzz(mutate: Mutate, path: Path, num: int, seed: int) -> int:
    """So many mutated files; how many were read."""
    draw, num_read = random.Random(seed), 0
    for _ in range(num):
        content = mutate(draw)
        path.write_bytes(content)
        message = ""
        with taking_little():
            try:
                found = read_checkpoint(path, allow_nan=draw.random() < 0.5)
            except UserError as error:
                message = str(error)
            else:
                num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in found.tensors.values())
                # Twice: a normalization without a scale gets one.
                assert num_bytes <= 2 * len(content) + 4096
                num_read += 1
        assert len(message.splitlines()) <= 1
        assert len(message) < 1000
    return num_read


KINDS = ("archive", "pickles", "safetensors", "caffe", "caffe, single numbers", "caffe, old")


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_refused(kind: str, mutations: dict[str, Mutate], tmp_path: Path) -> None:
    fuzz(mutations[kind], tmp_path / "net", 5, 0)
    num_read = fuzz(mutations[kind], tmp_path / "net", 60, 1)
    # Bytes of numbers may be any.
    assert 1 <= num_read < 58


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_thousand_mutated_files_are_read_or_refused(
    kind: str, mutations: dict[str, Mutate], tmp_path: Path
) -> None:
    fuzz(mutations[kind], tmp_path / "net", 1000, 2)
    before = held_bytes("VmRSS")
    assert 1000 < fuzz(mutations[kind], tmp_path / "net", 100_000, 3) < 95_000
    # Nothing stays of them.
    assert held_bytes("VmRSS") - before < MOST_BYTES
