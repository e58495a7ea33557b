"""Updates: what turns one compressed file into the next version of it, for links with low bandwidth.

docs/reference/cva.md describes every byte.
"""

from __future__ import annotations

import enum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convatlas import files
from convatlas.errors import UserError
from convatlas.models.codec import streams, tensors
from convatlas.models.codec.bytestream import Choices, DamagedFileError, Reader, Writer, count
from convatlas.models.codec.container import (
    CHECKSUM_BYTES,
    Contents,
    checksum,
    damaged,
    opened,
    parsed,
    read_bytes,
    read_file,
    sealed,
    written,
)
from convatlas.models.codec.huffman import Symbols
from convatlas.models.codec.tensors import Coded, EncodedTensor, Floats, Keys

MAGIC = b"\x89cvu\r\n\x1a\n"
SUFFIX = ".cvu"
NUM_FORMS = 256
"""The alphabet of the choices."""


class ChangeForm(enum.IntEnum):
    """How a tensor of the new file is written."""

    WHOLE = 0
    """As in the new file."""
    NONE = 1
    """It is the old one."""
    CHANGED = 2
    """By its difference to the old one."""


class KeyForm(enum.IntEnum):
    """How keys are written."""

    OWN = 0
    """As they are."""
    MOVED = 1
    """By their differences to the old ones."""


def write_update(old: str | Path, new: str | Path, out: str | Path) -> Path:
    """Write what turns the compressed file `old` into `new`, bit for bit.

    Raises:
        UserError: a file is damaged, they are not of the same network, or `out` is one of them.
    """
    out = Path(out)
    check_apart(out, old, new)
    before, after = read_file(Path(old)), read_file(Path(new))
    if before.card.variant != after.card.variant or before.shapes != after.shapes:
        raise UserError(f"{old} and {new} are not versions of one network; send {new} as it is")
    if checksum(written(after.contents, Choices(after.forms))) != after.checksum:
        raise UserError(f"{new} was written by another version of convatlas; write it again with this one")
    choices = Choices()
    parts = [
        before.checksum,
        after.checksum,
        count(len(after.contents.card)) + after.contents.card,
        count(len(after.forms)) + streams.write(np.array(after.forms, np.int32), NUM_FORMS, choices),
        *(
            change(one, other, choices)
            for one, other in zip(before.contents.tensors, after.contents.tensors, strict=True)
        ),
    ]
    files.write(out, sealed(MAGIC, after.contents.version, b"".join(parts)))
    return out


def apply_update(old: str | Path, update: str | Path, out: str | Path) -> Path:
    """Write the new file that `update` makes of the compressed file `old`.

    Raises:
        UserError: a file is damaged, the update is for another file than `old`, or `out` is one of them.
    """
    out, path = Path(out), Path(update)
    check_apart(out, old, update)
    before = read_file(Path(old))
    content = read_bytes(path)
    try:
        version, reader = opened(content, MAGIC)
        if reader.take(CHECKSUM_BYTES) != before.checksum:
            raise UserError(f"{path} updates another file than {old}")
        wanted = reader.take(CHECKSUM_BYTES)
        card = reader.take(reader.count())
        num_forms = reader.count()
        if num_forms > 8 * reader.left:
            raise DamagedFileError(f"{num_forms} choices in {reader.left} bytes")
        forms = streams.read(reader, num_forms, NUM_FORMS).tolist()
        changed = [read_change(reader, tensor) for tensor in before.contents.tensors]
        reader.finish()
        made = written(Contents(version, card, changed), Choices(forms))
        if checksum(made) != wanted:
            raise DamagedFileError("it makes another file than it says")
        parsed(made)
    except DamagedFileError as error:
        raise damaged(path, error) from error
    files.write(out, made)
    return out


def check_apart(out: Path, *inputs: str | Path) -> None:
    """
    Raises:
        UserError: `out` is one of the files that it is made of.
    """
    if out.resolve() in (Path(path).resolve() for path in inputs):
        raise UserError(f"{out} would be overwritten by what is made of it; choose another file")


def is_update(path: str | Path) -> bool:
    """Whether a file begins as an update does.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    return read_bytes(Path(path)).startswith(MAGIC)


def change(old: EncodedTensor, new: EncodedTensor, choices: Choices) -> bytes:
    """A tensor of the new file, given that of the old one."""
    forms: dict[int, Writer] = {ChangeForm.WHOLE: lambda inner: tensors.write(new, inner)}
    if type(old) is type(new):
        if old.values.tobytes() == new.values.tobytes():
            forms[ChangeForm.NONE] = lambda _: b""
        elif isinstance(old, Floats) and isinstance(new, Floats):
            forms[ChangeForm.CHANGED] = lambda inner: write_keys(old.keys, new.keys, inner)
        elif isinstance(old, Coded) and isinstance(new, Coded):
            forms[ChangeForm.CHANGED] = lambda inner: recoded(old, new, inner)
    return choices.pick(forms)


def read_change(reader: Reader, old: EncodedTensor) -> EncodedTensor:
    """The new tensor that `change` wrote."""
    num = len(old.codes) if isinstance(old, Coded) else len(old.values)
    match reader.form():
        case ChangeForm.WHOLE:
            return tensors.read(reader, num, isinstance(old, tensors.Integers))
        case ChangeForm.NONE:
            return old
        case ChangeForm.CHANGED if isinstance(old, Floats):
            return Floats(read_keys(reader, num, old.keys))
        case ChangeForm.CHANGED if isinstance(old, Coded):
            return read_recoded(reader, old)
        case other:
            raise DamagedFileError(f"a change has the unknown form {other}")


def write_keys(old: Keys, new: Keys, choices: Choices) -> bytes:
    """New keys, which may be more or fewer than the old ones."""
    forms: dict[int, Writer] = {KeyForm.OWN: lambda inner: tensors.floats(new, inner)}
    if old.dtype == new.dtype and len(old) == len(new):
        forms[KeyForm.MOVED] = lambda inner: tensors.floats(zigzag(new - old), inner)
    return choices.pick(forms)


def read_keys(reader: Reader, num: int, old: Keys) -> Keys:
    """The `num` new keys that `write_keys` wrote."""
    form = reader.form()
    keys = tensors.read_floats(reader, num)
    if form == KeyForm.OWN:
        return keys
    if form != KeyForm.MOVED or keys.dtype != old.dtype or len(keys) != len(old):
        raise DamagedFileError("numbers that moved from others than the old ones")
    return old + unzigzag(keys)


def zigzag(steps: Keys) -> Keys:
    """0, -1, 1, -2, ... as 0, 1, 2, 3, ...: small differences of both signs have an upper byte of 0."""
    top = steps.dtype.type(8 * steps.itemsize - 1)
    return np.where(steps >> top, ~(steps << steps.dtype.type(1)), steps << steps.dtype.type(1))


def unzigzag(steps: Keys) -> Keys:
    """The differences that `zigzag` was given."""
    one = steps.dtype.type(1)
    return np.where(steps & one, ~(steps >> one), steps >> one)


def recoded(old: Coded, new: Coded, choices: Choices) -> bytes:
    """The new codebook; the usual new code for each old code; and the weights that have another code."""
    num_old, num_new = len(old.codebook.keys) + 1, len(new.codebook.keys) + 1
    pairs = np.bincount(old.codes.astype(np.int64) * num_new + new.codes, minlength=num_old * num_new)
    counts = pairs.reshape(num_old, num_new)
    # A code that no weight has keeps its number.
    stays = np.minimum(np.arange(num_old), num_new - 1)
    usual = np.where(counts.any(1), counts.argmax(1), stays).astype(np.int32)
    steps = ((usual - stays) % num_new).astype(np.int32)
    wrong = (new.codes - usual[old.codes]) % num_new
    return b"".join(
        [
            count(num_new - 1),
            write_keys(old.codebook.keys, new.codebook.keys, choices),
            streams.write(steps, num_new, choices),
            *(tensors.sparse(wrong[part], num_new - 1, choices) for part in parts(old.codes)),
        ]
    )


def parts(codes: Symbols) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Masks of the weights that are not 0, whose codes may change, and of those that are, which seldom change."""
    return codes != 0, codes == 0


def read_recoded(reader: Reader, old: Coded) -> Coded:
    """The new tensor that `recoded` wrote."""
    num_values = reader.count()
    if num_values > tensors.MAX_VALUES:
        raise DamagedFileError(f"a codebook of {num_values} values")
    num_old, num_new = len(old.codebook.keys) + 1, num_values + 1
    codebook = Floats(read_keys(reader, num_values, old.codebook.keys))
    stays = np.minimum(np.arange(num_old), num_new - 1)
    usual = ((stays + streams.read(reader, num_old, num_new)) % num_new).astype(np.int32)
    codes = usual[old.codes]
    for part in parts(old.codes):
        codes[part] = (codes[part] + tensors.read_sparse(reader, int(part.sum()), num_values)) % num_new
    return Coded(codebook, codes)
