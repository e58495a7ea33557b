"""The cache of decoded images gives what decoding gives, and nothing that goes wrong stays in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from convatlas.data import Dataset, Split
from convatlas.data.cache import for_training
from convatlas.data.folder import Folder
from convatlas.data.source_files import SourceFile, scan
from convatlas.errors import UserError
from convatlas.files.decoded_cache import EntryKind, entries
from convatlas.files.progress import SilentProgress, Unit
from convatlas.files.sealed_json import sealed_json, unsealed
from convatlas.images import Resize, decode, decode_draft, opened

SIDE = 32
RANDOM = np.random.default_rng(0)

LOAD = """
import os, resource, signal, sys
from pathlib import Path
from convatlas.data.folder import Folder
from convatlas.errors import UserError
folder, side = Path(sys.argv[1]), int(sys.argv[2])
{before}
try:
    print(Folder(folder).load(side).checksum)
except UserError as error:
    print(error)
    sys.exit(2)
"""


def load(folder: Path, side: int, before: str = "") -> subprocess.CompletedProcess[str]:
    """Load a folder in a process of its own, after what `before` does to it."""
    command = [sys.executable, "-c", LOAD.format(before=before), str(folder), str(side)]
    return subprocess.run(command, capture_output=True, text=True)


def slow(value: int) -> object:
    """A case more of a kind: a process takes seconds to start."""
    return pytest.param(value, marks=pytest.mark.slow)


def noise(side: int = 40, channels: int = 3) -> Image.Image:
    """No two alike, and large as JPEG."""
    return Image.fromarray(RANDOM.integers(0, 256, (side, side, channels), dtype=np.uint8).squeeze())


@pytest.fixture
def animals(tmp_path: Path, write_images: Callable, decoded_cache: Path) -> Path:
    """Six images of each of two classes, and an empty cache."""
    return write_images(tmp_path / "animals", {name: [noise() for _ in range(6)] for name in ("cat", "dog")})


def by_name(images: Dataset) -> dict[str, npt.NDArray[np.uint8]]:
    return {
        name: image
        for split in (images.train, images.test)
        for name, image in zip(split.names, split.images[:], strict=True)
    }


def decoded_again(folder: Path, side: int = SIDE) -> dict[str, npt.NDArray[np.uint8]]:
    """What exact decoding gives, without any cache."""
    return {
        path.relative_to(folder).as_posix(): Resize(side).square(decode(path), 3)
        for path in sorted(folder.glob("*/*.*"))
    }


def approximated(path: Path, side: int = SIDE) -> npt.NDArray[np.uint8]:
    """What training may see of an image."""
    with opened(path) as file:
        return Resize(side).square(decode_draft(file, path, side)[0], 3, approximate=True)


def same(one: dict[str, npt.NDArray[np.uint8]], other: dict[str, npt.NDArray[np.uint8]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def only_entry(cache: Path) -> Path:
    (entry,) = cache.glob("*.decoded")
    return entry


def mark(entry: Path) -> None:
    """Make every pixel in the cache 7: whoever sees that has decoded nothing."""
    path = entry / "images"
    path.write_bytes(b"\x07" * path.stat().st_size)
    sizes = np.diff(read_index(entry)["ends"], prepend=0)
    write_index(entry, crcs=[zlib.crc32(b"\x07" * size) for size in sizes])


def read_index(entry: Path) -> dict[str, Any]:
    return unsealed(json.loads((entry / "index.json").read_bytes()))


def write_index(entry: Path, **changes: Any) -> None:
    """Write another index, as if it had been so when the entry was made."""
    (entry / "index.json").write_bytes(sealed_json(read_index(entry) | changes))


def is_marked(images: Dataset) -> bool:
    return all((split.images[:] == 7).all() for split in (images.train, images.test))


# Decoded once


def test_the_cache_holds_what_decoding_gives(animals: Path) -> None:
    noise(60).save(animals / "cat" / "large.jpg")
    noise(20, 1).save(animals / "dog" / "small and gray.png")
    for _ in range(2):
        assert same(by_name(Folder(animals).load(SIDE)), decoded_again(animals))


def test_nothing_is_decoded_again_for_the_next_run_or_another_seed(animals: Path, decoded_cache: Path) -> None:
    Folder(animals).load(SIDE)
    mark(only_entry(decoded_cache))
    for seed in (0, 1):
        assert is_marked(Folder(animals).load(SIDE, seed=seed))
    assert len(list(decoded_cache.glob("*.decoded"))) == 1


def test_nothing_is_decoded_again_where_files_have_only_moved(animals: Path, decoded_cache: Path) -> None:
    before = Folder(animals).load(SIDE).checksum
    mark(only_entry(decoded_cache))
    (animals / "cat" / "000.png").rename(animals / "dog" / "renamed.png")
    animals.rename(animals.parent / "elsewhere")
    after = Folder(animals.parent / "elsewhere").load(SIDE)
    assert is_marked(after)
    assert after.checksum != before


def test_the_same_content_is_kept_once(animals: Path, decoded_cache: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(20):
            (animals / name / f"copy{i}.png").write_bytes((animals / "cat" / "000.png").read_bytes())
    assert same(by_name(Folder(animals).load(SIDE)), decoded_again(animals))
    assert (only_entry(decoded_cache) / "images").stat().st_size == 12 * 3 * SIDE**2


def test_another_side_is_another_entry(animals: Path, decoded_cache: Path) -> None:
    Folder(animals).load(SIDE)
    assert same(by_name(Folder(animals).load(SIDE + 1)), decoded_again(animals, SIDE + 1))
    assert len(list(decoded_cache.glob("*.decoded"))) == 2


def test_a_changed_source_is_noticed(animals: Path) -> None:
    before = Folder(animals).load(SIDE)
    noise().save(animals / "cat" / "003.png")
    after = Folder(animals).load(SIDE)
    assert same(by_name(after), decoded_again(animals))
    assert after.checksum != before.checksum


def test_a_changed_source_is_noticed_where_its_size_and_time_are_as_they_were(animals: Path) -> None:
    path = animals / "cat" / "image.ppm"
    for part in (0, 1):
        # The second time as the first, but for another color.
        path.write_bytes(b"P6 4 4 255\n" + bytes([100 * part]) * 48)
        os.utime(path, (1_500_000_000, 1_500_000_000))
        assert same(by_name(Folder(animals).load(SIDE)), decoded_again(animals))


def test_a_new_and_a_removed_source_are_noticed(animals: Path) -> None:
    Folder(animals).load(SIDE)
    noise().save(animals / "cat" / "new.png")
    (animals / "dog" / "000.png").unlink()
    assert same(by_name(Folder(animals).load(SIDE)), decoded_again(animals))


def test_another_limit_of_pixels_is_another_entry(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Folder(animals).load(SIDE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="12 of 12 images cannot be used"):
        Folder(animals).load(SIDE)
    monkeypatch.setenv("CONVATLAS_MAX_PIXELS", "1000000")
    assert same(by_name(Folder(animals).load(SIDE)), decoded_again(animals))


def test_a_source_that_changes_while_it_is_decoded_is_an_error(animals: Path, decoded_cache: Path) -> None:
    paths = sorted(animals.glob("*/*.png"))
    sources = [source for source in scan(animals, paths, decoded_cache).found if isinstance(source, SourceFile)]
    noise().save(paths[4])
    with pytest.raises(UserError, match=r"004\.png changed while it was decoded"):
        for_training(animals, sources, Resize(SIDE), decoded_cache)
    paths[4].unlink()
    with pytest.raises(UserError, match=r"004\.png changed while it was decoded"):
        for_training(animals, sources, Resize(SIDE), decoded_cache)
    assert list(decoded_cache.glob("*.decoded")) == []


def test_gray_images_before_the_first_in_color_are_spread_over_three_channels(
    tmp_path: Path, write_images: Callable, decoded_cache: Path
) -> None:
    classes = {"a": [noise(channels=1) for _ in range(30)], "b": [noise(), noise(channels=1)]}
    folder = write_images(tmp_path / "f", classes)
    images = Folder(folder).load(SIDE)
    assert images.channels == 3
    assert same(by_name(images), decoded_again(folder))
    assert sorted(path.name for path in only_entry(decoded_cache).iterdir()) == ["images", "index.json"]


PEAK = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM:')).split()[1])"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much a process took")
def test_a_large_folder_passes_through_little_memory(
    tmp_path: Path, write_images: Callable, decoded_cache: Path
) -> None:
    folder = write_images(tmp_path / "f", {name: [noise(8) for _ in range(40)] for name in ("a", "b")})
    side = 512
    done = load(folder, side, f"import atexit; exec({PEAK!r}); atexit.register(lambda: exec({PEAK!r}))")
    least, _, whole = done.stdout.split()
    # Its pixels are 60 MiB.
    assert int(whole) - int(least) < 40 * 1024


# What cannot be used


def test_reasons_come_from_the_cache_and_every_odd_file_is_as_it_should_be(
    animals: Path, decoded_cache: Path, write_odd_images: Callable
) -> None:
    """200 files, a tenth of them odd or broken in ten ways."""
    for number in range(168):
        noise(36).save(animals / ("cat", "dog")[number % 2] / f"more{number}.jpg")
    odd = write_odd_images(animals / "cat", 2)
    for _ in range(2):
        images = Folder(animals).load(SIDE, skip_bad=True)
        assert {error.path for error in images.skipped} == set(odd.unusable)
        for error in images.skipped:
            assert error.reason.startswith(odd.unusable[error.path])
        kept = by_name(images)
        assert len(kept) == 190
        for path in odd.good:
            odd.check_colors(path, kept[path.relative_to(animals).as_posix()])
        with pytest.raises(UserError, match=r"^10 of 200 images cannot be used, the first is .*; others are "):
            Folder(animals).load(SIDE)
    # Another one has exact pixels of some.
    entry = max(entries(decoded_cache), key=lambda entry: entry.num_images).folder
    unusable = read_index(entry)["unusable"]
    # What cannot be read has no content, and the same content one reason.
    assert len(unusable) == 4
    write_index(entry, unusable=dict.fromkeys(unusable, "as the index says"))
    images = Folder(animals).load(SIDE, skip_bad=True)
    assert [error.reason for error in images.skipped].count("as the index says") == 8


# Damage


def damage(entry: Path, how: str) -> None:
    images, index = entry / "images", entry / "index.json"
    match how:
        case "images cut short":
            os.truncate(images, images.stat().st_size - 1)
        case "images too long":
            images.write_bytes(images.read_bytes() + b"0")
        case "no images":
            images.unlink()
        case "no index":
            index.unlink()
        case "half an index":
            index.write_bytes(index.read_bytes()[:200])
        case "bytes":
            index.write_bytes(b"\x00\xff\xfe")
        case "folder for an index":
            index.unlink()
            index.mkdir()
        case _:
            key, _, value = how.partition(" ")
            write_index(entry, **{key: json.loads(value)})


@pytest.mark.parametrize(
    "how",
    [
        "images cut short", "images too long", "no images", "no index", "half an index", "bytes",
        "side 31", 'side "32"', "channels 1", "channels null", "kind 3", 'kind "png"', "ends []", "ends [1, 2]",
        "ends null", 'ends ["a"]', "contents []", 'contents ["zz"]', "contents 4", "unusable []", 'unusable {"a": 1}',
        'unusable {"aa": "why"}', "approximate [99]", "approximate null", 'approximate ["a"]', "more 1",
        "crcs [1]", "crcs [-1]", "crcs null", 'crcs ["a"]',
    ],
)  # fmt: skip
def test_a_damaged_entry_is_made_anew(how: str, animals: Path, decoded_cache: Path) -> None:
    before = Folder(animals).load(SIDE).checksum
    damage(only_entry(decoded_cache), how)
    images = Folder(animals).load(SIDE)
    assert images.checksum == before
    assert same(by_name(images), decoded_again(animals))
    # And is whole from now on.
    mark(only_entry(decoded_cache))
    assert is_marked(Folder(animals).load(SIDE))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="there is no such limit")
def test_a_killed_build_leaves_nothing_that_hurts(animals: Path, decoded_cache: Path) -> None:
    # The system kills it in the middle of the file of images.
    kill = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))"
    )
    for _ in range(2):
        assert load(animals, SIDE, kill).returncode == -signal.SIGXFSZ
        assert len(list(only_entry(decoded_cache).glob("images.*.part"))) == 1
        assert entries(decoded_cache) == []
    assert same(by_name(Folder(animals).load(SIDE)), decoded_again(animals))
    assert sorted(path.name for path in only_entry(decoded_cache).iterdir()) == ["images", "index.json"]
    # What was left of another entry is removed too.
    assert load(animals, SIDE + 1, kill).returncode == -signal.SIGXFSZ
    assert len(list(decoded_cache.glob("*.decoded"))) == 2
    Folder(animals).load(SIDE + 2)
    assert {path.name for path in decoded_cache.glob("*.decoded/*")} == {"index.json", "images"}
    assert len(list(decoded_cache.glob("*.decoded"))) == 2


def test_locks_that_killed_processes_left_are_cleared(animals: Path, decoded_cache: Path) -> None:
    Folder(animals).load(SIDE)
    names = sorted(path.name for path in decoded_cache.rglob("*"))
    (decoded_cache / ".lock").touch()
    (only_entry(decoded_cache) / ".lock").touch()
    Folder(animals).load(SIDE)
    assert sorted(path.name for path in decoded_cache.rglob("*")) == names


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="there is no such limit")
def test_an_interrupted_build_leaves_nothing(animals: Path, decoded_cache: Path) -> None:
    interrupt = (
        "limit, none = resource.RLIMIT_FSIZE, resource.RLIM_INFINITY\n"
        "def interrupt(*_):\n    resource.setrlimit(limit, (none, none))\n    raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGXFSZ, interrupt)\n"
        "resource.setrlimit(limit, (12_000, none))"
    )
    assert "KeyboardInterrupt" in load(animals, SIDE, interrupt).stderr
    assert list(decoded_cache.glob("*.decoded")) == []


@pytest.mark.parametrize("num", [2, slow(4)])
def test_processes_that_build_the_same_entry_at_once_all_end_well(num: int, animals: Path, decoded_cache: Path) -> None:
    for number in range(40):
        noise(180).save(animals / "cat" / f"more{number}.png")
    command = [sys.executable, "-c", LOAD.format(before=""), str(animals), str(SIDE)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(num)]
    answers = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * num
    assert set(answers) == {f"{Folder(animals).load(SIDE).checksum}\n"}
    assert sorted(path.name for path in only_entry(decoded_cache).iterdir()) == ["images", "index.json"]


# No room


def is_one_clear_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stdout.splitlines()) == 1, done.stdout
    for word in words:
        assert word in done.stdout


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="there is no such limit")
@pytest.mark.parametrize("most", [slow(0), slow(10_000), slow(36_000)])
def test_a_file_that_may_not_grow_is_one_clear_line(most: int, animals: Path, decoded_cache: Path) -> None:
    done = load(animals, SIDE, f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))")
    is_one_clear_line(done, f"{decoded_cache} has no room", "cache clear", "CONVATLAS_CACHE")
    assert list(decoded_cache.glob("*.decoded")) == []
    assert len(by_name(Folder(animals).load(SIDE))) == 12


def on_file_system(options: str, cache: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Load a folder with the cache on a file system of its own, and then list what lies there on standard error."""
    cache.mkdir()
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 || exit 77; "$@"; status=$?; find "$CONVATLAS_CACHE" >&2'
    words = ["sh", "-c", f"{script}; exit $status", "sh", options, str(cache)]
    load_words = [sys.executable, "-c", LOAD.format(before=""), str(folder), str(SIDE)]
    try:
        done = subprocess.run(["unshare", "-Urm", *words, *load_words], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    return done


def only_sources_are_left(done: subprocess.CompletedProcess[str], cache: Path) -> bool:
    """What is known of sources that lie there for a while may stay: it is true, and small."""
    left = [Path(path) for path in done.stderr.split()]
    return all(path == cache or path.name.endswith(".sources.json") for path in left)


@pytest.mark.parametrize("files", [slow(1), 2, slow(3), slow(4)])
def test_a_full_disk_is_one_clear_line_and_nothing_stays(files: int, animals: Path, decoded_cache: Path) -> None:
    done = on_file_system(f"size=1m,nr_inodes={files}", decoded_cache, animals)
    is_one_clear_line(done, f"{decoded_cache} has no room", "No space left on device", "cache clear", "CONVATLAS_CACHE")
    assert only_sources_are_left(done, decoded_cache)


@pytest.mark.slow
def test_a_disk_too_small_for_the_images_is_one_clear_line(animals: Path, decoded_cache: Path) -> None:
    for number in range(100):
        noise(100).save(animals / "cat" / f"more{number}.png")
    done = on_file_system("size=100k", decoded_cache, animals)
    is_one_clear_line(done, "more than the cache may", "free some space", "CONVATLAS_CACHE_LIMIT")
    assert only_sources_are_left(done, decoded_cache)


@pytest.mark.slow
def test_a_cache_that_may_only_be_read_is_one_clear_line(animals: Path, decoded_cache: Path) -> None:
    done = on_file_system("size=1m,ro", decoded_cache, animals)
    is_one_clear_line(
        done, f"the cache folder {decoded_cache} cannot be written (Read-only file system)", "CONVATLAS_CACHE"
    )


def test_a_file_for_a_cache_folder_is_one_clear_line(animals: Path, decoded_cache: Path) -> None:
    decoded_cache.write_text("mine")
    with pytest.raises(UserError, match=r"the cache folder .* cannot be written \(.*\); name another one with"):
        Folder(animals).load(SIDE)
    assert decoded_cache.read_text() == "mine"


def test_what_was_used_longest_ago_makes_room(
    tmp_path: Path, write_images: Callable, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each takes 12 images of 3 KiB, and an index of one.
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "80KiB")
    folders = [
        write_images(tmp_path / letter, {name: [noise() for _ in range(6)] for name in ("cat", "dog")})
        for letter in "abc"
    ]
    first = Folder(folders[0]).load(SIDE)
    expected = by_name(first)
    Folder(folders[1]).load(SIDE)
    # It is the older by its making, and the younger by its use.
    for entry in entries(decoded_cache):
        os.utime(entry.folder / "index.json", (1000, 1000))
    Folder(folders[0]).load(SIDE)
    Folder(folders[2]).load(SIDE)
    assert {Path(entry.source).name for entry in entries(decoded_cache)} == {"a", "c"}
    if os.name == "posix":
        for entry in entries(decoded_cache):
            os.utime(entry.folder / "index.json", (1000 if entry.source.endswith("a") else 2000,) * 2)
        Folder(folders[1]).load(SIDE)
        assert {Path(entry.source).name for entry in entries(decoded_cache)} == {"b", "c"}
        # Who reads an entry that made room goes on reading it.
        assert same(by_name(first), expected)


# Kept as JPEG


@pytest.fixture
def photographs(tmp_path: Path, write_images: Callable, decoded_cache: Path) -> Path:
    """Soft images, four in color and four gray."""

    def soft(channels: int) -> Image.Image:
        return noise(4, channels).resize((64, 64), Image.Resampling.BICUBIC)

    return write_images(tmp_path / "f", {"a": [soft(1) for _ in range(4)], "b": [soft(3) for _ in range(4)]})


def test_a_set_beyond_the_limit_is_kept_as_jpeg(
    photographs: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = decoded_again(photographs, 64)
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "40KiB")
    for _ in range(2):
        images = Folder(photographs).load(64)
        (entry,) = entries(decoded_cache)
        assert entry.kind is EntryKind.JPEG
        assert entry.num_bytes < 40 * 2**10 < 8 * 3 * 64**2
        kept = by_name(images)
        assert kept.keys() == exact.keys()
        for name, image in kept.items():
            assert image.shape == (3, 64, 64)
            assert np.abs(image.astype(int) - exact[name]).mean() < 2
            if name.startswith("a/"):
                assert (image == image[:1]).all()


def test_a_set_of_just_the_limit_is_kept_as_it_is(
    photographs: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_bytes = 8 * 3 * 64**2
    for limit, kind in ((num_bytes, EntryKind.RAW), (num_bytes - 1, EntryKind.JPEG)):
        monkeypatch.setenv("CONVATLAS_CACHE", str(decoded_cache / kind))
        monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", str(limit))
        Folder(photographs).load(64)
        assert [entry.kind for entry in entries(decoded_cache / kind)] == [kind]


def test_room_for_jpeg_is_made_before_the_first_is_written(
    animals: Path, photographs: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The animals take 36 KiB, and a quarter of the photographs' pixels 24.
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "50KiB")
    Folder(animals).load(SIDE)
    begun = []

    class Looking(SilentProgress):
        def begin(self, title: str, total: int | None, unit: Unit) -> None:
            if "decod" in title:
                begun.append([Path(entry.source).name for entry in entries(decoded_cache)])

    Folder(photographs).load(64, progress=Looking())
    assert begun == [[]]


def test_an_entry_of_either_kind_is_used_as_long_as_it_is_there(
    photographs: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained on one goes on with the same."""
    for kind, first, then in ((EntryKind.RAW, "1G", "40KiB"), (EntryKind.JPEG, "40KiB", "1G")):
        monkeypatch.setenv("CONVATLAS_CACHE", str(decoded_cache / kind))
        monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", first)
        images = by_name(Folder(photographs).load(64))
        monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", then)
        assert same(by_name(Folder(photographs).load(64)), images)
        assert [entry.kind for entry in entries(decoded_cache / kind)] == [kind]


def test_images_kept_as_jpeg_are_taken_as_from_an_array(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, decoded_cache: Path
) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "40KiB")
    images = Folder(photographs).load(64).train.images
    everything = images[:]
    assert images.shape == everything.shape == (6, 3, 64, 64)
    for indices in (slice(1, 6, 2), np.array([4, 0, 4]), np.arange(6) > 3, np.array([], np.int64)):
        taken = images[indices]
        assert taken.dtype == np.uint8
        assert np.array_equal(taken, everything[indices])
    for index in range(6):
        assert np.array_equal(images[np.array([index])][0], everything[index])


def test_a_set_that_is_too_large_even_as_jpeg_is_one_clear_line(
    animals: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "5KiB")
    with pytest.raises(UserError) as caught:
        Folder(animals).load(SIDE)
    assert "more than the cache may" in str(caught.value)
    assert "CONVATLAS_CACHE_LIMIT" in str(caught.value)
    assert list(decoded_cache.glob("*.decoded")) == []


def test_a_damaged_jpeg_in_the_cache_is_one_clear_line(
    photographs: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "40KiB")
    images = Folder(photographs).load(64).train.images
    images[:]
    # Checked before, it is damaged after.
    path = only_entry(decoded_cache) / "images"
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    with pytest.raises(UserError, match="images is damaged; start or resume again"):
        images[:]
    assert len(Folder(photographs).load(64).train.images[:]) == 6


def test_a_split_of_an_array_is_taken_as_ever() -> None:
    images = RANDOM.integers(0, 256, (5, 1, 2, 2), dtype=np.uint8)
    part = Split(images, np.arange(5)).take(np.array([4, 2]))
    assert type(part.images) is np.ndarray
    assert np.array_equal(part.images, images[[4, 2]])
    assert part.labels.tolist() == [4, 2]
