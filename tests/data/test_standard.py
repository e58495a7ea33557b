"""The field's standard sets: read as published, checked, fetched once, and never believed when they differ."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from convatlas.data import Split, find
from convatlas.data.standard import (
    CIFAR10,
    CIFAR10_ARCHIVE,
    CIFAR10_HELD_OUT,
    CIFAR10_HELD_OUT_10K,
    FASHION_MNIST,
    IDX_FILES,
    MNIST,
    STANDARDS,
    USPS,
    USPS_FILES,
    Remote,
    Standard,
    pixel_checksum,
    read_cifar10,
    read_idx,
    read_usps,
)
from convatlas.errors import UserError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (7, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2], np.uint8)


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    return gzip.compress(struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.tobytes())


def mnist_files() -> dict[str, bytes]:
    """Five training and two test images in the files of MNIST."""
    contents = (idx(IMAGES[:5]), idx(LABELS[:5]), idx(IMAGES[5:]), idx(LABELS[5:]))
    return dict(zip(IDX_FILES, contents, strict=True))


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def tiny(web, tmp_path: Path) -> Standard:
    """A set of seven images whose public home is this machine."""
    folder = put(tmp_path / "published", mnist_files())
    return dataclasses.replace(
        MNIST,
        name="tiny",
        remotes=tuple(Remote(url=web.url(f"tiny/{file}")) for file in IDX_FILES),
        checksum=pixel_checksum(*MNIST.read(folder)),
    )


def complaint(load: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The files' formats


def test_idx_gives_back_images_and_labels(tmp_path: Path) -> None:
    put(tmp_path, {"images.gz": idx(IMAGES), "labels.gz": idx(LABELS)})
    assert np.array_equal(read_idx(tmp_path / "images.gz"), IMAGES)
    assert np.array_equal(read_idx(tmp_path / "labels.gz"), LABELS)


def test_idx_of_other_numbers_than_bytes_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {"a.gz": gzip.compress(struct.pack(">HBBi", 0, 0x0D, 1, 1) + bytes(4))})
    with pytest.raises(ValueError, match="not an IDX file of bytes"):
        read_idx(tmp_path / "a.gz")


def test_mnist_files_become_images_of_one_channel(tiny: Standard, cache: Path) -> None:
    put(cache / "tiny", mnist_files())
    images = tiny.load(28)
    assert images.name == "tiny"
    assert images.channels == 1
    assert np.array_equal(images.train.images[:, 0], IMAGES[:5])
    assert np.array_equal(images.test.images[:, 0], IMAGES[5:])
    assert images.train.labels.tolist() == [3, 1, 4, 1, 5]
    assert images.train.labels.dtype == np.int64
    assert images.test.labels.tolist() == [9, 2]


def test_images_come_at_the_wanted_size(tiny: Standard, cache: Path) -> None:
    put(cache / "tiny", mnist_files())
    assert tiny.load(32).train.images.shape == (5, 1, 32, 32)


def test_usps_text_from_paper_to_ink_becomes_0_to_255(tmp_path: Path) -> None:
    bytes_of = np.arange(256)
    line = " ".join(["6.0000", *(f"{value / 127.5 - 1:.3f}" for value in bytes_of)]) + " \n"
    put(tmp_path, {file: gzip.compress((line * 2).encode()) for file in USPS_FILES})
    train, test = read_usps(tmp_path)
    for split in (train, test):
        assert split.images.shape == (2, 1, 16, 16)
        assert split.images[0].flatten().tolist() == bytes_of.tolist()
        assert split.labels.tolist() == [6, 6]


def cifar_archive(batches: Mapping[str, npt.NDArray[np.uint8]], compresslevel: int = 1) -> bytes:
    """The official archive, its members in the order in which it has them."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=compresslevel) as archive:
        for name, batch in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = batch.nbytes
            archive.addfile(member, io.BytesIO(batch.tobytes()))
    return file.getvalue()


CIFAR_NAMES = ("data_batch_1", "data_batch_4", "data_batch_3", "test_batch", "data_batch_5", "data_batch_2")


def test_cifar_archive_gives_red_green_and_blue_planes_row_by_row(tmp_path: Path) -> None:
    batches = {name: RANDOM.integers(0, 256, (2, 3073), dtype=np.uint8) for name in CIFAR_NAMES}
    put(tmp_path, {CIFAR10_ARCHIVE: cifar_archive(batches)})
    train, _ = read_cifar10(tmp_path)
    in_order = np.concatenate([batches[name] for name in (*sorted(batches)[:5], "test_batch")])
    assert train.labels.tolist() == in_order[:, 0].tolist()
    assert train.images[3, 2, 5, 7] == in_order[3, 1 + 2 * 1024 + 5 * 32 + 7]
    assert np.array_equal(train.images.reshape(12, 3072), in_order[:, 1:])


def test_a_flipped_bit_of_any_image_in_a_cifar_archive_is_noticed(tmp_path: Path) -> None:
    batches = {name: RANDOM.integers(0, 256, (2, 3073), dtype=np.uint8) for name in CIFAR_NAMES}
    # Not compressed, so that nothing else is amiss.
    whole = cifar_archive(batches, compresslevel=0)
    for batch in batches.values():
        damaged = bytearray(whole)
        damaged[whole.index(batch[1].tobytes()) + 9] ^= 1
        put(tmp_path, {CIFAR10_ARCHIVE: bytes(damaged)})
        with pytest.raises(gzip.BadGzipFile):
            read_cifar10(tmp_path)


@pytest.mark.slow
def test_cifar_archive_of_60000_is_split_at_50000(tmp_path: Path) -> None:
    batches = {name: np.full((10_000, 3073), i, np.uint8) for i, name in enumerate(sorted(CIFAR_NAMES))}
    put(tmp_path, {CIFAR10_ARCHIVE: cifar_archive(batches)})
    train, test = read_cifar10(tmp_path)
    assert np.bincount(train.labels).tolist() == [10_000] * 5
    assert np.bincount(test.labels).tolist() == [0] * 5 + [10_000]
    assert (test.images[[0, -1]] == 5).all()


def cifar_sheets() -> tuple[dict[str, bytes], npt.NDArray[np.uint8]]:
    """51 sheets of one image a row and two rows a sheet, and the images (102, 32, 32, 3)."""
    images = RANDOM.integers(0, 256, (102, 32, 32, 3), dtype=np.uint8)
    files = {"labels.txt": b"".join(b"%d\n" % (i % 10) for i in range(102))}
    for i in range(51):
        file = io.BytesIO()
        Image.fromarray(images[2 * i : 2 * i + 2].reshape(2, 1024, 3)).save(file, "PNG")
        files[f"cifar10_batch_{i}.png"] = file.getvalue()
    return files, images


def test_cifar_sheets_give_the_same_as_an_archive(tmp_path: Path) -> None:
    files, images = cifar_sheets()
    train, _ = read_cifar10(put(tmp_path, files))
    assert np.array_equal(train.images, images.transpose(0, 3, 1, 2))
    assert train.labels.tolist() == [i % 10 for i in range(102)]


def numbered_cifar() -> npt.NDArray[np.uint8]:
    """60,000 rows of the official archive, a class and the pixels of an image, which tell each image from the others.

    The classes are 0 to 9 in turn; the first two values of an image are its number.
    """
    rows = np.zeros((60_000, 3073), np.uint8)
    number = np.arange(60_000)
    rows[:, 0], rows[:, 1], rows[:, 2] = number % 10, number // 256, number % 256
    return rows


def put_archive(folder: Path, rows: npt.NDArray[np.uint8]) -> None:
    """The official archive of 60,000 images."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    put(folder, {CIFAR10_ARCHIVE: cifar_archive(dict(zip(names, np.split(rows, 6), strict=True)))})


def put_sheets(folder: Path, rows: npt.NDArray[np.uint8]) -> None:
    """The first 51,000 images on sheets."""
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_text("\n".join(str(label) for label in rows[:51_000, 0]))
    for i, sheet in enumerate(np.split(rows[:51_000, 1:], 51)):
        pixels = sheet.reshape(-1, 3, 1024).transpose(0, 2, 1)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"cifar10_batch_{i}.png", compress_level=1)


@pytest.mark.parametrize("put_files", [pytest.param(put_archive, marks=pytest.mark.slow), put_sheets])
def test_held_out_images_are_the_last_for_training_and_the_first_for_testing_whatever_the_files(
    put_files: Callable[[Path, npt.NDArray[np.uint8]], None], cache: Path
) -> None:
    rows = numbered_cifar()
    put_files(cache / "cifar10", rows)
    splits = [
        Split(part[:, 1:].reshape(-1, 3, 32, 32), part[:, 0].astype(np.int64))
        for part in (rows[:41_000], rows[41_000:51_000])
    ]
    found = dataclasses.replace(CIFAR10_HELD_OUT, checksum=pixel_checksum(*splits)).load(32)
    assert found.name == "cifar10-held-out"
    for expected, split in zip(splits, (found.train, found.test), strict=True):
        assert np.array_equal(split.images, expected.images)
        assert np.array_equal(split.labels, expected.labels)


def test_held_out_images_are_fetched_with_the_set_whose_files_they_are(tiny: Standard, web, cache: Path) -> None:
    web.files.update({f"tiny/{name}": content for name, content in mnist_files().items()})
    anew = dataclasses.replace(tiny, name="tiny-anew", files_of="tiny")
    assert not anew.is_here
    tiny.load(28)
    assert anew.is_here
    assert anew.load(28).name == "tiny-anew"
    assert len(web.asked) == len(IDX_FILES)
    assert os.listdir(cache) == ["tiny"]


# Fetched once


def test_files_that_lack_are_fetched_and_not_again(tiny: Standard, web, cache: Path) -> None:
    web.files.update({f"tiny/{name}": content for name, content in mnist_files().items()})
    put(cache / "tiny", {IDX_FILES[1]: mnist_files()[IDX_FILES[1]]})
    first = tiny.load(28)
    assert web.asked == [f"tiny/{IDX_FILES[i]}" for i in (0, 2, 3)]
    assert tiny.load(28).checksum == first.checksum
    assert len(web.asked) == 3


def test_files_that_cannot_be_fetched_are_named_with_the_place_for_them(tiny: Standard, cache: Path) -> None:
    message = complaint(lambda: tiny.load(28))
    assert f"/tiny/{IDX_FILES[0]} could not be fetched" in message
    assert message.endswith(f"or put the file at {cache / 'tiny' / IDX_FILES[0]} yourself")


def test_a_remote_with_a_checksum_is_checked_before_it_is_kept(tiny: Standard, web, cache: Path) -> None:
    web.files["tiny/set.gz"] = b"another file"
    remote = Remote(url=web.url("tiny/set.gz"), checksum=f"md5:{hashlib.md5(b'the file').hexdigest()}")
    checked = dataclasses.replace(tiny, remotes=(remote,))
    assert complaint(lambda: checked.load(28)).endswith("sent another file than expected (its checksum differs)")
    # Nor does the folder stay that was made for it.
    assert not (cache / "tiny").exists()


# Damaged


def damaged(name: str, cache: Path) -> str:
    """
    Args:
        name: of the folder.
    """
    return f"the files in {cache / name} are not the published {name}; move that folder away to fetch it anew"


@pytest.mark.parametrize("file", IDX_FILES)
def test_a_file_cut_short_is_told_with_the_way_out_which_works(file: str, tiny: Standard, web, cache: Path) -> None:
    files = mnist_files()
    web.files.update({f"tiny/{name}": content for name, content in files.items()})
    put(cache / "tiny", {**files, file: files[file][:-10]})
    assert complaint(lambda: tiny.load(28)) == damaged("tiny", cache)
    shutil.rmtree(cache / "tiny")
    assert len(tiny.load(28).train) == 5


def test_one_changed_pixel_is_noticed(tiny: Standard, cache: Path) -> None:
    changed = IMAGES[:5].copy()
    changed[2, 14, 14] ^= 1
    put(cache / "tiny", {**mnist_files(), IDX_FILES[0]: idx(changed)})
    assert complaint(lambda: tiny.load(28)) == damaged("tiny", cache)


def test_one_changed_label_is_noticed(tiny: Standard, cache: Path) -> None:
    put(cache / "tiny", {**mnist_files(), IDX_FILES[3]: idx(np.array([9, 3], np.uint8))})
    assert complaint(lambda: tiny.load(28)) == damaged("tiny", cache)


DAMAGE = {
    "empty": b"",
    "a web page": b"<html>404</html>",
    "nothing, packed": gzip.compress(b""),
    "text, packed": gzip.compress(b"one two three\n"),
    "a number, packed": gzip.compress(b"7\n"),
    "no numbers, packed": gzip.compress((b"5 " + b"nan " * 256 + b"\n") * 2),
    "half a header, packed": gzip.compress(b"\0\0\x08"),
    "no dimensions, packed": gzip.compress(b"\0\0\x08\0\7"),
    "labels in place of images": idx(LABELS),
    "half of the packed file": gzip.compress(bytes(IMAGES))[:300],
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("name", [standard.name for standard in STANDARDS])
def test_whatever_lies_in_the_files_it_is_told_in_one_line_without_a_warning(
    name: str, content: bytes, cache: Path
) -> None:
    folder = "cifar10" if name.startswith("cifar10") else name
    files = {"usps": USPS_FILES, "cifar10": (CIFAR10_ARCHIVE,)}.get(folder, IDX_FILES)
    put(cache / folder, dict.fromkeys(files, content))
    assert complaint(lambda: find(name).load(8)) == damaged(folder, cache)


def test_a_cifar_archive_without_its_members_is_told(cache: Path) -> None:
    put(cache / "cifar10", {CIFAR10_ARCHIVE: cifar_archive({"other": np.zeros((1, 3073), np.uint8)})})
    assert complaint(lambda: CIFAR10.load(32)) == damaged("cifar10", cache)


def huge_png() -> bytes:
    """A header that claims 400 million pixels."""
    chunks = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0), b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


@pytest.mark.parametrize("damage", ["sheet lacks", "no labels", "labels of words", "broken sheet", "huge sheet"])
def test_damaged_cifar_sheets_are_told_in_one_line_without_a_warning(damage: str, cache: Path) -> None:
    files, _ = cifar_sheets()
    if damage == "sheet lacks":
        del files["cifar10_batch_50.png"]
    elif damage == "no labels":
        files["labels.txt"] = b""
    elif damage == "labels of words":
        files["labels.txt"] = b"cat\ndog\n"
    elif damage == "broken sheet":
        # Longer than one chunk, and the name of its second chunk is not a name.
        noise, file = RANDOM.integers(0, 256, (40, 1024, 3), dtype=np.uint8), io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        start, end = file.getvalue().rsplit(b"IDAT", 1)
        files["cifar10_batch_0.png"] = start + b"\0DAT" + end
    else:
        files["cifar10_batch_0.png"] = huge_png()
    put(cache / "cifar10", files)
    assert complaint(lambda: CIFAR10.load(32)) == damaged("cifar10", cache)


# The catalog's rows


@pytest.mark.parametrize("standard", STANDARDS, ids=lambda standard: standard.name)
def test_a_set_has_ten_classes_and_a_file_for_each_address(standard: Standard) -> None:
    assert len(set(standard.classes)) == 10
    assert len({remote.file for remote in standard.remotes}) == len(standard.remotes)


@pytest.mark.parametrize("standard", STANDARDS, ids=lambda standard: standard.name)
def test_a_set_is_present_once_the_files_of_its_addresses_are(standard: Standard, tmp_path: Path) -> None:
    *others, last = [remote.file for remote in standard.remotes]
    put(tmp_path, dict.fromkeys(others, b""))
    assert not standard.present(tmp_path)
    put(tmp_path, {last: b""})
    assert standard.present(tmp_path)


# The real sets, against what their makers and the literature publish of them


def counts(labels: npt.NDArray[np.int64]) -> list[int]:
    return np.bincount(labels, minlength=10).tolist()


def test_real_mnist_has_the_published_counts_and_checksums(needs_data) -> None:
    needs_data("mnist")
    mnist = MNIST.load(28)
    assert counts(mnist.train.labels) == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert counts(mnist.test.labels) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # MD5 of the published files, unpacked: a header and the bytes in order.
    published = {
        "train": ("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
        "test": ("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
    }
    for name, (of_images, of_labels) in published.items():
        split = getattr(mnist, name)
        images = struct.pack(">4i", 0x803, len(split), 28, 28) + split.images.tobytes()
        labels = struct.pack(">2i", 0x801, len(split)) + split.labels.astype(np.uint8).tobytes()
        assert hashlib.md5(images).hexdigest() == of_images
        assert hashlib.md5(labels).hexdigest() == of_labels


def test_real_fashion_mnist_is_the_published_one_with_equal_classes(needs_data) -> None:
    folder = needs_data("fashion-mnist")
    fashion = FASHION_MNIST.load(28)
    assert counts(fashion.train.labels) == [6000] * 10
    assert counts(fashion.test.labels) == [1000] * 10
    assert fashion.train.images.shape == (60_000, 1, 28, 28)
    assert [name.lower() for name in fashion.classes] == [
        "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ]  # fmt: skip
    published = ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
                 "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310")  # fmt: skip
    for file, md5 in zip(IDX_FILES, published, strict=True):
        assert hashlib.md5((folder / file).read_bytes()).hexdigest() == md5


def test_real_usps_has_the_published_counts_and_the_full_range(needs_data) -> None:
    needs_data("usps")
    usps = USPS.load(16)
    assert counts(usps.train.labels) == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert counts(usps.test.labels) == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    assert usps.train.images.shape == (7291, 1, 16, 16)
    assert (usps.train.images.min(), usps.train.images.max()) == (0, 255)
    # Ink is bright: paper prevails.
    assert np.median(usps.train.images) < 64


@pytest.mark.slow
def test_real_cifar10_has_the_published_counts_and_checksum(needs_data) -> None:
    needs_data("cifar10")
    cifar = CIFAR10.load(32)
    assert counts(cifar.train.labels) == [5000] * 10
    assert counts(cifar.test.labels[:1000]) == [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]
    assert cifar.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert cifar.channels == 3
    # Of all pixels in order, colors innermost: 50,000 training and 1,000 test images.
    digest = hashlib.sha256()
    for images in (cifar.train.images, cifar.test.images[:1000]):
        digest.update(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    assert digest.hexdigest() == "5b7e47c68f33422b5361468b25fc73fed2217057ed9eb9d3d886c3003a52f2a9"


@pytest.mark.slow
def test_real_held_out_cifar10_is_fixed_and_its_subset_has_the_same_test_images(needs_data) -> None:
    train, test = CIFAR10_HELD_OUT.read(needs_data("cifar10"))
    assert (len(train), len(test)) == (41_000, 10_000)
    assert counts(test.labels) == [1013, 1009, 958, 1031, 980, 1015, 992, 976, 1005, 1021]
    assert pixel_checksum(train, test) == CIFAR10_HELD_OUT.checksum
    subset, same = CIFAR10_HELD_OUT_10K.load(32).train, CIFAR10_HELD_OUT_10K.checksum[32:]
    assert np.array_equal(subset.images, train.images[:10_000])
    assert np.array_equal(subset.labels, train.labels[:10_000])
    assert same == CIFAR10_HELD_OUT.checksum[32:]


@pytest.mark.network
@pytest.mark.parametrize("standard", [MNIST, FASHION_MNIST, USPS, CIFAR10], ids=lambda standard: standard.name)
def test_the_public_home_still_has_the_published_set(standard: Standard, cache: Path) -> None:
    images = standard.load(standard.native_side)
    assert len(images.classes) == 10
    assert len(images.train) >= 7291
