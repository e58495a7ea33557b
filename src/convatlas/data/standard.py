"""The field's standard data sets: downloaded once from their public homes, checked, and read from the cache folder."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.data.dataset import Dataset, Split
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, cache_folder, download
from convatlas.images import Resize

DAMAGE = (OSError, EOFError, ValueError, LookupError, SyntaxError, zlib.error, tarfile.TarError)
"""What readers of files raise on damaged ones."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file to download."""

    url: str
    checksum: str | None = None
    """Only if the decoded pixels cannot all be checked: copies of a file often differ in their gzip header."""

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Standard:
    """A published data set, fetched from where its authors, or the field, keep it."""

    name: str
    native_side: int
    """Pixels of its images."""
    classes: tuple[str, ...]
    remotes: tuple[Remote, ...]
    present: Callable[[Path], bool]
    """Whether its files lie in a folder."""
    files_of: str | None = None
    """The set whose files and folder these are too; None: it has its own."""
    read: Callable[[Path], tuple[Split, Split]]
    """The training and the test split, from that folder."""
    checksum: str
    """Of the decoded images and labels; see `pixel_checksum`."""
    num_checked: int | None = None
    """How many of the test images the checksum covers; None: all."""
    is_light_on_dark: bool = False
    """See `Dataset`."""
    path: None = None

    @property
    def typical_size(self) -> tuple[int, int]:
        return self.native_side, self.native_side

    @property
    def folder(self) -> Path:
        """Where its files lie once they are fetched."""
        return cache_folder() / (self.files_of or self.name)

    @property
    def is_here(self) -> bool:
        """Whether nothing is to be fetched."""
        return self.present(self.folder)

    def fetch(self, progress: ProgressCallback = SILENT) -> None:
        """Download its files, if they are not here.

        Raises:
            UserError: they cannot be fetched.
        """
        if not self.is_here:
            for remote in self.remotes:
                download(remote.url, self.folder / remote.file, checksum=remote.checksum, progress=progress)

    def load(
        self, resize: Resize | int, *, seed: int = 0, skip_bad: bool = False, progress: ProgressCallback = SILENT
    ) -> Dataset:
        """All images, resized exactly, for training too; see `Source.load`.

        Raises:
            UserError: the files can be neither read nor fetched, or are not the published ones.
        """
        folder = self.folder
        self.fetch(progress)
        try:
            train, test = self.read(folder)
        except PermissionError:
            raise
        except (*DAMAGE, Image.DecompressionBombError) as error:
            raise self._damaged(folder) from error
        if self.checksum != pixel_checksum(train, test, self.num_checked):
            raise self._damaged(folder)
        resize = Resize.to(resize)
        return Dataset(
            name=self.name,
            classes=self.classes,
            train=train.resized(resize),
            test=test.resized(resize),
            native_side=self.native_side,
            is_light_on_dark=self.is_light_on_dark,
        )

    def _damaged(self, folder: Path) -> UserError:
        return UserError(
            f"the files in {folder} are not the published {folder.name}; move that folder away to fetch it anew"
        )


def pixel_checksum(train: Split, test: Split, num_checked: int | None = None) -> str:
    """The first 32 digits of the training split's checksum, then those of the first `num_checked` test images."""
    checked = Split(test.images[:num_checked], test.labels[:num_checked])
    return train.pixel_checksum[:32] + checked.pixel_checksum[:32]


IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """A gzipped IDX file of bytes: a big-endian header of type, dimensions and sizes, then the values.

    Raises:
        OSError, EOFError, ValueError, zlib.error: it is damaged.
    """
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08" or len(content) < 8:
        raise ValueError(f"{path} is not an IDX file of bytes")
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def read_mnist(folder: Path) -> tuple[Split, Split]:
    images, labels, test_images, test_labels = (read_idx(folder / file) for file in IDX_FILES)
    return (
        Split(images[:, None], labels.astype(np.int64)),
        Split(test_images[:, None], test_labels.astype(np.int64)),
    )


def has_mnist(folder: Path) -> bool:
    return all((folder / file).exists() for file in IDX_FILES)


USPS_FILES = ("zip.train.gz", "zip.test.gz")


def read_usps(folder: Path) -> tuple[Split, Split]:
    """Lines of text: the digit, then 256 values from -1 (paper) to 1 (ink)."""

    def split(file: str) -> Split:
        words = gzip.decompress((folder / file).read_bytes()).split()
        table = np.array(words, dtype=np.float64).reshape(-1, 1 + 16 * 16)
        if not (np.abs(table[:, 1:]) <= 1).all():
            raise ValueError(f"{file} has values beyond -1 to 1")
        images = np.round((table[:, 1:] + 1) * 127.5).astype(np.uint8).reshape(-1, 1, 16, 16)
        return Split(images, table[:, 0].astype(np.int64))

    return split(USPS_FILES[0]), split(USPS_FILES[1])


def has_usps(folder: Path) -> bool:
    return all((folder / file).exists() for file in USPS_FILES)


CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"


def read_cifar10(folder: Path) -> tuple[Split, Split]:
    """The official binary archive; or PNG files of 1,000 images each, one a row, and one file of labels."""
    if (folder / CIFAR10_ARCHIVE).exists():
        # To its end, where its checksum lies: that of the pixels covers a tenth of the test images only.
        with gzip.open(folder / CIFAR10_ARCHIVE) as file:
            unzipped = io.BytesIO(file.read())
        with tarfile.open(fileobj=unzipped) as archive:
            # Members are read inside the archive: nothing is ever unpacked.
            names = [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)]
            members = [archive.extractfile(name) for name in [*names, "cifar-10-batches-bin/test_batch.bin"]]
            content = b"".join(member.read() for member in members if member)
        table = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        images, labels = table[:, 1:].reshape(-1, 3, 32, 32), table[:, 0].astype(np.int64)
    else:
        sheets = []
        for i in range(51):
            with Image.open(folder / f"cifar10_batch_{i}.png", formats=["PNG"]) as sheet:
                sheets.append(np.asarray(sheet.convert("RGB")).reshape(-1, 32, 32, 3))
        images = np.ascontiguousarray(np.concatenate(sheets).transpose(0, 3, 1, 2))
        labels = np.array((folder / "labels.txt").read_text().split(), dtype=np.int64)
    if len(images) != len(labels):
        raise ValueError("there are more labels than images, or fewer")
    return Split(images[:50000], labels[:50000]), Split(images[50000:], labels[50000:])


def has_cifar10(folder: Path) -> bool:
    return (folder / CIFAR10_ARCHIVE).exists() or (folder / "labels.txt").exists()


HELD_OUT = 41_000
"""The training image of CIFAR-10 from which on all are test images of `cifar10-held-out`."""
NUM_PUBLIC_TEST = 1000
"""Of the published test images, those that it has too: the ones that the files of both kinds hold."""


def read_cifar10_held_out(folder: Path, num_train: int = HELD_OUT) -> tuple[Split, Split]:
    """CIFAR-10 split anew: the first `num_train` images, and the last 9,000 with the first 1,000 published test images.

    Both kinds of files give the same images: the PNG files hold 1,000 test images, too few to tell networks apart.
    """
    train, test = read_cifar10(folder)
    return Split(train.images[:num_train], train.labels[:num_train]), Split(
        np.concatenate([train.images[HELD_OUT:], test.images[:NUM_PUBLIC_TEST]]),
        np.concatenate([train.labels[HELD_OUT:], test.labels[:NUM_PUBLIC_TEST]]),
    )


DIGIT_CLASSES = tuple("0123456789")

MNIST = Standard(
    name="mnist",
    is_light_on_dark=True,
    native_side=28,
    classes=DIGIT_CLASSES,
    remotes=tuple(Remote(url=f"https://ossci-datasets.s3.amazonaws.com/mnist/{file}") for file in IDX_FILES),
    present=has_mnist,
    read=read_mnist,
    checksum="d18cfd466eb143ac1097fde604dba9eea0863a96c44e5666edbb30c4071ee79c",
)
FASHION_MNIST = Standard(
    name="fashion-mnist",
    native_side=28,
    classes=(
        "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    remotes=tuple(
        Remote(url=f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{file}") for file in IDX_FILES
    ),
    present=has_mnist,
    read=read_mnist,
    checksum="1f243a60b4b748a44c48b9a6f6907be29a494dc49efeb996f4076c469b31cd05",
)  # fmt: skip
USPS = Standard(
    name="usps",
    is_light_on_dark=True,
    native_side=16,
    classes=DIGIT_CLASSES,
    remotes=tuple(Remote(url=f"https://hastie.su.domains/ElemStatLearn/datasets/{file}") for file in USPS_FILES),
    present=has_usps,
    read=read_usps,
    checksum="e255863a9d6ef0d1b73268bc5a969a039f823bfb994fe19f0c763fbba7d59a05",
)
CIFAR10 = Standard(
    name="cifar10",
    num_checked=1000,
    native_side=32,
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    remotes=(
        Remote(
            url=f"https://www.cs.toronto.edu/~kriz/{CIFAR10_ARCHIVE}",
            # The pixel checksum covers a tenth of its test images only.
            checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
        ),
    ),
    present=has_cifar10,
    read=read_cifar10,
    checksum="973ef2abb5897efc795681a4d79a6f5f09f27c48f8ef1306c9e28f5fba4eef29",
)
CIFAR10_HELD_OUT = replace(
    CIFAR10,
    name="cifar10-held-out",
    files_of=CIFAR10.name,
    read=read_cifar10_held_out,
    num_checked=None,
    checksum="2c160fed338bdc0f9e79c315244b24ac84315401c8c4e4b85ad7a67d20cbb8ed",
)
CIFAR10_HELD_OUT_10K = replace(
    CIFAR10_HELD_OUT,
    name="cifar10-held-out-10k",
    read=partial(read_cifar10_held_out, num_train=10_000),
    checksum="54b2ed21fbd6a52cfc507fb5af63b86184315401c8c4e4b85ad7a67d20cbb8ed",
)
STANDARDS = (MNIST, USPS, FASHION_MNIST, CIFAR10, CIFAR10_HELD_OUT, CIFAR10_HELD_OUT_10K)
