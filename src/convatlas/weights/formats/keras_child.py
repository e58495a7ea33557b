"""Where the tensors of a Keras file lie in it, told by a process of its own, for HDF5 is much C code and anybody writes
such files.

    python -m convatlas.weights.formats.keras_child FILE

prints one JSON object: `tensors`, or why there are none. No number of a tensor is read here: Keras stores each in one
piece, as HDF5's "contiguous" layout, which has an offset in the file.

Keras writes two layouts. In `.h5` the attribute `layer_names` lists the layers, and `weight_names` of each layer's
group its tensors; a long list is split into `layer_names0` and so on; a whole model has all that below `model_weights`.
In `.weights.h5` (Keras 3) there is a group for each layer below `layers`, called by its class and a number; its `vars`
are numbered, and newer versions put the layer's own name beside them.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice, takewhile
from pathlib import Path
from typing import NamedTuple

import h5py

MOST_BYTES = 2**28
"""Of memory, beyond what Python and its libraries take: no numbers are read. HDF5's library takes what it can get where
a file leads it in a circle."""
MOST_SECONDS = 20
"""Of processor time."""
MOST_NAMES = 20_000
"""EfficientNet-B7 has 1,040 layers with 1,600 tensors."""
MOST_LETTERS = 100
"""Of a layer's name."""

TYPES = {"float16": h5py.h5t.IEEE_F16LE, "float32": h5py.h5t.IEEE_F32LE, "float64": h5py.h5t.IEEE_F64LE}
COUNT = "count"
"""Of `Normalization`: how many images it saw, which nothing computes with."""
VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "normalization": ("mean", "variance", COUNT),
}
"""By the class of a layer, its tensors in the order of their numbers. Only a bias may be absent."""
ROLES = {role: role for roles in VARIABLES.values() for role in roles} | {"W": "kernel", "b": "bias"}
"""What tensors are called in `.h5`; the letters are Keras 1's, which VGG's published weights have."""


class RefusedError(Exception):
    """A file holds what Keras does not write; the message says what."""


class Stored(NamedTuple):
    """A tensor in the file."""

    layer: str
    role: str
    """One of `VARIABLES`."""
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Of its first byte, from the beginning of the file."""


def main() -> None:
    limit()
    json.dump(answer(sys.argv[1]), sys.stdout)


def answer(path: str) -> dict[str, object]:
    """The `tensors` of a file, or why they are `refused`."""
    try:
        return {"tensors": stored(path)}
    except RefusedError as refused:
        return {"refused": str(refused)}
    except Exception:
        # Damage makes HDF5 and h5py raise errors of every kind, and MemoryError.
        return {"refused": "damaged or cut short"}


def limit() -> None:
    """Where the system can: no more memory and time than any genuine file takes."""
    try:
        import resource
    except ImportError:
        return
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: MOST_SECONDS}
    # Only Linux tells what is taken; macOS has no limit of memory.
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + MOST_BYTES
    for kind, most in limits.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def stored(path: str) -> list[Stored]:
    """The tensors of a file.

    Raises:
        RefusedError: it holds what Keras does not write.
        Exception: of any kind, from HDF5: it is damaged.
    """
    # No lock: reading must work on a disk that cannot be written to.
    with h5py.File(path, "r", locking=False) as file:
        if has(file, "layers"):
            tensors = of_keras_3(group_in(file, "layers"))
        else:
            tensors = of_legacy(group_in(file, "model_weights") if has(file, "model_weights") else file)
        found = list(islice(tensors, MOST_NAMES + 1))
    if len(found) > MOST_NAMES:
        raise RefusedError(f"it has more than {MOST_NAMES:,} tensors")
    return found


def of_legacy(root: h5py.Group) -> Iterator[Stored]:
    layers = listed(root, "layer_names")
    if not layers:
        raise RefusedError("HDF5, but not Keras's weights: it has neither layers nor layer_names")
    for layer in layers:
        group = group_in(root, layer)
        for name in listed(group, "weight_names"):
            # As "conv1/kernel", "conv1/kernel:0" or "block1_conv1_W_1:0".
            last = name.rpartition("/")[2].removesuffix(":0")
            match = re.fullmatch(rf"(?:.*?_)?({'|'.join(ROLES)})(?:_\d+)?", last)
            if match is None:
                raise RefusedError(f"{shown(name)} is no tensor of a kind of layer that is known here")
            yield from tensor(group, name, layer, ROLES[match[1]])


def listed(group: h5py.Group, name: str) -> list[str]:
    """The names in an attribute, or in its numbered parts; none where neither is there."""
    parts = [name] if name in group.attrs else takewhile(group.attrs.__contains__, (f"{name}{i}" for i in count()))
    names: list[str] = []
    for part in parts:
        if math.prod(group.attrs.get_id(part).shape) > MOST_NAMES:
            raise RefusedError(f"its {part} lists more than {MOST_NAMES:,} names")
        names += [value.decode() if isinstance(value, bytes) else str(value) for value in group.attrs[part]]
    return names


def of_keras_3(root: h5py.Group) -> Iterator[Stored]:
    if len(root) > MOST_NAMES:
        raise RefusedError(f"it has more than {MOST_NAMES:,} layers")
    for key in root:
        group = group_in(root, key)
        if not has(group, "vars"):
            raise RefusedError(f"its layer {shown(key)} is a network of layers; save that one alone")
        variables = group_in(group, "vars")
        if not len(variables):
            continue
        kind = re.sub(r"_\d+$", "", key)
        if kind not in VARIABLES:
            raise RefusedError(f"its layer {shown(key)} is of no kind that is known here: {', '.join(VARIABLES)}")
        roles = VARIABLES[kind]
        if len(variables) != len(roles) and not (roles[-1] == "bias" and len(variables) == 1):
            raise RefusedError(f"its layer {shown(key)} has {len(variables)} tensors, and not {len(roles)}")
        for i, role in enumerate(roles[: len(variables)]):
            yield from tensor(variables, str(i), str(variables.attrs.get("name", key)), role)


def has(group: h5py.Group, name: str) -> bool:
    """Whether it has a link of that name; `in` would follow it, out of the file too."""
    return bool(group.id.links.exists(name.encode()))


def item_in(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
    """What lies at the end of a path without links."""
    found = group
    for name in path.split("/"):
        if not isinstance(found, h5py.Group) or not name or not has(found, name):
            raise RefusedError(f"it lists {shown(path)} and does not have it")
        if not isinstance(found.get(name, getlink=True), h5py.HardLink):
            raise RefusedError(f"its {shown(path)} is a link to another place or file, which Keras does not write")
        found = found[name]
    return found


def group_in(group: h5py.Group, path: str) -> h5py.Group:
    found = item_in(group, path)
    if not isinstance(found, h5py.Group):
        raise RefusedError(f"its {shown(path)} is no group")
    return found


def tensor(group: h5py.Group, path: str, layer: str, role: str) -> Iterator[Stored]:
    """The tensor at a path, if anything computes with it."""
    if role == COUNT:
        return
    if len(layer) > MOST_LETTERS:
        raise RefusedError(f"its {shown(layer)} is too long for a name")
    found, name = item_in(group, path), shown(f"{layer} {role}")
    if not isinstance(found, h5py.Dataset):
        raise RefusedError(f"its {name} is no data set")
    # Before anything else is asked of it: the rest of a virtual one may lie in other files.
    creation = found.id.get_create_plist()
    if creation.get_layout() != h5py.h5d.CONTIGUOUS:
        raise RefusedError(
            f"its {name} is virtual, or compressed or stored in chunks, which Keras does not do; load it with Keras "
            "and save it again"
        )
    if creation.get_external_count():
        raise RefusedError(f"the data of its {name} lie in another file, which Keras does not write")
    dtype = next((dtype for dtype, kind in TYPES.items() if found.id.get_type().equal(kind)), None)
    if dtype is None:
        raise RefusedError(f"its {name} is of type {shown(str(found.dtype))}, and not one of {', '.join(TYPES)}")
    offset = found.id.get_offset()
    if found.shape is None or offset is None:
        raise RefusedError(f"its {name} has no data")
    yield Stored(layer, role, dtype, found.shape, offset)


def shown(name: str) -> str:
    """A name that may hold anything, for a message of one line."""
    return ascii(name if len(name) <= MOST_LETTERS else f"{name[:MOST_LETTERS]}...")


if __name__ == "__main__":
    main()
