"""The checksums by which earlier versions knew data sets: 64 digits, which records and cards hold for good.

They counted in how images are decoded and resized: the cache's kind and the side for a folder, and the resized pixels
for a standard set. The records of format 1 have those of a folder's pixels too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from convatlas.data.dataset import CONTENTS, Dataset, Source, Split
from convatlas.data.folder import Folder
from convatlas.data.folder_images import SourceImages
from convatlas.data.images import Decoding
from convatlas.data.stream import Stream
from convatlas.files import SILENT, ProgressCallback
from convatlas.files.decoded_cache import EntryKind
from convatlas.files.names import composed
from convatlas.images import Resize

KINDS = {EntryKind.RAW: Decoding.APPROXIMATE, EntryKind.JPEG: Decoding.JPEG}
"""Raw pixels are exact too, where no image was large."""


def is_earlier(checksum: str) -> bool:
    return not checksum.startswith(CONTENTS)


def sorted_as_earlier(source: Source) -> Source:
    """The same source in the order that earlier versions gave it: the seeded split of a folder depends on that."""
    return replace(source, sorted_as_earlier=True) if isinstance(source, Folder) else source


def decoding_in(
    checksum: str,
    dataset: Dataset,
    resize: Resize,
    classes: Sequence[str],
    progress: ProgressCallback = SILENT,
) -> Decoding | None:
    """How training saw the images of this data set when it got that checksum; None if it is another one's.

    Args:
        resize: as it was loaded.
        classes: as they were spelled then.
        progress: called with the progress of decoding.
    """
    if list(map(composed, classes)) != list(map(composed, dataset.classes)):
        return None

    def is_of(train: str, test: str) -> bool:
        text = "\n".join([train, test, *classes])
        return checksum == hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    train, test = dataset.train, dataset.test
    if isinstance(train.images, Stream):
        return train.images.decoding if is_of(train.checksum, test.checksum) else None
    if isinstance(train.images, SourceImages):
        for kind, decoding in KINDS.items():
            how = f"{kind} {resize.side} {dataset.channels}"
            if resize != Resize(resize.side):
                how += f" {resize.mode} {resize.interpolation}"
            if is_of(file_checksum(train, how), file_checksum(test, how)):
                return decoding
    # The last, since it may decode all files.
    return Decoding.EXACT if is_of(train.exact(progress).pixel_checksum, test.pixel_checksum) else None


def file_checksum(split: Split, how: str) -> str:
    """That of a split of a folder, whose images the cache holds in that way."""
    assert split.contents is not None, "every image of a folder comes from a file"
    digest = hashlib.sha256()
    for content in split.contents:
        digest.update(hashlib.sha256(how.encode() + content.tobytes()).digest())
    digest.update(split.labels.astype("<i8").tobytes())
    return digest.hexdigest()
