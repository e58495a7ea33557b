"""The cache of decoded images: each image of a folder is decoded and resized once, and kept in one file.

An entry of the cache is a folder named by a digest of what it was made from and how: the contents of the sources, the
resizing, the decoder's version. It holds `images`, the pixels one image after another, and `index.json`, which says
what each was made from and why a source is not among them. The index is written last: without it there is no entry.

There are two kinds. An entry for training has all images of a folder, which may be decoded approximately; if they are
too many for the cache, they are kept as JPEG. An entry for evaluation has exact pixels of some of them.

Opening an entry checks the index and the size of the file of pixels. Its bytes are not all read again, which would take
as long as the first epoch: each image is checked when it is first read, see `entry_images`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from convatlas.data.entry_images import Encoded, EntryFile, Pixels
from convatlas.data.entry_writer import COLOR, Encoder, EntryWriter
from convatlas.data.images import Images
from convatlas.data.source_files import SourceFile
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, clear_lock, decoded_cache, lock, write
from convatlas.files.cache import DECODED
from convatlas.files.decoded_cache import ENTRY, IMAGES, INDEX, LIMIT, EntryKind
from convatlas.files.progress import reported
from convatlas.files.sealed_json import sealed_json, unsealed
from convatlas.formatting import size
from convatlas.images import ImageError, ReadError, Resize, decode_all, decode_draft, decoders, opened, pillow_silenced

FORMAT = 4
"""Higher whenever decoding or resizing makes other pixels of a file, or an entry holds other things."""
JPEG_PART = 0.25
"""The part of the pixels' bytes that their JPEGs take at most, as a rule."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class DecodedImages:
    """What an entry of the cache holds."""

    folder: Path
    kind: EntryKind
    images: Images
    """(n, channels, side, side), of each content that is an image, in no order that matters."""
    approximate: npt.NDArray[np.bool_]
    """(n,), whether exact decoding may give other pixels."""
    places: dict[bytes, int]
    """Where the image of a content lies."""
    unusable: dict[bytes, str]
    """Why a content is not an image."""


def for_training(
    root: Path, sources: Sequence[SourceFile], resize: Resize, cache: Path, progress: ProgressCallback = SILENT
) -> DecodedImages:
    """The images of the sources, from the cache, or decoded now and kept there; gray if all of them are gray.

    Large images are decoded approximately. If all pixels are too many for the cache, they are kept as JPEG, which
    changes them a little.

    Args:
        root: the folder that the sources come from, for people.

    Raises:
        UserError: the cache has no room or cannot be written, or a source changed meanwhile.
    """
    entry = _Entry(root, sources, resize, cache, channels=None)
    try:
        found = entry.opened_or_made(progress)
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"{cache} has no room for the decoded images of {root} ({error.strerror}); free some space, run "
                f"convatlas cache clear, or name a folder on another disk with {DECODED}"
            ) from error
        raise UserError(
            f"the cache folder {cache} cannot be written ({error.strerror}); name another one with {DECODED}"
        ) from error
    if found is None:
        raise UserError(f"{entry.folder} was removed while it was made; start again")
    return found


def for_evaluation(
    root: Path,
    sources: Sequence[SourceFile],
    resize: Resize,
    cache: Path,
    training: DecodedImages,
    progress: ProgressCallback = SILENT,
) -> DecodedImages | None:
    """Exact pixels of the sources, from the cache, or decoded now and kept there; None if it has no room for them.

    Args:
        training: the entry of the same folder for training, which stays in the cache and says how many channels there
            are.

    Raises:
        UserError: a source changed meanwhile, or cannot be read.
    """
    entry = _Entry(root, sources, resize, cache, channels=training.images.shape[1], keep=training.folder)
    try:
        return entry.opened_or_made(progress)
    except OSError:
        # The disk is full, or the cache may only be read.
        return None


def unusable(root: Path, sources: Sequence[SourceFile], resize: Resize, cache: Path) -> set[bytes]:
    """The contents that are no images: as the cache knows already, or found by decoding each, of which nothing is kept.

    Args:
        root: see `for_training`.
    """
    if (found := _Entry(root, sources, resize, cache, channels=None).opened()) is not None:
        return set(found.unusable)

    def decoded(file: BinaryIO, path: Path) -> None:
        decode_draft(file, path, resize.side)

    results = decode_all((source.path for source in sources), decoded)
    return {source.content for source, result in zip(sources, results, strict=True) if result is not None}


@dataclass(frozen=True, kw_only=True)
class _Index:
    """`index.json`: what the file of pixels beside it holds."""

    source: str
    """The folder that it was made from."""
    kind: EntryKind
    side: int
    channels: int
    contents: list[str]
    """In the order of the images."""
    ends: list[int]
    """Where each ends in the file."""
    crcs: list[int]
    """CRC-32 of the bytes of each."""
    approximate: list[int]
    """The places of those that exact decoding may make others of."""
    unusable: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            OSError, ValueError, LookupError, TypeError: it is not there, or damaged.
        """
        values = unsealed(json.loads(path.read_bytes()))
        return cls(kind=EntryKind(values.pop("kind")), **values)

    def write(self, path: Path) -> None:
        write(path, sealed_json(vars(self), indent=None))


class _Entry:
    """An entry of the cache, which may not be there yet."""

    def __init__(
        self,
        root: Path,
        sources: Sequence[SourceFile],
        resize: Resize,
        cache: Path,
        *,
        channels: int | None,
        keep: Path | None = None,
    ) -> None:
        """
        Args:
            channels: of exact images for evaluation; None: of images for training, which say how many they have.
            keep: another entry, for which there must be room beside this one.
        """
        self.root = root
        self.source_of = {source.content: source for source in sources}
        self.resize = resize
        self.cache = cache
        self.channels = channels
        self.keep = keep
        self.folder = cache / f"{self._key()}{ENTRY}"

    def _key(self) -> str:
        how = f"{FORMAT} {decoders()} {self.resize} {self.channels or 'training'}"
        digest = hashlib.sha256(how.encode())
        # Sorted, so that files may change their names and places.
        for content in sorted(self.source_of):
            digest.update(content)
        return digest.hexdigest()[:32]

    def opened_or_made(self, progress: ProgressCallback) -> DecodedImages | None:
        """What it holds; None if another process removed it at once, or exact images have no room.

        Raises:
            OSError: the disk is full, or may not be written.
            UserError: a source changed meanwhile, or training images are too large for the cache.
        """
        try:
            if (found := self.opened()) is None:
                with lock(self.folder, wait=True):
                    # Another process may have made it while this one waited.
                    if (found := self.opened()) is None and self._make(progress):
                        found = self.opened()
        except OSError:
            self._remove_if_empty()
            raise
        if found is None:
            self._remove_if_empty()
        else:
            clear_lock(self.folder)
            decoded_cache.touch(self.folder)
        return found

    def _remove_if_empty(self) -> None:
        with suppress(OSError):
            self.folder.rmdir()

    def opened(self) -> DecodedImages | None:
        """What it holds; None if it is not there, or damaged."""
        path, side = self.folder / IMAGES, self.resize.side
        try:
            index = _Index.read(self.folder / INDEX)
            ends, crcs = np.array(index.ends, np.int64), np.array(index.crcs, np.uint32)
            sizes = np.diff(ends, prepend=0)
            contents = [bytes.fromhex(content) for content in index.contents]
            shape = (len(contents), index.channels, side, side)
            unusable = {bytes.fromhex(content): str(reason) for content, reason in index.unusable.items()}
            approximate = np.zeros(len(contents), bool)
            approximate[np.array(index.approximate, np.int64)] = True
            whole = (
                index.side == side
                and index.channels in ((1, COLOR) if self.channels is None else (self.channels,))
                and (index.kind is EntryKind.EXACT) == (self.channels is not None)
                and {*contents, *unusable} == self.source_of.keys()
                and len(ends) == len(crcs) == len(contents)
                and path.stat().st_size == (ends[-1] if len(ends) else 0)
                and (sizes > 0 if index.kind is EntryKind.JPEG else sizes == np.prod(shape[1:])).all()
            )
            if not whole:
                return None
            file = EntryFile(path, ends, crcs, partial(self._made_anew, index.kind, index.channels, contents))
            images: Images
            if not contents:
                # There is no map of an empty file.
                images = np.empty(shape, np.uint8)
            elif index.kind is EntryKind.JPEG:
                images = Encoded(file, np.memmap(path, np.uint8, mode="r").data, index.channels, side)
            else:
                images = Pixels(file, np.memmap(path, np.uint8, mode="r", shape=shape))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
            return None
        return DecodedImages(
            folder=self.folder,
            kind=index.kind,
            images=images,
            approximate=approximate,
            places={content: place for place, content in enumerate(contents)},
            unusable=unusable,
        )

    def _made_anew(self, kind: EntryKind, channels: int, contents: Sequence[bytes], place: int) -> bytes:
        """What the entry keeps of an image, from its source.

        Raises:
            ImageError, UserError: the source is not as it was.
        """
        source = self.source_of[contents[place]]
        # It enters also in the thread that reads for training: what is damaged is rare.
        with pillow_silenced(), opened(source.path) as file:
            image = Encoder(kind, self.resize, channels)(file, source.path)
        source.check_unchanged()
        return image.content if kind is EntryKind.JPEG else image.repeated(channels)

    def _make(self, progress: ProgressCallback) -> bool:
        """Decode the sources into a new entry; nothing stays of it if that fails.

        Returns:
            False if exact images have no room.

        Raises:
            UserError: a source changed meanwhile, or training images are too large for the cache.
            OSError: the disk is full, or may not be written.
        """
        # Nobody knows yet whether training images are gray.
        num_bytes = len(self.source_of) * (self.channels or COLOR) * self.resize.side**2
        kept = 0 if self.keep is None else decoded_cache.num_bytes_of(self.keep)
        fits = num_bytes + kept <= decoded_cache.allowance(self.cache)
        if self.channels is not None and not fits:
            return False
        keep = [self.folder] if self.keep is None else [self.folder, self.keep]
        try:
            for left in self.folder.glob(f"{IMAGES}.*"):
                # By a process that was killed.
                left.unlink()
            decoded_cache.make_room(self.cache, num_bytes if fits else int(JPEG_PART * num_bytes), keep=keep)
            for_training = EntryKind.RAW if fits else EntryKind.JPEG
            kind = for_training if self.channels is None else EntryKind.EXACT
            # Training images are gray until the first one in color comes.
            writer = EntryWriter(self.folder / IMAGES, Encoder(kind, self.resize, self.channels or 1))
            self._decode(writer, progress).write(self.folder / INDEX)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        decoded_cache.make_room(self.cache, 0, keep=keep)
        return True

    def _decode(self, writer: EntryWriter, progress: ProgressCallback) -> _Index:
        most = decoded_cache.allowance(self.cache)
        sources = self.source_of.values()
        unusable: dict[str, str] = {}
        with (
            writer,
            reported(progress, self._title(), len(sources), "images") as advance,
            closing(decode_all((source.path for source in sources), writer.encode)) as decoded,
        ):
            for source, image in zip(sources, decoded, strict=True):
                source.check_unchanged()
                if isinstance(image, ReadError) or (isinstance(image, ImageError) and self.channels is not None):
                    # It says nothing of the content; or training could decode the file, and evaluation must have it.
                    raise image
                if isinstance(image, ImageError):
                    unusable[source.content.hex()] = image.reason
                else:
                    writer.add(source.content, image)
                if writer.num_bytes > most:
                    raise UserError(
                        f"the decoded images of {self.root} take more than the cache may, {size(most)}; "
                        f"free some space, set {LIMIT} higher, or take a lower resolution"
                    )
                advance(1)
        return _Index(
            source=str(self.root.resolve()),
            kind=writer.kind,
            side=self.resize.side,
            channels=writer.channels,
            contents=writer.contents,
            ends=writer.ends,
            crcs=writer.crcs,
            approximate=writer.approximate,
            unusable=unusable,
        )

    def _title(self) -> str:
        name = self.root.resolve().name
        return f"decoding {name}" if self.channels is None else f"decoding {name} for evaluation"
