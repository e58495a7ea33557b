"""How long does a checkpoint take to load, and how much memory, against reading and hashing the file?

    python benchmarks/load_weights.py
    python benchmarks/load_weights.py --megabytes 150

A file of this size in each format, of fully connected layers with random weights, is read to its end once, so that it
lies in the system's cache. Then, in processes in turn, it is loaded as `convatlas import` loads it (parsed, hashed, and
looked through for numbers that are none), and read in pieces and hashed with SHA-256 alone. Memory is what the process
holds at most beyond what it held before, the pages of a file that is mapped into it included; not the process that
looks into Keras's files, which reads no weights. It exits with status 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import measured
import torch
from safetensors.torch import save_file

from convatlas.weights.reading import read_checkpoint

ROUNDS = 5
MEGABYTES = 500
SIDE = 2048
"""Inputs and outputs of a layer: 16.8 MB of weights."""
MOST_TIMES_HASHING = 2.0
MOST_TIMES_SIZE = 1.2
FORMATS = ("archive", "pickles", "safetensors", "caffe", "keras")
LABELS = {
    "archive": "PyTorch",
    "pickles": "PyTorch, before 2020",
    "safetensors": "safetensors",
    "caffe": "Caffe",
    "keras": "Keras",
}
CHUNK_BYTES = 2**20


def varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def block(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def write(form: str, path: Path, num_bytes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    num_layers = round(num_bytes / (4 * SIDE**2))
    weights = {f"fc{i}.weight": torch.randn(SIDE, SIDE, generator=generator) for i in range(num_layers)}
    if form == "safetensors":
        save_file(weights, path)
    elif form == "caffe":
        shape = block(7, block(1, varint(SIDE) * 2))
        with path.open("wb") as file:
            for name, weight in weights.items():
                head = block(1, name.removesuffix(".weight").encode()) + block(2, b"InnerProduct")
                blob = block(5, weight.numpy().tobytes()) + shape
                file.write(block(100, head + block(7, blob)))
    elif form == "keras":
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [name.removesuffix(".weight") for name in weights]
            for name, weight in weights.items():
                group = file.create_group(name.removesuffix(".weight"))
                group.attrs["weight_names"] = ["kernel:0"]
                group["kernel:0"] = weight.numpy()
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=form == "archive")


def held_bytes(name: str) -> int:
    """What this process holds (VmRSS) or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def hashed(path: Path) -> str:
    sha256, piece = hashlib.sha256(), bytearray(CHUNK_BYTES)
    with path.open("rb", buffering=0) as file:
        while num := file.readinto(piece):
            sha256.update(memoryview(piece)[:num])
    return sha256.hexdigest()


def run(engine: str, paths: list[Path], small: list[Path]) -> None:
    """Print the milliseconds and the bytes for each file."""
    figures = []
    for path, first in zip(paths, small, strict=True):
        # What libraries load at their first use is no part of it.
        for each in (first, path):
            Path("/proc/self/clear_refs").write_text("5")
            before, begun = held_bytes("VmRSS"), time.perf_counter()
            found = read_checkpoint(each) if engine == "load" else hashed(each)
            seconds, num_bytes = time.perf_counter() - begun, held_bytes("VmHWM") - before
            del found
        figures += [1000 * seconds, float(max(num_bytes, 0))]
    print(*figures)


def targets(form: str, row: Mapping[str, Any]) -> tuple[measured.Target, measured.Target]:
    """What was wanted of a format."""
    time, memory = row["times_hashing"]["median"], row["memory_times_size"]["max"]
    return (
        measured.Target(f"{LABELS[form]}: times hashing", time, MOST_TIMES_HASHING),
        measured.Target(f"{LABELS[form]}: memory over size", memory, MOST_TIMES_SIZE),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", nargs="?", choices=("load", "hash"), help="internal: in a process of its own")
    parser.add_argument("folder", nargs="?", help="internal: where the files lie")
    parser.add_argument("--megabytes", type=int, default=MEGABYTES)
    arguments = parser.parse_args()
    if arguments.engine:
        paths = [Path(arguments.folder) / form for form in FORMATS]
        run(arguments.engine, paths, [path.with_name(f"small-{path.name}") for path in paths])
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = {}
        for form in FORMATS:
            write(form, path := Path(folder) / form, 10**6 * arguments.megabytes)
            write(form, path.with_name(f"small-{form}"), 4 * SIDE**2)
            sizes[form] = path.stat().st_size
            hashed(path)
        lines = measured.lines_in_turn(__file__, ("load", "hash"), ROUNDS, folder)
    formats: dict[str, dict[str, Any]] = {}
    for place, form in enumerate(FORMATS):
        load, hashing = ([line[2 * place] for line in lines[engine]] for engine in ("load", "hash"))
        memory = [line[2 * place + 1] / sizes[form] for line in lines["load"]]
        ratio = measured.spread([mine / other for mine, other in zip(load, hashing, strict=True)])
        formats[form] = {
            "bytes": sizes[form],
            "load_ms": measured.spread(load),
            "hash_ms": measured.spread(hashing),
            "times_hashing": ratio,
            "memory_times_size": measured.spread(memory),
        }
    command = "python benchmarks/load_weights.py"
    command += "" if arguments.megabytes == MEGABYTES else f" --megabytes {arguments.megabytes}"
    measured.write("load_weights", command, {"formats": formats})
    measured.judge([target for form, row in formats.items() for target in targets(form, row)])


if __name__ == "__main__":
    main()
