"""One file: what comes back from it, what it takes, and every way in which it can be cut short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.errors import UserError
from convatlas.models.card import Card
from convatlas.models.codec import container
from convatlas.models.codec.bytestream import DamagedFileError
from convatlas.models.codec.cards import compact, deflated, inflated
from convatlas.models.codec.container import CompressedFile, parsed, read_file, write_file
from convatlas.models.codec.streams import StreamForm
from convatlas.models.model import Model, open_model
from convatlas.models.network import build

ModelOf = Callable[..., Model]
RANGED = {StreamForm.COUNTED, StreamForm.GEOMETRIC}


def packed(model: Model, path: Path, *, ranges: bool = True) -> CompressedFile:
    write_file(path, model.card, model.network, ranges=ranges)
    return read_file(path)


def in_a_file(card: Card) -> Card:
    """The card as a file holds it."""
    return replace(card, weights_sha256=None, provenance=replace(card.provenance, parent_sha256=None))


def same_bits(one: torch.nn.Module, other: torch.nn.Module) -> None:
    own, others = one.state_dict(), other.state_dict()
    assert list(own) == list(others)
    for name, value in own.items():
        assert value.dtype == others[name].dtype
        assert value.contiguous().numpy().tobytes() == others[name].contiguous().numpy().tobytes(), name


@pytest.mark.parametrize("ranges", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_family_comes_back_bit_for_bit(family: str, ranges: bool, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(family)
    file = packed(model, tmp_path / "network.cva", ranges=ranges)
    opened = open_model(tmp_path / "network.cva")
    same_bits(opened.network, model.network)
    assert opened.card == file.card == in_a_file(model.card)
    assert ranges or not RANGED & set(file.forms)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))
    assert opened.predict(image) == model.predict(image)
    with torch.inference_mode():
        inputs = torch.randn(2, 1, 28, 28)
        assert torch.equal(opened.network(inputs), model.network(inputs))


def test_every_family_is_unpacked_to_a_model_folder(some_family: str, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(some_family)
    again = model.save(tmp_path / "network.cva").save(tmp_path / "model")
    same_bits(again.network, model.network)
    assert again.card == model.card
    # And packs to the same file.
    again.save(tmp_path / "again.cva")
    assert (tmp_path / "again.cva").read_bytes() == (tmp_path / "network.cva").read_bytes()


@pytest.mark.parametrize("name", ["lenet5", "resnet20-cifar"])
def test_networks_that_are_not_compressed_come_back_too(name: str, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(name, compressed=False)
    same_bits(model.save(tmp_path / "network.cva").network, model.network)
    weights = sum(value.numel() * 4 for value in model.network.state_dict().values())
    assert (tmp_path / "network.cva").stat().st_size < weights + 3000


def test_a_network_of_zeros_comes_back(model_of: ModelOf, tmp_path: Path) -> None:
    card = model_of("vgg11").card
    network = build(card)
    for value in network.parameters():
        value.data.zero_()
    empty = Model(card, load_network=lambda: network)
    same_bits(empty.save(tmp_path / "network.cva").network, network)


def test_it_evaluates_as_the_folder_does(model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("lenet5-modern")
    own, of_file = model.evaluate(), model.save(tmp_path / "network.cva").evaluate()
    assert torch.equal(own.confusion, of_file.confusion)
    assert own.loss == of_file.loss


def test_a_file_is_as_small_as_its_contents(model_of: ModelOf, tmp_path: Path) -> None:
    # 61,706 numbers; of 60,850 weights a tenth, with codes of 4 bits and places of about 4.7.
    model = model_of("lenet5-modern")
    sizes = {}
    for ranges in (True, False):
        packed(model, path := tmp_path / f"{ranges}.cva", ranges=ranges)
        sizes[ranges] = path.stat().st_size
    weights = sum(value.numel() * 4 for value in model.network.state_dict().values())
    assert sizes[True] <= sizes[False] < weights / 20
    assert len(deflated(compact(model.card), container.VERSION)) < 300


def test_without_the_library_a_huffman_file_loads_and_another_says_what_is_missing(
    model_of: ModelOf, tmp_path: Path, no_range_coder: Callable[[], None]
) -> None:
    model = model_of("vgg11")
    ranged, huffman = (packed(model, tmp_path / f"{ranges}.cva", ranges=ranges) for ranges in (True, False))
    assert RANGED & set(ranged.forms)
    no_range_coder()
    same_bits(open_model(tmp_path / "False.cva").network, model.network)
    assert huffman.forms
    with pytest.raises(UserError, match=r"True.cva: it is range-coded; pip install 'convatlas\[compress\]'"):
        open_model(tmp_path / "True.cva")
    # What it writes then, everyone reads.
    assert not RANGED & set(packed(model, tmp_path / "now.cva").forms)


def test_a_file_says_nothing_of_this_machine_nor_of_what_only_its_maker_has(model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("lenet5")
    parent = "ab" * 32
    derived = replace(model.card, provenance=replace(model.card.provenance, parent_sha256=parent))
    write_file(tmp_path / "network.cva", derived, model.network)
    content = inflated(read_file(tmp_path / "network.cva").contents.card, container.VERSION)
    assert model.path is not None
    for own in (str(model.path), str(tmp_path), parent, str(model.card.weights_sha256)):
        assert own.encode() not in content


def test_cut_short_anywhere_is_one_line(model_of: ModelOf, tmp_path: Path) -> None:
    packed(model_of("lenet1"), path := tmp_path / "network.cva")
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(UserError, match="is damaged or no compressed model of convatlas") as caught:
            open_model(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(content + b"\x00")
    with pytest.raises(UserError, match="is damaged"):
        open_model(path)


def test_a_flipped_bit_anywhere_is_found(model_of: ModelOf, tmp_path: Path) -> None:
    packed(model_of("lenet1"), path := tmp_path / "network.cva")
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(UserError):
            open_model(path)


def test_mistakes_are_one_line(model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("lenet1")
    file = model.save(tmp_path / "network.cva")
    with pytest.raises(UserError, match="there is no folder"):
        model.save(tmp_path / "nowhere" / "network.cva")
    with pytest.raises(UserError, match=r"there is no .*missing\.cva"):
        read_file(tmp_path / "missing.cva")
    long = replace(model.card, classes=tuple(30_000 * name for name in model.classes))
    with pytest.raises(UserError, match=r"of which a file can hold 256 KiB"):
        write_file(tmp_path / "long.cva", long, model.network)
    with pytest.raises(UserError, match="is a folder, a device or a pipe, not a file"):
        read_file(tmp_path)
    (tmp_path / "text.cva").write_text("not a network")
    with pytest.raises(UserError, match="it begins otherwise"):
        open_model(tmp_path / "text.cva")
    with pytest.raises(UserError, match="holds something already"):
        file.save(tmp_path)
    content = (tmp_path / "network.cva").read_bytes()
    for version, message in ((container.VERSION + 1, "newer convatlas"), (0, "version 0")):
        with pytest.raises((UserError, DamagedFileError), match=message):
            parsed(content[:8] + bytes([version]) + content[9:])
        (tmp_path / "network.cva").write_bytes(content[:8] + bytes([version]) + content[9:])
        with pytest.raises(UserError, match=rf"network\.cva.*{message}"):
            open_model(tmp_path / "network.cva")


@pytest.mark.parametrize("name", ["bell\x07", "caf\udce9", "one\ntwo"], ids=ascii)
def test_a_class_name_that_no_file_can_hold_is_one_line(name: str, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("lenet1")
    odd = replace(model.card, classes=(name, *model.classes[1:]))
    with pytest.raises(UserError, match="cannot be shown"):
        write_file(tmp_path / "odd.cva", odd, model.network)
    assert not (tmp_path / "odd.cva").exists()


def test_a_model_that_was_not_evaluated_is_not_packed(model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("lenet1")
    with pytest.raises(UserError, match="was not evaluated"):
        write_file(tmp_path / "network.cva", replace(model.card, score=None), model.network)
    assert not (tmp_path / "network.cva").exists()
