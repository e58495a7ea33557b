"""Where published weights lie on this machine: in the caches of other libraries, or in our own, once downloaded."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, cache_folder, download
from convatlas.files.download import has_checksum, place_for
from convatlas.weights.checkpoint import Checkpoint, CheckpointError
from convatlas.weights.published import Published
from convatlas.weights.reading import read_checkpoint

FOLDER = "weights"
"""In the cache folder."""
ARCHIVE = ".archive"
"""The folder beside weights for the archive that they are taken out of."""
HUB = "https://huggingface.co/"
ONCE_MORE = "delete it, and it is downloaded again"


def find_here(row: Published) -> Path | None:
    """The file, if it is on this machine already; nothing is downloaded, and nothing is read.

    Another library's file that is not as it was published is found out by `fetch` alone, which has to read it.
    """
    return next((path for path in (own_place(row), *places_of_others(row)) if path.is_file()), None)


def fetch(row: Published, progress: ProgressCallback = SILENT) -> Path:
    """The file of published weights: as another library downloaded it, or from our cache, into which it is downloaded.

    Raises:
        UserError: it cannot be downloaded, or is another file than was published.
    """
    place = own_place(row)
    if place.is_file():
        return place
    for path in places_of_others(row):
        if path.is_file() and is_as_published(path, row):
            return path
    if row.checksum is None:
        progress.say(f"nobody publishes a checksum of {row.name}: what is downloaded is not verified")
    if not row.member:
        return download(row.address, place, checksum=row.checksum, progress=progress)
    with place_for(place):
        # Another process may have taken it out while this one waited.
        if not place.is_file():
            archive = place.with_name(ARCHIVE) / row.address.rpartition("/")[2]
            take_out(download(row.address, archive, progress=progress), row, place)
            shutil.rmtree(archive.parent)
    return place


def read_published(row: Published, progress: ProgressCallback = SILENT) -> Checkpoint:
    """The tensors of published weights; a file in our cache is held against its checksum, whoever put it there.

    Raises:
        CheckpointError: the file is damaged.
        UserError: it cannot be downloaded, or is another file than was published.
    """
    path = fetch(row, progress)
    try:
        checkpoint = read_checkpoint(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {ONCE_MORE}") from error
    # Another library's was held against it before it was taken.
    if path == own_place(row) and row.checksum is not None and not is_published_file(row, path, checkpoint.sha256):
        raise UserError(f"{path} is not {row.name} as it was published: its checksum differs; {ONCE_MORE}")
    return checkpoint


def is_published_file(row: Published, path: Path, sha256: str) -> bool:
    """Whether the published checksum is that of a file, which is read once more if that is no SHA-256.

    Args:
        sha256: of the file.
    """
    algorithm = (row.checksum or "").partition(":")[0]
    if row.checksum is None or algorithm == "sha256":
        return row.is_of_file(sha256)
    return has_checksum(path, row.checksum)


def is_as_published(path: Path, row: Published) -> bool:
    """Whether a file of another library's is the one that the checksum is of, as far as there is one.

    The hub has timm's weights in files of its own, of which nobody publishes a checksum.
    """
    return row.checksum is None or path.name != row.file_name or has_checksum(path, row.checksum)


def take_out(archive: Path, row: Published, place: Path) -> None:
    """Put the file of weights of a downloaded archive at its place.

    Raises:
        UserError: it is not there, or is another one than was published.
    """
    part = place.with_name(f".{place.name}.part")
    try:
        with zipfile.ZipFile(archive) as files, files.open(row.member) as member, part.open("wb") as file:
            shutil.copyfileobj(member, file)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{archive} has no {row.member} that can be read: {error}; delete it, and try again") from error
    if row.checksum is not None and not has_checksum(part, row.checksum):
        part.unlink()
        archive.unlink()
        raise UserError(f"{row.address} sent another file than expected (its checksum differs)")
    os.replace(part, place)


def own_place(row: Published) -> Path:
    # Files of the hub are all called alike.
    return cache_folder() / FOLDER / row.name.replace(":", "-") / row.file_name


def places_of_others(row: Published) -> Iterator[Path]:
    """Where torch.hub and the Hugging Face hub put what they download."""
    torch_home = Path(os.environ.get("TORCH_HOME") or other_cache("torch")).expanduser()
    yield torch_home / "hub" / "checkpoints" / row.file_name
    # timm's files lie on the hub under its own names, wherever it had them before.
    name = f"timm/{row.network}.{row.tag}" if row.library == "timm" else ""
    if name:
        hub = os.environ.get("HF_HUB_CACHE")
        home = Path(hub) if hub else Path(os.environ.get("HF_HOME") or other_cache("huggingface")) / "hub"
        snapshots = home.expanduser() / f"models--{name.replace('/', '--')}" / "snapshots"
        if snapshots.is_dir():
            yield from sorted(snapshots.glob("*/model.safetensors"))


def other_cache(name: str) -> Path:
    """Another library's folder among the caches of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / name
