"""PyTorch's files: a pickle that names tensors, and their numbers, in a zip archive or, before 2020, one after another.

A pickle is a program, and no file of a stranger's may run one. Here it is read twice. First its instructions are looked
through, and none may name anything but tensors and plain containers; then PyTorch loads it, with `weights_only`, which
checks the same in its own way.
"""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convatlas.formatting import size, visible
from convatlas.weights.checkpoint import CheckpointError, reason

ZIP = b"PK\x03\x04"
PICKLE = b"\x80"
END_OF_ZIP, END_OF_ZIP_BYTES = b"PK\x05\x06", 22
LOCATOR, LOCATOR_BYTES, LARGE_END_OF_ZIP_BYTES = b"PK\x06\x07", 20, 56
"""An archive ends with a record of this form, after two that allow for more than 4 GiB."""
MAX_PICKLE_BYTES = 16 * 2**20
MAX_INSTRUCTIONS = 1_000_000
"""A checkpoint of ResNet-152 with the state of its optimizer has 100,000 in 1 MB."""
NUM_LEGACY_PICKLES = 5
"""Of a file without an archive: a magic number, a version, the machine's word sizes, the content, and an order."""
ALLOWED = {
    "collections OrderedDict",
    "collections Counter",
    "torch Size",
    "torch device",
    "torch.nn.parameter Parameter",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
} | {
    f"torch {kind}Storage"
    for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
}
"""What a pickle may name. Nothing among it can be called to fill memory that the file does not fill."""
WRAPPERS = (
    "state_dict", "state_dict_ema", "model_state_dict", "model_state", "model_ema", "model", "network", "net",
)  # fmt: skip
"""What people call the weights in a checkpoint that has more."""
PARALLEL = "module."
"""What `DataParallel` puts before every name."""
SMALL_CHANGE = 4096
"""Bytes that all tensors together may have beyond those of the file: empty and single ones cost little there."""


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, of an archive mapped into memory.

    Raises:
        CheckpointError: it is damaged, it names code, it is a program or a whole network, it has no or several state
            dicts, or its tensors are larger than the file.
    """
    with path.open("rb") as file:
        archived = file.read(len(ZIP)) == ZIP
    pickles = archived_pickle(path) if archived else legacy_pickles(path)
    for content in pickles:
        check_harmless(content, path)
    try:
        with warnings.catch_warnings():
            # A stranger's pickle must not print what it likes.
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=archived)
    except Exception as error:
        # A damaged pickle runs into anything.
        raise CheckpointError(f"{path} is a damaged checkpoint of PyTorch: {reason(error)}") from error
    tensors = without_prefix(state_dict(loaded, path))
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if num_bytes > path.stat().st_size + SMALL_CHANGE:
        whole = size(path.stat().st_size)
        raise CheckpointError(f"{path} says of its tensors that they have {size(num_bytes)}, and has {whole} itself")
    return tensors


def archived_pickle(path: Path) -> Iterator[BytesIO]:
    """The pickle of an archive.

    Raises:
        CheckpointError: it is no archive of PyTorch's, a part of it is compressed, or it holds a program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(f"{path} is a damaged zip archive, or half of one: {reason(error)}") from error
    names = [part.filename.partition("/")[2] for part in parts]
    if any(name == "constants.pkl" or name.startswith("code/") for name in names):
        raise CheckpointError(f"{path} is a TorchScript program; save the state dict of its network, and import that")
    if "data.pkl" not in names:
        inside = [part.filename for part in parts if part.filename.endswith(".h5")]
        hint = f"; extract its {visible(inside[0])}, and import that" if inside else ""
        raise CheckpointError(f"{path} is a zip archive, but none that PyTorch wrote{hint}")
    for part in parts:
        if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size or part.flag_bits & 1:
            raise CheckpointError(f"{path} holds {visible(part.filename)} compressed, which PyTorch never does")
        if not 0 <= part.header_offset <= path.stat().st_size - part.file_size:
            raise CheckpointError(
                f"{path} is a damaged zip archive, or half of one: {visible(part.filename)} does not lie in it"
            )
    content = parts[names.index("data.pkl")]
    if len(set(names)) < len(names) or not ends_plainly(path):
        raise CheckpointError(f"{path} is no archive as PyTorch writes it: programs may disagree on what is in it")
    if content.file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(f"{path} names its tensors in {size(content.file_size)}, which no network needs")
    with path.open("rb") as file:
        # Not by the archive's reader: it checks a sum of bits that PyTorch can leave out.
        file.seek(content.header_offset + 26)
        lengths = file.read(4)
        skipped = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        file.seek(content.header_offset + 30 + skipped)
        yield BytesIO(file.read(content.file_size))


def ends_plainly(path: Path) -> bool:
    """Whether an archive ends so that any two programs find the same list of parts in it."""
    with path.open("rb") as file:
        num_bytes = path.stat().st_size
        file.seek(max(num_bytes - END_OF_ZIP_BYTES - LOCATOR_BYTES, 0))
        locator, end = file.read(LOCATOR_BYTES), file.read()
    place = num_bytes - END_OF_ZIP_BYTES - LOCATOR_BYTES - LARGE_END_OF_ZIP_BYTES
    return end.startswith(END_OF_ZIP) and (
        not locator.startswith(LOCATOR) or int.from_bytes(locator[8:16], "little") == place
    )


def legacy_pickles(path: Path) -> Iterator[BytesIO]:
    """The pickles of a file without an archive, each at its beginning in the same stream."""
    with path.open("rb") as file:
        content = BytesIO(file.read(MAX_PICKLE_BYTES))
    for _ in range(NUM_LEGACY_PICKLES):
        yield content


def check_harmless(content: BytesIO, path: Path) -> None:
    """Look through a pickle, and run none of it.

    Raises:
        CheckpointError: it names code, it has no end, or it is none that PyTorch writes.
    """
    words = ["", ""]
    try:
        for number, (code, value, _) in enumerate(pickletools.genops(content)):
            if number > MAX_INSTRUCTIONS:
                raise CheckpointError(f"{path} has more instructions than any network needs")
            if isinstance(value, str):
                words = [words[1], value]
            if code.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
                name = " ".join(words) if code.name == "STACK_GLOBAL" else str(value)
                if name not in ALLOWED:
                    raise named_code(path, name)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is a damaged pickle, or half of one: {reason(error)}") from error


def named_code(path: Path, name: str) -> CheckpointError:
    """The error for a pickle that names something to call."""
    shown = visible(name.replace(" ", "."))[:100]
    if name.startswith("torch.nn.modules") or ".models." in name:
        what = f"a whole network with its code ({shown})"
    else:
        what = f"a pickle with code in it ({shown})"
    return CheckpointError(f"{path} is {what}, which is never run; save the state dict alone, and import that")


def state_dict(loaded: Any, path: Path) -> Mapping[str, Tensor]:
    """The weights in what a file holds: all of it, or the one part with a name as "state_dict".

    Raises:
        CheckpointError: there are none, or several.
    """
    if isinstance(loaded, Mapping):
        found = [name for name in WRAPPERS if is_state_dict(loaded.get(name))]
        if len(found) > 1:
            raise CheckpointError(
                f"{path} holds several networks' weights ({', '.join(found)}); save one of them alone, and import that"
            )
        if found:
            return dict(loaded[found[0]])
        if is_state_dict(loaded):
            return dict(loaded)
        names = [visible(str(name))[:30] for name in islice(loaded, 5)]
        raise CheckpointError(f"{path} holds no state dict of tensors, but {', '.join(names) or 'nothing'}")
    raise CheckpointError(f"{path} holds no state dict of tensors, but a {type(loaded).__name__}")


def is_state_dict(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(part, Tensor) for name, part in value.items())
    )


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    parallel = all(name.startswith(PARALLEL) for name in tensors)
    return {name.removeprefix(PARALLEL) if parallel else name: tensor.detach() for name, tensor in tensors.items()}
