"""Keras's files with anything changed: read or refused in one line, in bounded time and memory."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convatlas.weights.checkpoint import CheckpointError
from convatlas.weights.formats import keras

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells what a process held at most"
)

WORKER = Path(__file__).with_name("keras_worker.py")
MOST_BYTES = 2**28
"""That a file of some kilobytes may take."""
MOST_SECONDS = 5.0
"""Of processor time: a busy machine is not a failure."""
HANGS_S = 600
"""Of a clock: no busy machine takes so long."""
LAYERS = {
    "conv2d": {"kernel": (3, 3, 3, 4), "bias": (4,)},
    "batch_normalization": {"gamma": (4,), "beta": (4,), "moving_mean": (4,), "moving_variance": (4,)},
    "dense": {"kernel": (4, 5), "bias": (5,)},
}


def write_legacy(path: Path, **options: Any) -> None:
    with h5py.File(path, "w", **options) as file:
        file.attrs["layer_names"] = np.array([*LAYERS], "S")
        for layer, variables in LAYERS.items():
            names = [f"{layer}/{variable}:0" for variable in variables]
            file.create_group(layer).attrs["weight_names"] = np.array(names, "S")
            for name, shape in zip(names, variables.values(), strict=True):
                file[layer][name] = np.ones(shape, "f4")


def write_keras_3(path: Path, **options: Any) -> None:
    with h5py.File(path, "w", **options) as file:
        for layer, variables in LAYERS.items():
            group = file.create_group(f"layers/{layer}/vars")
            group.attrs["name"] = f"the_{layer}"
            for i, shape in enumerate(variables.values()):
                group[str(i)] = np.ones(shape, "f4")


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Files of both layouts, in HDF5's older form, which Keras writes, and in its newer one, which has checksums."""
    path, found = tmp_path_factory.mktemp("genuine") / "weights.h5", []
    for write in (write_legacy, write_keras_3):
        for version in ("earliest", "latest"):
            write(path, libver=version)
            assert set(keras.read(path))
            found.append(path.read_bytes())
    return found


def checksum(content: bytes) -> int:
    """Bob Jenkins's lookup3, which HDF5 has over its newer structures."""

    def rotated(value: int, bits: int) -> int:
        return value << bits | value >> 32 - bits

    state = [0xDEADBEEF + len(content) & 0xFFFFFFFF] * 3
    padded = content + bytes(-len(content) % 12)
    last = max(len(padded) - 12, 0)
    for place in range(0, len(padded), 12):
        words = struct.unpack_from("<3I", padded, place)
        state = [value + word & 0xFFFFFFFF for value, word in zip(state, words, strict=True)]
        for i, bits in enumerate((4, 6, 8, 16, 19, 4) if place < last else ()):
            x, y, z = i % 3, (i - 1) % 3, (i + 1) % 3
            state[x] = (state[x] - state[y] ^ rotated(state[y], bits)) & 0xFFFFFFFF
            state[y] = state[y] + state[z] & 0xFFFFFFFF
    for i, bits in enumerate((14, 11, 25, 16, 4, 14, 24) if content else (), 2):
        x, y = i % 3, (i - 1) % 3
        state[x] = (state[x] ^ state[y]) - rotated(state[y], bits) & 0xFFFFFFFF
    return state[2]


def headers(content: bytes) -> Iterator[tuple[int, int]]:
    """The begin and end of what has a checksum behind it: the superblock and the headers of objects."""
    # Mutated again, a file that was cut off may have become shorter still.
    if len(content) > 8 and content[8] >= 2:
        yield 0, 44
    begin = content.find(b"OHDR")
    while begin >= 0:
        flags = content[begin + 5] if begin + 5 < len(content) else 0
        length = begin + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        end = length + width + int.from_bytes(content[length : length + width], "little")
        if end + 4 <= len(content):
            yield begin, end
        begin = content.find(b"OHDR", begin + 1)


def with_checksums(content: bytes) -> bytes:
    """As whoever forges a file leaves it."""
    mended = bytearray(content)
    for begin, end in headers(content):
        mended[end : end + 4] = checksum(bytes(mended[begin:end])).to_bytes(4, "little")
    return bytes(mended)


def test_checksums_are_hdf5_s(genuine: list[bytes]) -> None:
    newer = [content for content in genuine if content[8] >= 2]
    assert len(newer) == 2
    for content in newer:
        assert len([*headers(content)]) > 5
        assert with_checksums(content) == content


EXTREMES = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def mutated(content: bytes, draw: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        place = draw.randrange(len(found))
        match draw.randrange(6):
            case 0:
                found[place] = draw.randrange(256)
            case 1:
                found[place] ^= 1 << draw.randrange(8)
            case 2:
                width = draw.choice((1, 2, 4, 8))
                found[place : place + width] = (draw.choice(EXTREMES) % 256**width).to_bytes(width, "little")
            case 3:
                # Offsets and sizes are small numbers of eight bytes: one takes the place of another.
                numbers = [i for i in range(len(found) - 8) if 0 < int.from_bytes(found[i : i + 8], "little") < 9999]
                if numbers:
                    source, target = draw.choice(numbers), draw.choice(numbers)
                    found[target : target + 8] = found[source : source + 8]
            case 4:
                length = draw.choice((4, 16, 64))
                source = draw.randrange(len(found))
                found[place : place + length] = found[source : source + length]
            case 5 if draw.random() < 0.2:
                del found[max(place, 9) :]
    return with_checksums(bytes(found)) if draw.random() < 0.9 else bytes(found)


class KerasWorker:
    """A process that reads files; see `keras_worker.py`."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "ignore", str(WORKER)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def read(self, path: Path) -> dict[str, Any] | None:
        """What it answers; None: it crashed, or hung."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        watch = threading.Timer(HANGS_S, self.process.kill)
        watch.start()
        self.process.stdin.write(json.dumps(str(path)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        watch.cancel()
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize(
    ("seed", "num"), [(10, 10), *(pytest.param(seed, 25_000, marks=pytest.mark.fuzz) for seed in range(4))]
)
def test_mutated_files_are_read_or_refused(seed: int, num: int, genuine: list[bytes], tmp_path: Path) -> None:
    draw, ends, slowest, largest = random.Random(seed), Counter[str](), 0.0, 0
    worker = KerasWorker()
    troubles: list[tuple[str, Any]] = []
    for number in range(num):
        path = tmp_path / f"{number}.h5"
        path.write_bytes(mutated(draw.choice(genuine), draw))
        answer = worker.read(path)
        if answer is None:
            # HDF5's library crashed or took its time, as it may: then a process of its own does, and not this one.
            ends["crashed"] += 1
            worker.end()
            worker = KerasWorker()
            with suppress(CheckpointError):
                keras.read(path)
        else:
            if answer["trouble"] or answer["seconds"] > MOST_SECONDS or answer["bytes"] > MOST_BYTES:
                troubles.append((path.name, answer))
                continue
            ends[answer["end"]] += 1
            slowest, largest = max(slowest, answer["seconds"]), max(largest, answer["bytes"])
        path.unlink()
    worker.end()
    print(f"{num:,} files, {slowest:.1f} s and {largest / 2**20:.0f} MiB at most, {dict(ends)}")
    assert not troubles, f"{len(troubles)}: {troubles[:5]}"
    # Some are as good as before, and others are damaged, or sound and not Keras's.
    assert min(ends["read"], ends["damaged"] + ends["refused"]) > num / 100
    assert ends["crashed"] <= max(num / 100, 1)
