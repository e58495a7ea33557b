"""Files from anybody: whatever their bytes, they open or are refused in one line, in bounded time and memory."""

from __future__ import annotations

import copy
import json
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from convatlas.compression.quantization import input_ranges, quantization_for, quantize_weights
from convatlas.errors import UserError
from convatlas.models.bounds import at_once
from convatlas.models.card import Card
from convatlas.models.codec import container
from convatlas.models.codec.bytestream import DamagedFileError, count
from convatlas.models.codec.cards import RAW, deflated, described, dictionary, inflated
from convatlas.models.codec.container import (
    VERSION,
    CompressedFile,
    parsed,
    read_file,
    read_network,
    sealed,
    write_file,
)
from convatlas.models.codec.update import apply_update, write_update
from convatlas.models.model import Model
from convatlas.networks.blocks import layer_weights

Mutate = Callable[[Any, random.Random], None]

NETWORKS = (
    "lenet1", "lenet5", "alexnet", "vgg11", "googlenet", "resnet20-cifar", "squeezenet", "mobilenet", "efficientnet-b0",
)  # fmt: skip
"""Of every family; each also without the range coder and as a file of version 1, and one in few bits."""
FEW_BITS = "lenet5-modern"
HEAD = len(container.MAGIC) + 1 + container.SIZE_BYTES
MOST_BYTES = 64 * 2**20
"""That a file of some kilobytes may take to open, and more than its network's outputs to predict."""
OUTPUTS = 8
"""So many of the largest that it may have lie in memory at once, while an image is predicted."""
FLOAT_BYTES = 4
CLEAR_PEAK = Path("/proc/self/clear_refs")
"""Where Linux begins anew with what a process held at most."""
MOST_SECONDS = 10.0
"""Of processor time: a busy machine is not a failure."""
IMAGE = Image.new("L", (40, 30), 255)
IMAGE.paste(0, (12, 8, 20, 25))


@dataclass(frozen=True)
class Packed:
    """A compressed file."""

    path: Path
    file: CompressedFile

    @classmethod
    def at(cls, path: Path) -> Packed:
        return cls(path, read_file(path))

    @property
    def version(self) -> int:
        return self.file.contents.version

    @property
    def values(self) -> Any:
        """What its card, or the record of a file of version 1, says."""
        return json.loads(inflated(self.file.contents.card, self.version))

    @property
    def bodies(self) -> tuple[bytes, bytes]:
        """The card with what leads to it, and the rest."""
        content = self.path.read_bytes()[HEAD : -container.CHECKSUM_BYTES]
        head = count(len(self.file.contents.card)) + self.file.contents.card
        assert content.startswith(head)
        return head, content[len(head) :]

    def with_values(self, values: Any) -> bytes:
        """The body with another card or record."""
        # However long it is: a stranger's writer has no limit.
        deflate = zlib.compressobj(wbits=RAW, zdict=dictionary(self.version))
        content = deflate.compress(json.dumps(values).encode()) + deflate.flush()
        return count(len(content)) + content + self.bodies[1]


def mutated(body: bytes, draw: random.Random) -> bytes:
    """Other bytes here and there, parts cut out, doubled or moved."""
    content = bytearray(body)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        place = draw.randrange(len(content))
        match draw.randrange(5):
            case 0:
                content[place] = draw.randrange(256)
            case 1:
                content[place] ^= 1 << draw.randrange(8)
            case 2:
                del content[place : place + draw.choice((1, 2, 50))]
            case 3:
                content[place:place] = content[draw.randrange(len(content)) :][: draw.choice((1, 2, 50))]
            case _:
                content[place : place + draw.choice((1, 4, 9))] = b"\xff" * draw.choice((1, 4, 9))
        if not content:
            content = bytearray(b"\x00")
    return bytes(content)


def ends_well(content: bytes, path: Path) -> bool:
    """Whether it opens; else it is refused as it should be."""
    with suppress(DamagedFileError, UserError):
        with taking_at_most(MOST_BYTES):
            file = parsed(content)
        model = Model(file.card, path, load_network=lambda: read_network(path, file))
        with (
            suppress(UserError),
            taking_at_most(MOST_BYTES + OUTPUTS * FLOAT_BYTES * at_once(file.card.preprocessing.crop)),
        ):
            model.predict(IMAGE)
        return True
    return False


@contextmanager
def taking_at_most(num_bytes: int) -> Iterator[None]:
    """Checks what is done inside: its time, and what this process held more than before, PyTorch's memory included."""
    if CLEAR_PEAK.exists():
        CLEAR_PEAK.write_text("5")
    begun, before = time.process_time(), held_bytes("VmRSS")
    try:
        yield
    finally:
        assert time.process_time() - begun < MOST_SECONDS
        assert held_bytes("VmHWM") - before < num_bytes


def held_bytes(name: str) -> int:
    """What this process holds (VmRSS) or held at most (VmHWM); 0 where no system says it."""
    # Not getrusage: a child's begins with its parent's.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def changed(model: Model, change: Callable[[nn.Module], object]) -> nn.Module:
    """The network of a model, with other weights."""
    network = copy.deepcopy(model.network)
    change(network)
    return network


def of_version_1(packed: Packed, record: dict[str, Any], path: Path) -> Packed:
    """The same file as version 1 wrote it."""
    content = deflated(json.dumps(record).encode(), 1)
    path.write_bytes(sealed(container.MAGIC, 1, count(len(content)) + content + packed.bodies[1]))
    return Packed.at(path)


@pytest.fixture(scope="module")
def packed(
    model_of: Callable[..., Model],
    as_record: Callable[[Card], dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Packed]:
    folder = tmp_path_factory.mktemp("packed")
    found = {}

    def add(name: str, card: Card, network: nn.Module) -> None:
        for end in ("", "-plain"):
            write_file(path := folder / f"{name}{end}.cva", card, network, ranges=not end)
            found[f"{name}{end}"] = Packed.at(path)
        found[f"{name}-v1"] = of_version_1(found[name], as_record(card), folder / f"{name}-v1.cva")

    for name in NETWORKS:
        add(name, model_of(name).card, model_of(name).network)
    model = model_of(FEW_BITS, compressed=False)
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    quantization = quantization_for(model.network, 4, input_ranges(model.network, images))
    few = changed(model, lambda network: quantize_weights(network, quantization))
    add("few bits", replace(model.card, quantization=quantization), few)
    return found


def fuzzed(packed: dict[str, Packed], num: int, seed: int, mutate: Mutate) -> int:
    """So many mutated files, their checksums made right again; how many opened."""
    draw = random.Random(seed)
    num_opened = 0
    for number in range(num):
        each = packed[draw.choice(list(packed))]
        head, rest = each.bodies
        match number % 3:
            case 0:
                body = head + mutated(rest, draw)
            case 1:
                body = mutated(head, draw) + rest
            case _:
                values = each.values
                mutate(values, draw)
                body = each.with_values(values)
        num_opened += ends_well(sealed(container.MAGIC, each.version, body), each.path)
    return num_opened


def check_fuzzed(packed: dict[str, Packed], num: int, seed: int, mutate: Mutate) -> None:
    # Until libraries keep what they will: oneDNN alone the code of its last 1,024 operations.
    fuzzed(packed, max(40, num // 10), seed + 1, mutate)
    before = held_bytes("VmRSS")
    # What opens has other weights, or another card.
    assert num / 20 < fuzzed(packed, num, seed, mutate) < num * 0.95
    # Nothing stays of them.
    assert held_bytes("VmRSS") - before < MOST_BYTES


def test_mutated_files_open_or_are_refused(packed: dict[str, Packed], mutate_json: Mutate) -> None:
    check_fuzzed(packed, 35, 0, mutate_json)


@pytest.mark.slow
def test_mutated_files_take_bounded_memory(packed: dict[str, Packed], mutate_json: Mutate) -> None:
    tracemalloc.start()
    try:
        fuzzed(packed, 25, 1, mutate_json)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_hundred_thousand_mutated_files_open_or_are_refused(packed: dict[str, Packed], mutate_json: Mutate) -> None:
    check_fuzzed(packed, 100_000, 2, mutate_json)


UNUSED = ("divisor", "padding", "s2")
"""Numbers that some spec has and its network does not use, or not for images so small."""


@pytest.mark.parametrize(
    ("end", "huge"),
    [
        pytest.param("", 2**20, id="card, many", marks=pytest.mark.slow),
        pytest.param("-v1", 10**9, id="record, very many"),
        pytest.param("", 10**9, id="card, very many", marks=pytest.mark.slow),
        pytest.param("-v1", 2**20, id="record, many", marks=pytest.mark.slow),
    ],
)
def test_a_description_of_a_huge_network_is_refused_at_once(
    end: str, huge: int, packed: dict[str, Packed], places_in_json: Callable[[Any], Iterator[tuple[Any, Any]]]
) -> None:
    for name in (*NETWORKS, "few bits"):
        each = packed[f"{name}{end}"]
        values = each.values
        for held, key in places_in_json(values["spec"]):
            old = held[key]
            if isinstance(old, int) and not isinstance(old, bool):
                held[key] = huge
                content = sealed(container.MAGIC, each.version, each.with_values(values))
                assert not ends_well(content, each.path) or key in UNUSED
                held[key] = old


@pytest.mark.parametrize("end", [pytest.param("", id="card"), pytest.param("-v1", id="record", marks=pytest.mark.slow)])
def test_a_long_description_is_bounded_by_the_number_of_tensors(end: str, packed: dict[str, Packed]) -> None:
    each = packed[f"resnet20-cifar{end}"]
    values = each.values
    sound, usual = json.dumps(values).encode(), []
    for _ in range(3):
        begun = time.process_time()
        described(sound, each.version, 80, 10**7)
        usual.append(time.process_time() - begun)
    values["spec"]["stages"] = [[[1, 1]] * 20_000]
    begun = time.process_time()
    with pytest.raises(DamagedFileError, match="more layers than there is room for"):
        described(json.dumps(values).encode(), each.version, 100, 10**7)
    # By the time of a sound one, for machines differ: about 130 times as long, and without a bound over 2,000 times.
    assert time.process_time() - begun < 400 * min(usual)


def check_updates(model_of: Callable[..., Model], folder: Path, num: int, seed: int) -> None:
    """So many mutated updates, of networks with nothing in common and of one whose values moved."""
    model = model_of("lenet5")
    model.save(old := folder / "old.cva")

    def moved(network: nn.Module) -> None:
        for weights in layer_weights(network).values():
            weights.mul_(1.01)

    pairs = []
    for name, network in (("other", model_of("lenet5", seed=1).network), ("moved", changed(model, moved))):
        write_file(path := folder / f"{name}.cva", model.card, network)
        content = write_update(old, path, folder / "update.cvu").read_bytes()
        pairs.append((content[HEAD : -container.CHECKSUM_BYTES], path.read_bytes()))
    draw, refused, update = random.Random(seed), 0, folder / "update.cvu"
    for number in range(num):
        body, new_content = pairs[number % 2]
        # After the two checksums, so that more is read than these.
        other = body[:64] + mutated(body[64:], draw)
        update.write_bytes(sealed(b"\x89cvu\r\n\x1a\n", VERSION, other))
        begun = time.process_time()
        try:
            apply_update(old, update, folder / "made.cva")
        except UserError:
            refused += 1
        else:
            assert other == body or (folder / "made.cva").read_bytes() == new_content
        assert time.process_time() - begun < MOST_SECONDS
    assert refused > num * 2 / 3


def test_mutated_updates_are_applied_or_refused(model_of: Callable[..., Model], tmp_path: Path) -> None:
    check_updates(model_of, tmp_path, 50, seed=0)


@pytest.mark.slow
def test_ten_thousand_mutated_updates_are_applied_or_refused(model_of: Callable[..., Model], tmp_path: Path) -> None:
    check_updates(model_of, tmp_path, 10_000, seed=1)
