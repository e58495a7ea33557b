"""One file with a network and all that is needed to use it; docs/compressed.md describes every byte."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from convatlas import files, runs
from convatlas.errors import UserError
from convatlas.files import lock, occupied
from convatlas.formatting import size
from convatlas.models.codec import tensors
from convatlas.models.codec.bounds import Shapes, described, found_out
from convatlas.models.codec.bytestream import Choices, Damaged, Reader, count
from convatlas.models.codec.records import compact, deflated, inflated
from convatlas.models.codec.tensors import Tensor
from convatlas.networks.low_bits import load_places, places_of
from convatlas.runs import Record, Run

MAGIC = b"\x89cva\r\n\x1a\n"
"""As PNG's: a file that went through a conversion of text is found out."""
VERSION = 1
SUFFIX = ".cva"
SIZE_BYTES = 8
CHECKSUM_BYTES = 32
"""SHA-256 of all bytes before it, at the end."""

NUMBERS_PER_BYTE = 2048
"""Weights at most for each byte of a file: a filler stands for 255 zeros and takes a bit at least."""


@dataclass(frozen=True, eq=False)
class Contents:
    record: bytes
    """`run.json` without what only this machine needs to know, deflated."""
    tensors: Sequence[Tensor]
    """In the order of the network's state."""


@dataclass
class CompressedRun(Run):
    """A finished run in one compressed file, its `folder`. It predicts and evaluates; `unpack` makes the rest of it."""

    contents: Contents
    shapes: Shapes
    kinds: list[int]
    """The choices that it was written with."""
    checksum: bytes
    """Which tells the file from every other."""

    @cached_property
    def network(self) -> nn.Module:
        """The network in evaluation mode, on the CPU.

        Raises:
            UserError: the file's record describes none.
        """
        try:
            with found_out():
                network = self.record.network()
                parts = zip(self.shapes.items(), self.contents.tensors, strict=True)
                state = {name: torch.from_numpy(tensor.values).reshape(shape) for (name, (shape, _)), tensor in parts}
                load_places(network, self.record.low_bits or (), state)
        except Damaged as error:
            raise damaged(self.folder, error) from error
        return network.eval()

    def report(self, out: Path | None = None, device: str | None = None) -> Path:
        raise UserError(f"{self.folder} has no curves to report of; the run folder that it was made from has")


def pack(run: Run, path: str | Path, *, ranges: bool = True) -> CompressedRun:
    """Write a finished run's network into one file; what is read back from it has the same bits.

    What the file gains comes from zeros and from weights that have few values: see `quantize`.

    Args:
        path: the file; what is there is overwritten.
        ranges: whether the range coder is used where it is smaller and its library is installed.

    Raises:
        UserError: the run is not finished, or there is no such folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} into")
    files.write(path, encoded(run.record, run.network, ranges=ranges))
    packed = load_file(path)
    read = packed.network.state_dict()
    for name, own in run.network.state_dict().items():
        # Nothing may be lost, whatever the network.
        if read[name].contiguous().numpy().tobytes() != own.contiguous().numpy().tobytes():
            raise AssertionError(f"{name} was not written as it is")
    return packed


def encoded(record: Record, network: nn.Module, *, ranges: bool = True) -> bytes:
    """The file of a network; see `pack`.

    Raises:
        UserError: its record is too long.
    """
    contents = Contents(
        record=deflated(compact(record)),
        tensors=[tensors.taken_apart(value.numpy()) for value in places_of(network, record.low_bits or ()).values()],
    )
    return written(contents, Choices(ranges=ranges))


def load(path: str | Path) -> Run:
    """Open a run folder or a compressed file.

    Raises:
        UserError: it is neither, or damaged.
    """
    path = Path(path)
    return load_file(path) if path.is_file() else runs.load(path)


def load_file(path: Path) -> CompressedRun:
    """Open a compressed file, from whomever it comes.

    Raises:
        UserError: it is none, it is damaged, or it needs a library that is not installed.
    """
    content = read_bytes(path)
    try:
        return parsed(content, path)
    except Damaged as error:
        raise damaged(path, error) from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def unpack(packed: CompressedRun, out: str | Path) -> Run:
    """Write a run folder of a compressed file, which every verb understands.

    Raises:
        UserError: the folder holds something already.
    """
    out = Path(out)
    if occupied(out):
        raise UserError(f"{out} holds something already; choose a new or empty folder")
    run = Run(out, packed.record)
    with lock(out):
        results = replace(packed.results, weights_sha256=run.write_weights(packed.network))
        run.record = replace(packed.record, results=results)
        run.write_record()
    return run


def read_bytes(path: Path) -> bytes:
    """
    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def damaged(path: Path, error: Damaged) -> UserError:
    # PyTorch's messages have many lines.
    return UserError(f"{path} is damaged or no compressed network of convatlas: {str(error).splitlines()[0]}")


def written(contents: Contents, choices: Choices) -> bytes:
    """The file's bytes."""
    parts = [
        count(len(contents.record)) + contents.record,
        count(len(contents.tensors)),
        *(tensors.write(tensor, choices) for tensor in contents.tensors),
    ]
    return sealed(MAGIC, b"".join(parts))


def sealed(magic: bytes, body: bytes) -> bytes:
    """A whole file: magic, version, its size, the body, and the checksum of all."""
    num_bytes = len(magic) + 1 + SIZE_BYTES + len(body) + CHECKSUM_BYTES
    content = magic + bytes([VERSION]) + num_bytes.to_bytes(SIZE_BYTES, "little") + body
    return content + hashlib.sha256(content).digest()


def opened(content: bytes, magic: bytes) -> Reader:
    """The body of a whole file.

    Raises:
        Damaged: it is another file, cut short, or its checksum differs.
        UserError: a newer version wrote it.
    """
    reader = Reader(content)
    if content[: len(magic)] != magic:
        raise Damaged("it begins otherwise")
    reader.take(len(magic))
    version = reader.byte()
    if version != VERSION:
        raise UserError("written by a newer convatlas; update this one to read it")
    num_bytes = int.from_bytes(reader.take(SIZE_BYTES), "little")
    if num_bytes != len(content):
        raise Damaged(f"it has {size(len(content))} of {size(num_bytes)}")
    body = reader.take(reader.left - CHECKSUM_BYTES)
    if hashlib.sha256(content[:-CHECKSUM_BYTES]).digest() != reader.take(CHECKSUM_BYTES):
        raise Damaged("its checksum differs")
    return Reader(body)


def checksum(content: bytes) -> bytes:
    """That of a whole file, which tells it from every other."""
    return content[-CHECKSUM_BYTES:]


def parsed(content: bytes, path: Path) -> CompressedRun:
    """
    Raises:
        Damaged: see `load_file`.
        UserError: likewise.
    """
    reader = opened(content, MAGIC)
    record_bytes = reader.take(reader.count())
    num_tensors = reader.count()
    if num_tensors > reader.left:
        raise Damaged(f"{num_tensors} tensors in {reader.left} bytes")
    record, shapes = described(inflated(record_bytes), num_tensors, NUMBERS_PER_BYTE * len(content))
    found = [
        tensors.read(reader, int(np.prod(shape, dtype=np.int64)), dtype == torch.int64)
        for shape, dtype in shapes.values()
    ]
    reader.finish()
    return CompressedRun(path, record, Contents(record_bytes, found), shapes, reader.kinds, checksum(content))
