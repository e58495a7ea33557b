"""A model as a folder: `model.json` beside `weights.safetensors`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from convatlas.errors import UserError
from convatlas.files import lock, num_bytes, read, write
from convatlas.files.typed_json import MAX_BYTES, as_file_error
from convatlas.models.bounds import check, describe_card
from convatlas.models.card import CARD, Card
from convatlas.models.network import build

WEIGHTS = "weights.safetensors"
NO_PAGES: Mapping[str, bytes] = MappingProxyType({})
HEADER, HEADER_PER_TENSOR = 2**20, 2**10
"""Bytes that a file of weights may have beside them."""


def read_card(folder: Path) -> Card:
    """
    Raises:
        UserError: there is none, it is damaged, or it describes no network.
    """
    path = folder / CARD
    try:
        content = read(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not a model folder: it has no {CARD}") from error
    card = Card.from_json(content, str(path))
    with as_file_error(str(path)):
        check(card)
    return card


def read_network(folder: Path, card: Card) -> nn.Module:
    """The network with the folder's weights, in evaluation mode, on the CPU.

    Raises:
        UserError: the weights are missing, damaged, another model's, or were not written yet.
    """
    path = folder / WEIGHTS
    if card.weights_sha256 is None:
        raise UserError(f"{folder} is not finished; convatlas resume {folder} goes on with it")
    described, size = describe_card(card), num_bytes(path)
    if size is None:
        raise UserError(f"{path} is missing")
    # Whatever a card says, no more is allocated than there is in the file.
    if not 0 <= size - described.num_bytes <= HEADER + HEADER_PER_TENSOR * len(described.shapes):
        raise UserError(f"{path} is damaged or not this model's: its size is not that of the network in its card")
    content = read(path, size)
    if hashlib.sha256(content).hexdigest() != card.weights_sha256:
        raise UserError(f"{path} is damaged or not this model's: its checksum is not the one in its card")
    network = build(card)
    try:
        network.load_state_dict(load_tensors(content))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} does not fit the network in its card") from error
    return network.eval()


def write_card(folder: Path, card: Card) -> None:
    write(folder / CARD, card.to_json())


def write_model(folder: Path, card: Card, network: nn.Module, pages: Mapping[str, bytes] = NO_PAGES) -> None:
    """Write a model whose folder nobody else writes: whoever is killed leaves what `is_begun` tells from a model.

    Args:
        pages: further files, by their names.
    """
    with lock(folder):
        write_card(folder, replace(card, weights_sha256=None))
        for name, content in pages.items():
            write(folder / name, content)
        write_card(folder, replace(card, weights_sha256=write_weights(folder, network)))


def is_begun(folder: Path, card: Card) -> bool:
    """Whether a process was killed that wrote this model there."""
    with suppress(OSError):
        return (folder / CARD).read_bytes() == replace(card, weights_sha256=None).to_json()
    return False


def write_weights(folder: Path, network: nn.Module) -> str:
    """Write a network's weights and return their SHA-256."""
    content = weights_content(network)
    write(folder / WEIGHTS, content)
    return hashlib.sha256(content).hexdigest()


def weights_checksum(network: nn.Module) -> str:
    """The SHA-256 that the file of these weights has."""
    return hashlib.sha256(weights_content(network)).hexdigest()


def weights_content(network: nn.Module) -> bytes:
    """A network's weights as safetensors."""
    return save_tensors({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()})
