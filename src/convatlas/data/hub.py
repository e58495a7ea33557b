"""Data sets of the Hugging Face hub, or of a folder in its layout, streamed through its library `datasets`."""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import re
import textwrap
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from convatlas.data.dataset import Dataset, Split
from convatlas.data.layout import NO_SPLIT, notes_on_unused
from convatlas.data.splits import DRAWN, NO_CLASSES, SPELLINGS, SplitKind, notes_on_splits, split_kind
from convatlas.data.stream import INTERLEAVED, Shards, Stream
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.images import ImageError, Resize, opened, parallel_map
from convatlas.images.listing import Unused, list_files

PREFIX = "hf:"
NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
PARQUET, FOLDER = "parquet", "imagefolder"
"""The layouts that are read, by the library's names: neither runs a set's own code or unpickles anything."""
NOT_READ = "of a suffix that the library datasets does not read"
CHUNK = 10_000
"""Labels that are read at a time."""
MAX_QUOTED = 300
"""Characters of the library's own message that ours quotes."""


@dataclass(frozen=True)
class Hub:
    """`hf:cifar10`, `hf:owner/name`, or `hf:PATH` of a folder.

    Its images lie in parquet files, or in files of their own in a folder for each class. The column of labels is read
    first, and nothing else if the library can do that: how many images there are, and of which classes, is known before
    the first is decoded.
    """

    where: str
    """A name of the hub, or the absolute path of a folder."""
    native_side: None = None

    @classmethod
    def named(cls, name: str) -> Hub:
        """
        Raises:
            UserError: there is no such folder, and it cannot be a name of the hub.
        """
        try:
            path = Path(name).expanduser()
        except RuntimeError as error:
            raise UserError(f"there is no folder {name}: {error}") from error
        if name and path.is_dir():
            return cls(str(path.resolve()))
        if not NAME.fullmatch(name):
            raise UserError(
                f"{PREFIX}{name} is not a set: after {PREFIX} comes a name of the hub, NAME or OWNER/NAME, or the path "
                "of a folder that exists"
            )
        return cls(name)

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.where}"

    @property
    def path(self) -> Path | None:
        path = Path(self.where)
        return path if path.is_absolute() else None

    @property
    def typical_size(self) -> tuple[int, int] | None:
        """The medians over some of the training images, from their headers."""
        return self._stream(self._train, Resize(1)).typical_size()

    def load(
        self, resize: Resize | int, *, seed: int = 0, skip_bad: bool = False, progress: ProgressCallback = SILENT
    ) -> Dataset:
        """Its training split and the first to test on that has labels; gray if all of a seeded sample is gray.

        Training images may be decoded approximately, test images never. The checksum covers where the images come from
        (the revision on the hub, or the names and sizes of the files of a folder) and all labels, but no pixel.

        Raises:
            UserError: the set cannot be read, has no columns of images and of class labels, no such splits, or
                images without a class; or, while `skip_bad` is off, an image of the sample cannot be used.
        """
        resize = Resize.to(resize)
        streams = [self._stream(part, resize) for part in (self._train, self._test)]
        labels = [self._train.labels, self._test.labels]
        skipped: list[ImageError] = []
        if skip_bad:
            for i, stream in enumerate(streams):
                good, errors = stream.usable()
                if not len(good):
                    raise UserError(f"of a split of {self.name} no image can be used, the first is {errors[0]}")
                streams[i], labels[i] = stream.take(good), labels[i][good]
                skipped += errors
        train = streams[0].sampled(seed)
        test = replace(streams[1], channels=train.channels, kept_sample=train.kept_sample)
        return Dataset(
            name=self.name,
            classes=self._columns.classes,
            train=Split(train, labels[0]),
            test=Split(test, labels[1]).exact(progress),
            skipped=tuple(skipped),
            unused=(unused := self._unused_files()),
            notes=(*self._notes_on_splits(), *notes_on_unused(unused, Path(self.where))),
        )

    def _unused_files(self) -> tuple[Unused, ...]:
        """What of a folder of image files is not used."""
        if self.path is None or self._builder.name != FOLDER:
            return ()
        listing = list_files(self.path)
        parts = {part.name: part for part in (self._train, self._test)}
        files = [part.shards for part in parts.values() if isinstance(part.shards, Files)]
        read = {address for some in files for address in some.addresses}
        found = self._builder.config.data_files
        others = {file for name in found if name not in parts for file in found[name]}
        return (
            *listing.unused,
            *(
                Unused(path, NO_SPLIT if str(path) in others else NOT_READ)
                for path in listing.images
                if str(path) not in read
            ),
        )

    def _notes_on_splits(self) -> tuple[str, ...]:
        train, test = self._train.name, self._test.name
        tests = self._names(SplitKind.TEST, SplitKind.VAL)
        # Those that come before it have no labels.
        why = dict.fromkeys(tests, DRAWN) | dict.fromkeys(tests[: tests.index(test)], NO_CLASSES)
        rest = {name: why.get(name, "") for name in self._splits if name not in (train, test)}
        return notes_on_splits(train, test, rest)

    def _stream(self, part: HubSplit, resize: Resize) -> Stream:
        return Stream(part.shards, part.origin, np.arange(len(part.labels)), resize)

    @cached_property
    def _builder(self) -> Any:
        library = _library()
        with as_user_error(self.name):
            builder = library.load_dataset_builder(self.where)
        if builder.name not in (PARQUET, FOLDER):
            raise UserError(
                f"{self.name} is laid out as {builder.name}; images are read from parquet files, or from a folder "
                "with a folder for each class"
            )
        return builder

    @cached_property
    def _splits(self) -> dict[str, Any]:
        """The library's stream of each split."""
        builder = copy.deepcopy(self._builder)
        with as_user_error(self.name):
            return dict(builder.as_streaming_dataset())

    def _column(self, split: str, column: str) -> Any:
        """The library's stream of one column of parquet files; no byte of the others is read."""
        builder = copy.deepcopy(self._builder)
        builder.config.columns = [column]
        with as_user_error(self.name):
            stream = builder.as_streaming_dataset(split).decode(False)
            # A few files are shuffled better by the groups of rows in each.
            return stream.reshard() if stream.num_shards < INTERLEAVED else stream

    @cached_property
    def _columns(self) -> Columns:
        return Columns.of(self.name, self._splits[self._train_name].features)

    @cached_property
    def _train(self) -> HubSplit:
        return self._part(self._train_name)

    @cached_property
    def _train_name(self) -> str:
        if not (names := self._names(SplitKind.TRAIN)):
            raise UserError(f"{self.name} has no split train; it has {', '.join(self._splits)}")
        return names[0]

    @cached_property
    def _test(self) -> HubSplit:
        for name in self._names(SplitKind.TEST, SplitKind.VAL):
            if (part := self._part(name, labeled=False)).labels.min() >= 0:
                return part
        raise UserError(
            f"{self.name} has no images with labels to test on, in a split test or validation; its splits are "
            f"{', '.join(self._splits)}, and a stream is not split by us"
        )

    def _names(self, *kinds: SplitKind) -> list[str]:
        """The splits of these kinds: of all to test on, the first that has labels counts, for some keep them secret."""
        spelled = [name for name, kind in SPELLINGS.items() if kind in kinds]
        names = [name for name in self._splits if split_kind(name) in kinds]
        return sorted(names, key=lambda name: spelled.index(name.casefold()))

    def _part(self, split: str, *, labeled: bool = True) -> HubSplit:
        """
        Args:
            labeled: whether each image must have a class.
        """
        columns = self._columns
        where = f"{self.name}/{split}"
        if self._builder.name == FOLDER:
            with as_user_error(where):
                stream = self._splits[split].decode(False)
                rows = list(stream)
            shards: Shards = Files(tuple(row[columns.image]["path"] for row in rows))
            found: Sequence[Sequence[int | None]] = [[row[columns.label] for row in rows]]
        else:
            stream = self._column(split, columns.label)
            with as_user_error(where):
                found = list(parallel_map(lambda i: labels_in(stream, i, columns.label), range(stream.num_shards)))
            sizes = np.array([len(some) for some in found], np.int64)
            shards = ParquetRows(where, self._column(split, columns.image), columns.image, sizes)
        labels = np.array([-1 if label is None else label for some in found for label in some], np.int64)
        if not len(labels):
            raise UserError(f"{where} has no images")
        if labels.max() >= len(columns.classes) or (labeled and labels.min() < 0):
            raise UserError(f"{where} has images whose class in the column {columns.label} is none of the set's")
        return HubSplit(split, shards, labels, self._origin(split))

    def _origin(self, split: str) -> bytes:
        digest = hashlib.sha256()
        for file in self._builder.config.data_files[split]:
            path = Path(file)
            # An address on the hub includes the revision.
            known = file if "://" in file else f"{path.relative_to(self.where).as_posix()} {path.stat().st_size}"
            digest.update(f"{known}\n".encode(errors="surrogateescape"))
        return digest.digest()


@dataclass(frozen=True)
class Columns:
    """The columns that are read."""

    image: str
    label: str
    classes: tuple[str, ...]

    @classmethod
    def of(cls, name: str, features: Any) -> Columns:
        """The first column of images and the first of class labels.

        Raises:
            UserError: one of them is missing.
        """
        library = _library()
        images = [column for column, feature in features.items() if isinstance(feature, library.Image)]
        labels = [column for column, feature in features.items() if isinstance(feature, library.ClassLabel)]
        if not images or not labels:
            columns = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in features.items())
            raise UserError(f"{name} needs a column of type Image and one of type ClassLabel; it has {columns}")
        return cls(images[0], labels[0], tuple(features[labels[0]].names))


@dataclass(frozen=True, eq=False)
class HubSplit:
    """A split, before its images are read."""

    name: str
    shards: Shards
    labels: npt.NDArray[np.int64]
    """(n,), -1 if the class is unknown."""
    origin: bytes


@dataclass(frozen=True)
class ParquetImage:
    """An image within a parquet file."""

    path: Path
    content: bytes

    def opened(self) -> AbstractContextManager[BinaryIO]:
        return io.BytesIO(self.content)


@dataclass(frozen=True)
class AddressedImage:
    """An image in a file of its own, on this machine or elsewhere."""

    address: str

    @property
    def path(self) -> Path:
        return Path(self.address)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        if "://" not in self.address:
            with opened(self.path) as file:
                yield file
            return
        import fsspec

        # Read whole: an error of the network must not be taken for a damaged image.
        with as_user_error(self.address), fsspec.open(self.address) as file:
            content = file.read()
        yield io.BytesIO(content)


@dataclass(frozen=True, eq=False)
class ParquetRows:
    """Parquet files, or the groups of rows in them."""

    where: str
    """For messages."""
    stream: Any
    column: str
    sizes: npt.NDArray[np.int64]

    def read(self, shard: int) -> Iterator[ParquetImage]:
        begin = int(self.sizes[:shard].sum())
        with as_user_error(self.where):
            rows: Iterable[Any] = self.stream.shard(self.stream.num_shards, shard)
            for place, row in enumerate(rows, begin):
                # A path in place of the content is not followed: it may lead to any file of this machine.
                yield ParquetImage(Path(f"{self.where}/{place}"), (row[self.column] or {}).get("bytes") or b"")


@dataclass(frozen=True, eq=False)
class Files:
    """Images in files of their own, each a shard, since each can be read alone."""

    addresses: tuple[str, ...]

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        return np.ones(len(self.addresses), np.int64)

    def read(self, shard: int) -> Iterator[AddressedImage]:
        yield AddressedImage(self.addresses[shard])


def labels_in(stream: Any, shard: int, column: str) -> list[int | None]:
    """The labels of a shard of the library's stream."""
    return [label for batch in stream.shard(stream.num_shards, shard).iter(CHUNK) for label in batch[column]]


@contextmanager
def as_user_error(where: str) -> Iterator[None]:
    """Turn errors of the library, the network and the files into one line; ours stay bugs, so only its calls go inside.

    Raises:
        UserError: there is no network, no such set, or a file is damaged.
    """
    try:
        yield
    except UserError:
        raise
    except _library_errors() as error:
        quoted = textwrap.shorten(str(error) or type(error).__name__, MAX_QUOTED, placeholder=" …")
        raise UserError(f"{where} cannot be read: {quoted}") from error


def _library_errors() -> tuple[type[Exception], ...]:
    """What `datasets` and what it stands on raise where a set, a file or the network is at fault."""
    import yaml
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of whichever library it stands on
    from pyarrow.lib import ArrowException

    # It raises plain ValueError and NotImplementedError too, for sets that it does not understand.
    plain = (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile)
    return (*plain, DatasetsError, ArrowException, HTTPError, yaml.YAMLError)


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError("sets of the hub need Hugging Face datasets: pip install 'convatlas[hf]'") from error
    # Their bars and log lines would run through ours.
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return datasets
