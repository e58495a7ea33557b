"""One file: what comes back from it, what it takes, and every way in which it can be cut short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from convatlas.models.codec.records import compact, deflated, inflated
from PIL import Image

from convatlas import runs
from convatlas.errors import UserError
from convatlas.models.codec.container import CompressedRun, load, pack, parsed, unpack
from convatlas.models.codec.streams import Method
from convatlas.runs.run import Run

Finished = Callable[..., Run]
RANGED = {Method.COUNTED, Method.GEOMETRIC}


def same_bits(one: Run, other: Run) -> None:
    own, others = one.network.state_dict(), other.network.state_dict()
    assert list(own) == list(others)
    for name, value in own.items():
        assert value.dtype == others[name].dtype
        assert value.contiguous().numpy().tobytes() == others[name].contiguous().numpy().tobytes(), name


@pytest.mark.parametrize("ranges", [True, False])
def test_every_family_comes_back_bit_for_bit(family: str, ranges: bool, finished: Finished, tmp_path: Path) -> None:
    run = finished(family)
    packed = pack(run, tmp_path / "network.cva", ranges=ranges)
    opened = load(packed.folder)
    assert isinstance(opened, CompressedRun)
    same_bits(opened, run)
    assert opened.record == replace(run.record, start=None)
    assert ranges or not RANGED & set(opened.kinds)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8))
    assert opened.predict(image) == run.predict(image)
    with torch.inference_mode():
        inputs = torch.randn(2, 1, 28, 28)
        assert torch.equal(opened.network(inputs), run.network(inputs))


def test_every_family_is_unpacked_to_a_run_folder(family: str, finished: Finished, tmp_path: Path) -> None:
    run = finished(family)
    unpacked = unpack(pack(run, tmp_path / "network.cva"), tmp_path / "run")
    again = runs.load(unpacked.folder)
    same_bits(again, run)
    assert again.record == replace(run.record, start=None)
    # And packs to the same file.
    pack(again, tmp_path / "again.cva")
    assert (tmp_path / "again.cva").read_bytes() == (tmp_path / "network.cva").read_bytes()


@pytest.mark.parametrize("name", ["lenet5", "resnet20-cifar"])
def test_networks_that_are_not_compressed_come_back_too(name: str, finished: Finished, tmp_path: Path) -> None:
    run = finished(name, compressed=False)
    packed = pack(run, tmp_path / "network.cva")
    same_bits(packed, run)
    weights = sum(value.numel() * 4 for value in run.network.state_dict().values())
    assert packed.folder.stat().st_size < weights + 3000


def test_a_network_of_which_nothing_is_left_comes_back(finished: Finished, tmp_path: Path) -> None:
    run = finished("vgg11")
    network = run.variant.network(run.record.spec)
    for value in network.parameters():
        value.data.zero_()
    empty = Run(tmp_path / "run", run.record)
    empty.folder.mkdir()
    empty.record = replace(run.record, results=replace(run.results, weights_sha256=empty.write_weights(network)))
    same_bits(pack(empty, tmp_path / "network.cva"), empty)


def test_it_evaluates_as_the_run_does(finished: Finished, tmp_path: Path) -> None:
    run = finished("lenet5-modern")
    own, packed = run.evaluate(), pack(run, tmp_path / "network.cva").evaluate()
    assert torch.equal(own.confusion, packed.confusion)
    assert own.loss == packed.loss


def test_a_file_is_as_small_as_its_contents(finished: Finished, tmp_path: Path) -> None:
    # 61,706 numbers; of 60,850 weights a tenth, with codes of 4 bits and places of about 4.7.
    run = finished("lenet5-modern")
    bits = {ranges: pack(run, tmp_path / f"{ranges}.cva", ranges=ranges).folder.stat().st_size for ranges in (0, 1)}
    weights = sum(value.numel() * 4 for value in run.network.state_dict().values())
    assert bits[1] <= bits[0] < weights / 20
    assert len(deflated(compact(run.record))) < 300


def test_without_the_library_a_huffman_file_loads_and_another_says_what_is_missing(
    finished: Finished, tmp_path: Path, no_range_coder: Callable[[], None]
) -> None:
    run = finished("vgg11")
    ranged, huffman = (pack(run, tmp_path / f"{ranges}.cva", ranges=ranges) for ranges in (True, False))
    assert RANGED & set(ranged.kinds)
    no_range_coder()
    same_bits(load(huffman.folder), run)
    with pytest.raises(UserError, match=r"True.cva: it is range-coded; pip install 'convatlas\[compress\]'"):
        load(ranged.folder)
    # What it writes then, everyone reads.
    assert not RANGED & set(pack(run, tmp_path / "now.cva").kinds)


def test_a_file_says_nothing_of_this_machine(finished: Finished, tmp_path: Path) -> None:
    run = finished("lenet5")
    run = Run(run.folder, replace(run.record, start=str(tmp_path)))
    assert str(tmp_path).encode() not in inflated(pack(run, tmp_path / "network.cva").contents.record)


def test_cut_short_anywhere_is_one_line(finished: Finished, tmp_path: Path) -> None:
    path = pack(finished("lenet1"), tmp_path / "network.cva").folder
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(UserError, match="is damaged or no compressed network of convatlas") as caught:
            load(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(content + b"\x00")
    with pytest.raises(UserError, match="is damaged"):
        load(path)


def test_a_flipped_bit_anywhere_is_found(finished: Finished, tmp_path: Path) -> None:
    path = pack(finished("lenet1"), tmp_path / "network.cva").folder
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(UserError):
            load(path)


def test_mistakes_are_one_line(finished: Finished, tmp_path: Path) -> None:
    run = finished("lenet1")
    packed = pack(run, tmp_path / "network.cva")
    with pytest.raises(UserError, match="there is no folder"):
        pack(run, tmp_path / "nowhere" / "network.cva")
    with pytest.raises(UserError, match=r"missing\.cva is no run folder"):
        load(tmp_path / "missing.cva")
    many = replace(run.record, classes=tuple(f"class number {i}" for i in range(20_000)))
    with pytest.raises(UserError, match=r"of which a file can hold 256 KiB"):
        pack(Run(run.folder, many), tmp_path / "many.cva")
    with pytest.raises(UserError, match="no run folder"):
        load(tmp_path)
    (tmp_path / "text.cva").write_text("not a network")
    with pytest.raises(UserError, match="it begins otherwise"):
        load(tmp_path / "text.cva")
    with pytest.raises(UserError, match="holds something already"):
        unpack(packed, tmp_path)
    with pytest.raises(UserError, match="has no curves to report of"):
        packed.report()
    content = packed.folder.read_bytes()
    with pytest.raises(UserError, match="newer convatlas"):
        parsed(content[:8] + b"\x02" + content[9:], packed.folder)


def test_an_unfinished_run_has_nothing_to_pack(finished: Finished, tmp_path: Path) -> None:
    run = finished("lenet1")
    with pytest.raises(UserError, match="is not finished"):
        pack(Run(run.folder, replace(run.record, results=None)), tmp_path / "network.cva")
