"""Files from anybody: whatever their bytes, they open or are refused in one line, in bounded time and memory."""

from __future__ import annotations

import copy
import json
import random
import resource
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from convatlas.compression.deep import container
from convatlas.compression.deep.bounds import described
from convatlas.compression.deep.bytestream import Damaged, count
from convatlas.compression.deep.container import CompressedRun, pack, parsed, sealed
from convatlas.compression.deep.records import deflated, inflated
from convatlas.compression.deep.update import apply_update, write_update
from convatlas.errors import UserError
from convatlas.runs import Run

NETWORKS = ("lenet1", "lenet5", "resnet20-cifar", "squeezenet", "googlenet")
HEAD = len(container.MAGIC) + 1 + container.SIZE_BYTES
MOST_BYTES = 64 * 2**20
"""That a file of some kilobytes may take."""
MOST_SECONDS = 10.0
PICTURE = Image.new("L", (40, 30), 128)
ODD = [
    0,
    -1,
    1,
    2,
    3,
    7,
    255,
    2**16,
    2**20,
    2**31,
    2**63,
    10**30,
    0.5,
    1e300,
    True,
    None,
    "",
    "x",
    [],
    [[]],
    {},
    [1] * 50,
]


def bodies(packed: CompressedRun) -> tuple[bytes, bytes]:
    """A file's record with what leads to it, and the rest."""
    content = packed.folder.read_bytes()[HEAD : -container.CHECKSUM_BYTES]
    head = count(len(packed.contents.record)) + packed.contents.record
    assert content.startswith(head)
    return head, content[len(head) :]


def with_record(record: Any, rest: bytes) -> bytes:
    content = deflated(json.dumps(record).encode())
    return count(len(content)) + content + rest


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


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a record: what holds it, and under what."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def mutated_record(record: bytes, draw: random.Random) -> Any:
    values = json.loads(record)
    # What the network is and how pictures are read, more often than the rest.
    part = values[draw.choice(("spec", "spec", "spec", "preprocessing"))] if draw.random() < 0.7 else values
    for _ in range(draw.choice((1, 1, 2, 3))):
        held, key = draw.choice(list(places(part)))
        with suppress(IndexError, KeyError):
            old = held[key]
            match draw.randrange(4):
                case 0:
                    del held[key]
                case 1 if isinstance(old, int):
                    held[key] = old * draw.choice((2, 10, 1000, 10**5)) + draw.choice((-1, 0, 1))
                case 2 if isinstance(old, list):
                    held[key] = old * draw.choice((2, 100))
                case _:
                    held[key] = copy.deepcopy(draw.choice(ODD))
        if not list(places(part)):
            break
    return values


def ends_well(content: bytes, path: Path) -> bool:
    """Whether it opens; else it is refused as it should be."""
    begun = time.perf_counter()
    try:
        packed = parsed(content, path)
        with suppress(UserError):
            packed.predict(PICTURE)
    except (Damaged, UserError):
        return False
    finally:
        assert time.perf_counter() - begun < MOST_SECONDS
    return True


@pytest.fixture(scope="module")
def packed(finished: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> list[CompressedRun]:
    folder = tmp_path_factory.mktemp("packed")
    return [
        pack(finished(name), folder / f"{name}-{ranges}.cva", ranges=ranges)
        for name in NETWORKS
        for ranges in (True, False)
    ]


def fuzzed(packed: list[CompressedRun], num: int, seed: int) -> int:
    """So many mutated files, their checksums made right again; how many opened."""
    draw = random.Random(seed)
    parts = [bodies(each) for each in packed]
    num_opened = 0
    for number in range(num):
        index = draw.randrange(len(packed))
        head, rest = parts[index]
        match number % 3:
            case 0:
                body = head + mutated(rest, draw)
            case 1:
                body = mutated(head, draw) + rest
            case _:
                body = with_record(mutated_record(inflated(packed[index].contents.record), draw), rest)
        num_opened += ends_well(sealed(container.MAGIC, body), packed[index].folder)
    return num_opened


def check_fuzzed(packed: list[CompressedRun], num: int, seed: int) -> None:
    # What opens has other weights, or another record.
    fuzzed(packed, 20, seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert num / 20 < fuzzed(packed, num, seed) < num * 0.95
    # In kibibytes on Linux; PyTorch's memory counts here too.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_BYTES / 1024


def test_mutated_files_open_or_are_refused(packed: list[CompressedRun]) -> None:
    check_fuzzed(packed, 400, seed=0)


def test_mutated_files_take_bounded_memory(packed: list[CompressedRun]) -> None:
    tracemalloc.start()
    try:
        fuzzed(packed, 150, seed=1)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_hundred_thousand_mutated_files_open_or_are_refused(packed: list[CompressedRun]) -> None:
    check_fuzzed(packed, 100_000, seed=2)


def test_a_record_that_describes_a_huge_network_is_refused_at_once(packed: list[CompressedRun]) -> None:
    for each in packed:
        _, rest = bodies(each)
        values = json.loads(inflated(each.contents.record))
        for held, key in places(values["spec"]):
            for huge in (10**6, 2**20, 10**9):
                old = held[key]
                if isinstance(old, int) and not isinstance(old, bool):
                    held[key] = huge
                    assert not ends_well(sealed(container.MAGIC, with_record(values, rest)), each.folder) or key in (
                        "kernel",
                        "divisor",
                        "drop_connect",
                    )
                    held[key] = old


def test_a_long_record_is_bounded_by_the_number_of_tensors(packed: list[CompressedRun]) -> None:
    values = json.loads(inflated(packed[4].contents.record))
    assert values["variant"] == "resnet20-cifar"
    values["spec"]["stages"] = [[[1, 1]] * 20_000]
    begun = time.perf_counter()
    with pytest.raises(Damaged, match="more layers than the file has tensors"):
        described(json.dumps(values).encode(), 100, 10**7)
    assert time.perf_counter() - begun < 3


def test_mutated_updates_are_applied_or_refused(
    finished: Callable[..., Run], tmp_path: Path, packed: list[CompressedRun]
) -> None:
    old = packed[2].folder
    new = pack(finished("lenet5", seed=1), tmp_path / "new.cva").folder
    update = write_update(old, new, tmp_path / "update.cvu")
    body = update.read_bytes()[HEAD : -container.CHECKSUM_BYTES]
    draw, refused = random.Random(0), 0
    for _ in range(300):
        # After the two checksums, so that more is read than these.
        changed = body[:64] + mutated(body[64:], draw)
        update.write_bytes(sealed(b"\x89cvu\r\n\x1a\n", changed))
        try:
            apply_update(old, update, tmp_path / "made.cva")
        except UserError:
            refused += 1
        else:
            assert changed == body or (tmp_path / "made.cva").read_bytes() == new.read_bytes()
    assert refused > 200
