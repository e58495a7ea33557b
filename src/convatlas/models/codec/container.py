"""One file with a whole model; docs/reference/cva.md describes every byte."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from convatlas import files
from convatlas.errors import UserError
from convatlas.files.typed_json import NewerFormatError
from convatlas.formatting import size
from convatlas.models.bounds import Shapes
from convatlas.models.card import Card
from convatlas.models.codec import tensors
from convatlas.models.codec.bytestream import Choices, DamagedFileError, Reader, count
from convatlas.models.codec.cards import as_damage, check_packable, compact, deflated, described, inflated
from convatlas.models.codec.tensors import EncodedTensor
from convatlas.models.network import build
from convatlas.networks.quantization import integer_state, load_integer_state

MAGIC = b"\x89cva\r\n\x1a\n"
"""As PNG's: a file that went through a conversion of text is found out."""
VERSION = 2
"""1 held a run's record in place of the card."""
SUFFIX = ".cva"
SIZE_BYTES = 8
CHECKSUM_BYTES = 32
"""SHA-256 of all bytes before it, at the end."""

NUMBERS_PER_BYTE = 2048
"""Weights at most for each byte of a file: a filler stands for 255 zeros and takes a bit at least."""


@dataclass(frozen=True, eq=False)
class Contents:
    """What is in a file."""

    version: int
    card: bytes
    """The card's JSON, deflated."""
    tensors: Sequence[EncodedTensor]
    """In the order of the network's state."""


@dataclass(frozen=True, eq=False)
class CompressedFile:
    """A file as it was read."""

    card: Card
    contents: Contents
    shapes: Shapes
    forms: list[int]
    """The choices that it was written with."""
    checksum: bytes
    """Which tells the file from every other."""

    def network(self) -> nn.Module:
        """The network, in evaluation mode, on the CPU.

        Raises:
            DamagedFileError: the weights are none of the network's.
        """
        with as_damage():
            network = build(self.card)
            parts = zip(self.shapes.items(), self.contents.tensors, strict=True)
            state = {name: torch.from_numpy(tensor.values).reshape(shape) for (name, (shape, _)), tensor in parts}
            load_integer_state(network, self.card.quantization or (), state)
        return network.eval()


def write_file(path: Path, card: Card, network: nn.Module, *, ranges: bool = True) -> None:
    """Write a model into one file; what is read back from it has the same bits. A file that is there is overwritten.

    It is small if many weights are 0 or share few values: see `compression.deep`.

    Args:
        ranges: whether the range coder is used where it is smaller and its library is installed.

    Raises:
        UserError: the model was not evaluated, or there is no such folder.
    """
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} into")
    if card.score is None:
        raise UserError("a compressed file holds a model's test accuracy, and this one was not evaluated")
    content = encoded(card, network, ranges=ranges)
    written_state = parsed(content).network().state_dict()
    for name, own in network.state_dict().items():
        # Nothing may be lost, whatever the network.
        if written_state[name].contiguous().numpy().tobytes() != own.contiguous().numpy().tobytes():
            raise AssertionError(f"{name} was not written as it is")
    files.write(path, content)


def encoded(card: Card, network: nn.Module, *, ranges: bool = True) -> bytes:
    """The bytes of a model's file; see `write_file`.

    Raises:
        UserError: its card is too long, or has names that no file may have.
    """
    check_packable(card)
    state = integer_state(network, card.quantization or ())
    contents = Contents(
        version=VERSION,
        card=deflated(compact(card), VERSION),
        tensors=[tensors.from_array(value.numpy()) for value in state.values()],
    )
    return written(contents, Choices(ranges=ranges))


def read_file(path: Path) -> CompressedFile:
    """Read a compressed file, from whomever it comes.

    Raises:
        UserError: it is none, it is damaged, or it needs a library that is not installed.
    """
    content = read_bytes(path)
    try:
        return parsed(content)
    except DamagedFileError as error:
        raise damaged(path, error) from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_network(path: Path, file: CompressedFile) -> nn.Module:
    """The network of a file that was read from `path`.

    Raises:
        UserError: its weights are none of the network's.
    """
    try:
        return file.network()
    except DamagedFileError as error:
        raise damaged(path, error) from error


def read_bytes(path: Path) -> bytes:
    """
    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        return files.read(path)
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}") from error


def damaged(path: Path, error: DamagedFileError) -> UserError:
    # PyTorch's messages have many lines.
    return UserError(f"{path} is damaged or no compressed model of convatlas: {str(error).splitlines()[0]}")


def written(contents: Contents, choices: Choices) -> bytes:
    """The file's bytes."""
    parts = [
        count(len(contents.card)) + contents.card,
        count(len(contents.tensors)),
        *(tensors.write(tensor, choices) for tensor in contents.tensors),
    ]
    return sealed(MAGIC, contents.version, b"".join(parts))


def sealed(magic: bytes, version: int, body: bytes) -> bytes:
    """A whole file: magic, version, its size, the body, and the checksum of all."""
    num_bytes = len(magic) + 1 + SIZE_BYTES + len(body) + CHECKSUM_BYTES
    content = magic + bytes([version]) + num_bytes.to_bytes(SIZE_BYTES, "little") + body
    return content + hashlib.sha256(content).digest()


def opened(content: bytes, magic: bytes) -> tuple[int, Reader]:
    """The version and the body of a whole file.

    Raises:
        DamagedFileError: it is another file, cut short, or its checksum differs.
        UserError: a newer version wrote it.
    """
    reader = Reader(content)
    if content[: len(magic)] != magic:
        raise DamagedFileError("it begins otherwise")
    reader.take(len(magic))
    version = reader.byte()
    if not version:
        raise DamagedFileError("there is no version 0")
    if version > VERSION:
        raise NewerFormatError("written by a newer convatlas; update this one to read it")
    num_bytes = int.from_bytes(reader.take(SIZE_BYTES), "little")
    if num_bytes != len(content):
        raise DamagedFileError(f"it has {size(len(content))} of {size(num_bytes)}")
    body = reader.take(reader.left - CHECKSUM_BYTES)
    if hashlib.sha256(content[:-CHECKSUM_BYTES]).digest() != reader.take(CHECKSUM_BYTES):
        raise DamagedFileError("its checksum differs")
    return version, Reader(body)


def checksum(content: bytes) -> bytes:
    """That of a whole file, which tells it from every other."""
    return content[-CHECKSUM_BYTES:]


def parsed(content: bytes) -> CompressedFile:
    """
    Raises:
        DamagedFileError: see `read_file`.
        UserError: likewise.
    """
    version, reader = opened(content, MAGIC)
    card_bytes = reader.take(reader.count())
    num_tensors = reader.count()
    if num_tensors > reader.left:
        raise DamagedFileError(f"{num_tensors} tensors in {reader.left} bytes")
    card, shapes = described(inflated(card_bytes, version), version, num_tensors, NUMBERS_PER_BYTE * len(content))
    found = [
        tensors.read(reader, int(np.prod(shape, dtype=np.int64)), dtype == torch.int64)
        for shape, dtype in shapes.values()
    ]
    reader.finish()
    return CompressedFile(card, Contents(version, card_bytes, found), shapes, reader.forms, checksum(content))
