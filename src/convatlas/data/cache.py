"""Decoded once: the images of a folder at their working size, in one file that is mapped into memory.

An entry of the cache is a folder named by what it was made from: the contents of the sources, the side, and the version
of the decoder. It holds `images`, the pixels one image after another, and `index.json`, which says what each of
them was made from and why a source is not among them. The index is written last: without it there is no entry.

Opening an entry checks the index and the size of the file of images. Its bytes are not all read again; that would
take as long as the first epoch.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from convatlas.data.dataset import Images, Indices
from convatlas.data.source_files import SourceFile, Stamp
from convatlas.errors import UserError
from convatlas.files import decoded_cache, lock, write
from convatlas.files.cache import DECODED
from convatlas.files.decoded_cache import ENTRY, IMAGES, INDEX, LIMIT, Kind
from convatlas.images import ImageError, ReadError, decode_all, fit, side_by_side

FORMAT = 1
"""Higher, whenever `images.decode` or `images.fit` make something else of a file."""

QUALITY = 90
JPEG_PART = 0.25
"""Of the pixels' bytes, what their JPEGs take at most, as a rule."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
COLOR = 3


@dataclass(frozen=True)
class Decoded:
    """What the cache holds of a set of sources."""

    images: Images
    """Of each content that is one, in no order that matters."""
    places: dict[bytes, int]
    """Where the image of a content lies."""
    unusable: dict[bytes, str]
    """Why a content is no image."""
    contents: npt.NDArray[np.uint8]
    """(n, 32), a digest of what each image was made from and how."""


def decoded(root: Path, sources: Sequence[SourceFile], side: int, cache: Path) -> Decoded:
    """The images that the sources hold, `side` pixels high and wide: from the cache, or decoded now and kept there.

    They are gray if all of them are gray. Those of a set that is too large for the cache are kept as JPEG, which
    changes them a little: of what came without loss, as PNG, some is lost then.

    Args:
        root: the folder that the sources come from, for people.

    Raises:
        UserError: the cache has no room or cannot be written, or a source changed meanwhile.
    """
    sources = list({source.content: source for source in sources}.values())
    folder = cache / f"{_key(sources, side)}{ENTRY}"
    try:
        if (found := _open(folder, sources, side)) is None:
            with lock(folder, wait=True):
                # Another process may have made it while this one waited.
                if (found := _open(folder, sources, side)) is None:
                    _make(folder, root, sources, side)
                    found = _open(folder, sources, side)
    except OSError as error:
        with suppress(OSError):
            # Empty, where there was not even room for a lock.
            folder.rmdir()
        if error.errno in FULL:
            raise UserError(
                f"{cache} has no room for the decoded images of {root} ({error.strerror}); free some space, run "
                f"convatlas cache clear, or name a folder on another disk with {DECODED}"
            ) from error
        raise UserError(
            f"the cache folder {cache} cannot be written ({error.strerror}); name another one with {DECODED}"
        ) from error
    if found is None:
        raise UserError(f"{folder} was removed while it was made; start again")
    decoded_cache.touch(folder)
    return found


def _key(sources: Sequence[SourceFile], side: int) -> str:
    digest = hashlib.sha256(f"{FORMAT} {PIL.__version__} {Image.MAX_IMAGE_PIXELS} {side}".encode())
    # Sorted, so that files may change their names and places.
    for content in sorted(source.content for source in sources):
        digest.update(content)
    return digest.hexdigest()[:32]


# Entries as they are read


@dataclass(frozen=True)
class Encoded:
    """Images that lie in a file as JPEG, decoded side by side whenever they are asked for."""

    file: memoryview
    ends: npt.NDArray[np.int64]
    """(n,), where the JPEG of each image ends; the next one's begins there."""
    channels: int
    side: int
    where: Path
    """For messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), self.channels, self.side, self.side)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, indices: Indices, /) -> npt.NDArray[np.uint8]:
        """
        Raises:
            UserError: the file is damaged.
        """
        places = np.arange(len(self))[indices]
        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        for image, made in zip(images, side_by_side(self._image, places.tolist()), strict=True):
            image[:] = made
        return images

    def _image(self, place: int) -> npt.NDArray[np.uint8]:
        begin = int(self.ends[place - 1]) if place else 0
        try:
            with Image.open(io.BytesIO(self.file[begin : int(self.ends[place])]), formats=["JPEG"]) as image:
                if image.size != (self.side, self.side):
                    raise ValueError("of another size")
                return fit(image, self.side, self.channels)
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{self.where} is damaged; run convatlas cache clear and start again") from error


@dataclass(frozen=True, kw_only=True)
class _Index:
    """`index.json`: what the file of images beside it holds."""

    source: str
    """The folder that it was made from."""
    kind: Kind
    side: int
    channels: int
    contents: list[str]
    """In the order of the images."""
    ends: list[int]
    """Where each ends in the file."""
    unusable: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            OSError, ValueError, LookupError, TypeError: it is not there, or damaged.
        """
        values = json.loads(path.read_bytes())
        return cls(kind=Kind(values.pop("kind")), **values)

    def write(self, path: Path) -> None:
        write(path, json.dumps(vars(self)).encode())


def _open(folder: Path, sources: Sequence[SourceFile], side: int) -> Decoded | None:
    """What an entry holds; None if there is none, or it is damaged."""
    path = folder / IMAGES
    try:
        index = _Index.read(folder / INDEX)
        ends = np.array(index.ends, np.int64)
        sizes = np.diff(ends, prepend=0)
        contents = [bytes.fromhex(content) for content in index.contents]
        shape = (len(contents), index.channels, index.side, index.side)
        unusable = {bytes.fromhex(content): str(reason) for content, reason in index.unusable.items()}
        whole = (
            index.side == side
            and index.channels in (1, COLOR)
            and {*contents, *unusable} == {source.content for source in sources}
            and len(ends) == len(contents)
            and path.stat().st_size == (ends[-1] if len(ends) else 0)
            and (sizes == np.prod(shape[1:]) if index.kind is Kind.RAW else sizes > 0).all()
        )
        if not whole:
            return None
        images: Images
        if not contents:
            # There is no map of an empty file.
            images = np.empty(shape, np.uint8)
        elif index.kind is Kind.RAW:
            images = np.memmap(path, np.uint8, mode="r", shape=shape)
        else:
            images = Encoded(np.memmap(path, np.uint8, mode="r").data, ends, index.channels, index.side, path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    # How an image was made changes it too: what is trained on JPEG is not what is trained on pixels.
    how = f"{index.kind} {index.side} {index.channels}".encode()
    digests = b"".join(hashlib.sha256(how + content).digest() for content in contents)
    return Decoded(
        images=images,
        places={content: place for place, content in enumerate(contents)},
        unusable=unusable,
        contents=np.frombuffer(digests, np.uint8).reshape(-1, 32),
    )


# Entries as they are made


def _make(folder: Path, root: Path, sources: Sequence[SourceFile], side: int) -> None:
    """Decode the sources into a new entry; nothing stays of it if that fails.

    Raises:
        UserError: a source changed meanwhile, or the images are too large for the cache.
        OSError: the disk is full, or may not be written.
    """
    cache = folder.parent
    try:
        for left in folder.glob(f"{IMAGES}.*"):
            # By a process that was killed.
            left.unlink()
        # Nobody knows yet whether they are gray.
        raw = len(sources) * COLOR * side**2
        kind = Kind.RAW if raw <= decoded_cache.allowance(cache) else Kind.JPEG
        decoded_cache.make_room(cache, raw if kind is Kind.RAW else int(JPEG_PART * raw), apart_from=folder)
        most = decoded_cache.allowance(cache)
        unusable: dict[str, str] = {}
        with (
            _Writer(folder / IMAGES, kind, side) as writer,
            _bar(f"decoding {root.resolve().name}", len(sources)) as advance,
            closing(decode_all((source.path for source in sources), writer.encoded, at_least=side)) as made,
        ):
            for source, image in zip(sources, made, strict=True):
                _check_unchanged(source, image)
                if isinstance(image, ImageError):
                    unusable[source.content.hex()] = image.reason
                else:
                    writer.add(source.content, *image)
                if writer.num_bytes > most:
                    raise UserError(
                        f"the decoded images of {root} take more than the cache may, {most / 2**20:,.1f} MiB; "
                        f"free some space, set {LIMIT} higher, or take a lower --resolution"
                    )
                advance()
        index = _Index(
            source=str(root.resolve()),
            kind=kind,
            side=side,
            channels=writer.channels,
            contents=writer.contents,
            ends=writer.ends,
            unusable=unusable,
        )
        index.write(folder / INDEX)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    decoded_cache.make_room(cache, 0, apart_from=folder)


def _check_unchanged(source: SourceFile, made: object) -> None:
    """
    Raises:
        UserError: the file is not as it was when its content was read.
    """
    try:
        same = Stamp.of(source.path) == source.stamp
    except ReadError:
        same = False
    if not same:
        raise UserError(f"{source.path} changed while it was decoded; start again when nothing writes there")
    if isinstance(made, ReadError):
        # It says nothing of the content, and must not be kept with it.
        raise made


class _Writer:
    """The file of images, written one after another."""

    def __init__(self, path: Path, kind: Kind, side: int) -> None:
        # Where there are no locks, two processes may write the same entry.
        self._part = path.with_name(f"{path.name}.{os.getpid()}.part")
        self._path = path
        self._kind = kind
        self._side = side
        self._file: BinaryIO = self._part.open("wb")
        self.channels = 1
        self.contents: list[str] = []
        self.ends: list[int] = []

    @property
    def num_bytes(self) -> int:
        return self.ends[-1] if self.ends else 0

    def encoded(self, image: Image.Image) -> tuple[int, bytes]:
        """An image's channels, and the bytes that are kept of it; in any thread."""
        channels = 1 if image.mode == "L" else COLOR
        pixels = fit(image, self._side, channels)
        if self._kind is Kind.RAW:
            return channels, pixels.tobytes()
        file = io.BytesIO()
        # Colors as fine as brightness: what is drawn, and not photographed, has sharp edges of both.
        fitted = Image.fromarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))
        fitted.save(file, "JPEG", quality=QUALITY, subsampling="4:4:4")
        return channels, file.getvalue()

    def add(self, content: bytes, channels: int, encoded: bytes) -> None:
        if channels > self.channels:
            self._become_color()
        self._file.write(encoded * (self.channels // channels) if self._kind is Kind.RAW else encoded)
        self.contents.append(content.hex())
        self.ends.append(self.num_bytes + len(encoded) * (self.channels // channels if self._kind is Kind.RAW else 1))

    def _become_color(self) -> None:
        """Spread the gray images so far over three channels: the first one in color has come."""
        self.channels = COLOR
        if self._kind is Kind.JPEG:
            return
        self._file.close()
        gray = self._part.with_suffix(".gray.part")
        os.replace(self._part, gray)
        self._file = self._part.open("wb")
        with open(gray, "rb") as file:
            while image := file.read(self._side**2):
                self._file.write(image * COLOR)
        gray.unlink()
        self.ends = [COLOR * end for end in self.ends]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if kind is None:
            os.replace(self._part, self._path)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """What to call after each image: a bar moves on, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)
