"""Sets in the layouts of the Hugging Face hub are streamed: trained on, judged, resumed, and never trusted."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convatlas as ca
from convatlas.data import Dataset, find, stream
from convatlas.data.hub import Hub, ParquetRows, as_user_error
from convatlas.data.stream import Stream
from convatlas.errors import UserError
from convatlas.images import Resize, decode, decode_draft, opened
from convatlas.runs.options import InitFrom, Validation
from convatlas.runs.report import write_report
from convatlas.runs.run import Run
from convatlas.training import Interrupted, Progress

CLASSES = ("cat", "dog", "eel")
LIMIT_S = 100


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Hugging Face datasets, which reaches nothing and leaves its locks in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        import datasets

        yield datasets


def image(seed: int, *, gray: bool = False) -> Image.Image:
    """A class can be told by which third of it is bright."""
    noise = np.random.default_rng(seed).integers(0, 90, (40, 48, 3), dtype=np.uint8)
    noise[:, 16 * (seed % 3) :][:, :16] += 150
    return Image.fromarray(noise[:, :, 0] if gray else noise)


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def write_parquet(
    library: Any,
    path: Path,
    contents: Sequence[bytes | None],
    labels: Sequence[int],
    *,
    paths: Sequence[str | None] | None = None,
    rows: int = 10,
) -> None:
    """One file, `rows` in each group of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = library.Features(
        {"note": library.Value("string"), "image": library.Image(), "label": library.ClassLabel(names=list(CLASSES))}
    )
    table = pa.table(
        {
            "note": ["?"] * len(labels),
            "image": [
                {"bytes": content, "path": path}
                for content, path in zip(contents, paths or [None] * len(labels), strict=True)
            ],
            "label": labels,
        },
        schema=features.arrow_schema,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)


@pytest.fixture
def write_set(library: Any) -> Callable[..., Path]:
    """`write_set(folder, train=60, test=12)` writes images 0 to 59, in two files, and 12 more to test on."""

    def write(folder: Path, *, gray: bool = False, **splits: int) -> Path:
        first = 0
        for name, num in splits.items():
            numbers = range(first, first + num)
            for i, part in enumerate((numbers[: num // 2], numbers[num // 2 :])):
                contents = [file_of(image(number, gray=gray)) for number in part]
                write_parquet(library, folder / f"{name}-{i:05}-of-00002.parquet", contents, [n % 3 for n in part])
            first += num
        return folder

    return write


@pytest.fixture
def folder_of_classes(library: Any, tmp_path: Path) -> Path:
    """An imagefolder, which convatlas reads as a folder too."""
    root = tmp_path / "images"
    for split, numbers in (("train", range(30)), ("test", range(30, 39))):
        for number in numbers:
            path = root / split / CLASSES[number % 3] / f"{number:03}.{('jpg', 'png')[number % 2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            large = image(number).resize((200, 170))
            exif = Image.Exif()
            if number % 4 == 0:
                exif[0x0112] = 6
            large.save(path, exif=exif)
    return root


def load(path: Path, *, seed: int = 0, skip_bad: bool = False) -> Dataset:
    return find(f"hf:{path}").load(28, seed=seed, skip_bad=skip_bad)


def complaint(wrong: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        wrong()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def weights(run: Run) -> bytes:
    return (run.folder / "weights.safetensors").read_bytes()


def test_parquet_is_streamed_with_its_classes_and_labels(write_set: Callable[..., Path], tmp_path: Path) -> None:
    source = find(f"hf:{write_set(tmp_path / 'set', train=60, test=12)}")
    assert source.name == f"hf:{tmp_path / 'set'}"
    assert (source.native_side, source.typical_size) == (None, (40, 48))
    images = source.load(28, seed=0)
    assert images.classes == CLASSES
    assert images.train.labels.tolist() == [number % 3 for number in range(60)]
    assert images.test.labels.tolist() == [number % 3 for number in range(60, 72)]
    assert isinstance(images.train.images, Stream)
    assert images.channels == 3
    expected = np.stack([Resize(28).square(image(number), 3) for number in range(72)])
    assert np.array_equal(images.train.images[:], expected[:60])
    assert np.array_equal(images.test.images[:], expected[60:])


def test_few_files_are_read_by_their_groups_of_rows(write_set: Callable[..., Path], tmp_path: Path) -> None:
    shards = load(write_set(tmp_path, train=60, test=12)).train.images.shards
    assert isinstance(shards, ParquetRows)
    assert shards.sizes.tolist() == [10] * 6
    assert shards.stream.features.keys() == {"image"}


@pytest.mark.parametrize("side", [28, 64])
def test_images_are_those_of_the_folder_source_bit_for_bit(folder_of_classes: Path, side: int) -> None:
    ours, theirs = (find(name).load(side, seed=0) for name in (f"hf:{folder_of_classes}", folder_of_classes))
    assert find(f"hf:{folder_of_classes}").typical_size == find(folder_of_classes).typical_size
    assert ours.classes == theirs.classes
    for one, other in ((ours.train, theirs.train), (ours.test, theirs.test)):
        assert one.labels.tolist() == other.labels.tolist()
        assert np.array_equal(one.images[:], other.images[:])


def test_gray_images_stay_gray(write_set: Callable[..., Path], tmp_path: Path) -> None:
    images = load(write_set(tmp_path, gray=True, train=12, test=6))
    assert images.channels == 1
    expected = np.stack([Resize(28).square(image(number, gray=True), 1) for number in range(18)])
    assert np.array_equal(images.train.images[:], expected[:12])
    assert np.array_equal(images.test.images[:], expected[12:])


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_without_a_test_split_the_validation_images_are_it(
    name: str, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    images = load(write_set(tmp_path, train=12, **{name: 6}))
    assert len(images.test) == 6
    [line] = images.notes
    assert line.startswith("train trains and val")
    assert line.endswith(" is the test set")


def test_splits_are_recognized_as_they_are_spelled_and_what_each_is_used_for_is_said(
    write_set: Callable[..., Path], tmp_path: Path
) -> None:
    images = load(write_set(tmp_path / "data", Training=12, Testing=6, dev=3, extra=3).parent)
    assert (len(images.train), len(images.test)) == (12, 6)
    assert images.notes == (
        "Training trains and Testing is the test set; dev is not used: validation images are drawn from training's; "
        "extra is not used",
    )


def test_what_the_library_does_not_read_of_a_folder_is_named(folder_of_classes: Path) -> None:
    assert load(folder_of_classes).unused == ()
    content = (folder_of_classes / "train" / "cat" / "000.jpg").read_bytes()
    more = (
        "train/cat/no suffix",
        "validation/cat/0.jpg",
        "validation/dog/0.jpg",
        "train/cat/notes.txt",
        ".hidden/a.jpg",
    )
    for name in more:
        (folder_of_classes / name).parent.mkdir(parents=True, exist_ok=True)
        (folder_of_classes / name).write_bytes(b"mine" if name.endswith("txt") else content)
    images = load(folder_of_classes)
    assert (len(images.train), len(images.test)) == (30, 9)
    assert {path.relative_to(folder_of_classes).as_posix(): reason for path, reason in images.unused} == {
        "train/cat/no suffix": "of a suffix that the library datasets does not read",
        "validation/cat/0.jpg": "of a split that is not used",
        "validation/dog/0.jpg": "of a split that is not used",
        "train/cat/notes.txt": "no image",
        ".hidden": "hidden",
    }
    assert len(images.notes) == 2


def test_a_test_split_whose_labels_are_secret_is_passed_over(
    library: Any, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    write_set(tmp_path, train=12, validation=6)
    write_parquet(library, tmp_path / "test.parquet", [file_of(image(0))] * 3, [-1] * 3)
    assert len(load(tmp_path).test) == 6
    for path in tmp_path.glob("validation*"):
        path.unlink()
    assert "has no images with labels to test on" in complaint(lambda: load(tmp_path))


def test_test_images_are_exact_and_training_images_as_fast_decoding_gives_them(folder_of_classes: Path) -> None:
    images, resize = load(folder_of_classes), Resize(28)
    assert images.train.exact().checksum == images.train.checksum

    def files(split: str) -> list[Path]:
        return sorted((folder_of_classes / split).rglob("*.*g"))

    def fast(path: Path) -> np.ndarray:
        with opened(path) as file:
            return resize.square(decode_draft(file, path, 28)[0], 3, approximate=True)

    exact = {part: np.stack([resize.square(decode(path), 3) for path in files(part)]) for part in ("train", "test")}
    assert np.array_equal(images.test.images[:], exact["test"])
    assert np.array_equal(images.train.images[:], np.stack([fast(path) for path in files("train")]))
    assert not np.array_equal(images.train.images[:], exact["train"])
    assert np.array_equal(images.train.exact().images[:], exact["train"])


def test_the_checksum_knows_labels_files_and_their_sizes(
    library: Any, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    write_set(tmp_path / "set", train=12, test=6)
    checksum = load(tmp_path / "set").checksum
    assert load(tmp_path / "set", seed=5).checksum == checksum
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    assert load(tmp_path / "copy").checksum == checksum
    write_parquet(library, tmp_path / "copy" / "test-00001-of-00002.parquet", [file_of(image(9))] * 3, [0, 1, 2])
    assert load(tmp_path / "copy").checksum != checksum


@pytest.mark.parametrize(
    ("num_stops", "layout"),
    [
        pytest.param(3, "parquet", marks=pytest.mark.slow),
        pytest.param(3, "imagefolder", marks=pytest.mark.slow),
        (1, "imagefolder"),
    ],
)
def test_a_run_is_trained_judged_and_after_a_stop_resumed_to_the_same_bits(
    num_stops: int,
    layout: str,
    write_set: Callable[..., Path],
    folder_of_classes: Path,
    stop_at: Callable[[int], Progress],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "BUFFER", 16)
    where = write_set(tmp_path / "set", train=60, test=12) if layout == "parquet" else folder_of_classes
    settings: dict[str, Any] = {"data": f"hf:{where}", "epochs": 3, "batch_size": 8, "seed": 3}
    whole = ca.train("lenet5-modern", out=tmp_path / "whole", **settings)
    assert whole.record.data == f"hf:{where}"
    assert whole.results.train_images == (60 if layout == "parquet" else 30)
    assert whole.evaluate(whole.record.data).num_errors == whole.score.num_errors
    num_steps = 3 * ((60 if layout == "parquet" else 30) // 8)
    for step in (num_steps // 3, 2, num_steps - 1)[:num_stops]:
        folder = tmp_path / f"stopped after {step}"
        with pytest.raises(Interrupted):
            ca.train("lenet5-modern", out=folder, progress=stop_at(step), **settings)
        assert weights(ca.resume(folder)) == weights(whole)


def test_the_mean_and_deviation_are_the_samples(write_set: Callable[..., Path], tmp_path: Path) -> None:
    where = write_set(tmp_path / "set", train=12, test=6)
    run = ca.train("lenet5-modern", data=f"hf:{where}", epochs=1, batch_size=4, out=tmp_path / "run")
    pixels = run.load_data(run.record.data).train.images[:] / 255
    assert run.card.preprocessing.mean == pytest.approx(pixels.mean((0, 2, 3)))
    assert run.card.preprocessing.std == pytest.approx(pixels.std((0, 2, 3)))


def test_a_run_without_a_folder_gets_one_that_every_system_can_name(
    write_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = write_set(tmp_path / "set", train=12, test=6)
    monkeypatch.chdir(tmp_path)
    assert ca.train("lenet1", data=f"hf:{where}", epochs=1).folder == Path("runs/lenet1-set")
    # As one of the hub would be called.
    monkeypatch.setattr(Hub, "name", "hf:cifar10")
    assert ca.train("lenet1", data=f"hf:{where}", epochs=1).folder == Path("runs/lenet1-hf-cifar10")


@pytest.mark.slow
def test_what_needs_labels_beforehand_or_any_image_works_too(write_set: Callable[..., Path], tmp_path: Path) -> None:
    where = write_set(tmp_path / "set", train=60, test=12)
    held = ca.train(
        "lenet5-modern",
        data=f"hf:{where}",
        epochs=2,
        batch_size=8,
        validation=Validation(patience=2),
        class_weights="balanced",
        out=tmp_path / "held",
    )
    assert held.results.best_epoch in (1, 2)
    head = ca.train(
        "lenet5-modern",
        data=f"hf:{where}",
        epochs=2,
        init_from=InitFrom(path=str(held.folder), freeze=True),
        out=tmp_path / "head",
    )
    assert write_report(head, data=head.record.data).path.is_file()
    assert ca.train("lenet1", data=f"hf:{where}", recipe="paper", epochs=1, out=tmp_path / "paper").test_accuracy >= 0


@pytest.mark.slow
def test_two_processes_train_one_run(write_set: Callable[..., Path], tmp_path: Path) -> None:
    where = write_set(tmp_path / "set", train=66, test=13)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    job = ["train", "lenet5-modern", "--data", f"hf:{where}", "--epochs", "2", "--batch-size", "8", "--no-autotune"]
    options = ["--nproc-per-node", "2", "--master-port", str(port), "-m", "convatlas"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, *job, "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    run = ca.load(tmp_path / "run")
    assert run.record.num_processes == 2
    assert run.score.num_images == 13
    assert run.evaluate(run.record.data).num_errors == run.score.num_errors


HOSTILE: Mapping[str, tuple[Callable[[], bytes | None], str]] = {
    "a page": (lambda: b"<!DOCTYPE html><p>404", "not an image of a known format"),
    "nothing": (lambda: b"", "not an image of a known format"),
    "missing": (lambda: None, "not an image of a known format"),
    "cut short": (lambda: file_of(image(0), "JPEG")[:700], "damaged or cut short"),
    "a bomb": (lambda: file_of(Image.new("1", (20_000, 20_000))), "larger than the limit of 89,478,485 pixels"),
    "a drawing": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "in the format EPS, which is not read"),
}


@pytest.mark.parametrize(
    "kind",
    [kind if kind in ("missing", "cut short") else pytest.param(kind, marks=pytest.mark.slow) for kind in HOSTILE],
)
def test_hostile_bytes_stop_the_training_in_one_line_or_are_left_out(
    kind: str, library: Any, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    make, reason = HOSTILE[kind]
    where = write_set(tmp_path / "set", train=12, test=6)
    contents = [file_of(image(number)) for number in range(12)]
    write_parquet(
        library, where / "train-00000-of-00002.parquet", [*contents[:5], make(), *contents[6:]], [0, 1, 2] * 4
    )
    said = complaint(lambda: load(where))
    assert said.startswith(f"hf:{where}/train/5: {reason}")
    assert "skip_bad" not in said
    asked = complaint(lambda: ca.train("lenet1", data=f"hf:{where}", epochs=1, out=tmp_path / "none"))
    assert asked == f"{said}; mend it, or set `skip_bad` to leave such files out"
    images = load(where, skip_bad=True)
    assert len(images.train) == 17
    [skipped] = images.skipped
    assert skipped.reason.startswith(reason)
    run = ca.train("lenet5-modern", data=f"hf:{where}", epochs=1, batch_size=4, skip_bad=True, out=tmp_path / "run")
    assert (run.results.train_images, run.results.skipped_images) == (17, 1)
    assert run.evaluate(run.record.data).num_errors == run.score.num_errors


def test_a_damaged_image_beyond_the_sample_stops_the_training_when_it_comes(
    library: Any, write_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = write_set(tmp_path / "set", train=60, test=6)
    contents = [file_of(image(number)) for number in range(30)]
    write_parquet(library, where / "train-00000-of-00002.parquet", [*contents[:-1], b"?"], [0, 1, 2] * 10)
    monkeypatch.setattr(stream, "NUM_SAMPLED", 5)
    run = tmp_path / "run"
    settings: dict[str, Any] = {"data": f"hf:{where}", "epochs": 1, "batch_size": 8, "seed": 2}
    said = complaint(lambda: ca.train("lenet1", out=run, **settings))
    assert said.startswith(f"hf:{where}/train/29: not an image")
    assert said.endswith("or set `skip_bad` to leave such files out")
    assert (run / "run.json").exists()


def test_a_path_in_place_of_an_image_is_not_followed(
    library: Any, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    image(0).save(secret)
    where = write_set(tmp_path / "set", train=12, test=6)
    write_parquet(library, where / "train-00000-of-00002.parquet", [None] * 3, [0, 1, 2], paths=[str(secret)] * 3)
    assert "not an image" in complaint(lambda: load(where))


def test_an_image_that_is_gone_says_so(folder_of_classes: Path) -> None:
    images = load(folder_of_classes)
    path = folder_of_classes / "test" / "cat" / "030.jpg"
    path.unlink()
    assert f"{path}: there is no such file" in complaint(lambda: images.test.images[:])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("hf:", "after hf: comes a name of the hub"),
        ("hf:/nowhere/at/all", "hf:/nowhere/at/all is not a set"),
        ("hf:./nowhere", "is not a set"),
        ("hf:https://example.org/set", "is not a set"),
        ("hf:~nobody-of-that-name/set", "there is no folder ~nobody-of-that-name/set"),
    ],
)
def test_what_can_be_no_name_is_refused(name: str, part: str) -> None:
    assert part in complaint(lambda: find(name))


def test_a_name_is_looked_up_when_it_is_needed_and_one_line_says_that_it_cannot_be(library: Any) -> None:
    source = find("hf:owner/name")
    assert source == Hub("owner/name")
    assert complaint(lambda: source.load(28, seed=0)).startswith("hf:owner/name cannot be read: ")


def test_folders_that_hold_no_such_set_say_what_they_lack(
    library: Any, write_set: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert "hf:" in complaint(lambda: load(tmp_path / "empty"))

    write_set(tmp_path / "one split", train=12)
    assert "has no images with labels to test on" in complaint(lambda: load(tmp_path / "one split"))
    write_set(tmp_path / "no training", test=12)
    assert "has no split train; it has test" in complaint(lambda: load(tmp_path / "no training"))

    plain = library.Dataset.from_dict({"image": ["a"], "label": [1]})
    plain.to_parquet(tmp_path / "plain" / "train.parquet")
    assert complaint(lambda: load(tmp_path / "plain")).endswith(
        "needs a column of type Image and one of type ClassLabel; it has image (Value), label (Value)"
    )

    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.csv").write_text("image,label\na,0\n")
    assert "is laid out as csv; images are read from parquet files" in complaint(lambda: load(tmp_path / "text"))

    where = write_set(tmp_path / "damaged", train=12, test=6)
    path = where / "train-00000-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert complaint(lambda: load(where)).startswith(f"hf:{where}")

    where = write_set(tmp_path / "unlabeled", train=12, test=6)
    write_parquet(library, where / "train-00000-of-00002.parquet", [file_of(image(0))] * 2, [0, -1])
    assert "has images whose class in the column label is none of the set's" in complaint(lambda: load(where))


@pytest.mark.parametrize("error", [TypeError("ours"), AttributeError("ours"), KeyError("ours"), ZeroDivisionError()])
def test_our_own_bugs_stay_bugs(library: Any, error: Exception) -> None:
    with pytest.raises(type(error)), as_user_error("here"):
        raise error


def test_what_the_library_raises_is_one_line(library: Any) -> None:
    import pyarrow.lib
    from huggingface_hub.errors import HTTPError

    errors = [
        OSError("gone"), ConnectionError("no network"), ValueError("no such set"), zipfile.BadZipFile("cut"),
        library.exceptions.DatasetNotFoundError("no such set"), pyarrow.lib.ArrowKeyError("no column"),
        pyarrow.lib.ArrowTypeError("another type"), HTTPError("timeout\nof 9 s"),
    ]  # fmt: skip
    for error in errors:
        with pytest.raises(UserError, match=r"^here cannot be read: ") as caught, as_user_error("here"):
            raise error
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is error
    # A mistake that is told already stays as it is.
    with pytest.raises(UserError, match=r"^told$"), as_user_error("here"):
        raise UserError("told")


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    said = complaint(lambda: find("hf:owner/name").load(28, seed=0))
    assert said == "sets of the hub need Hugging Face datasets: pip install 'convatlas[hf]'"


@pytest.mark.slow
def test_neither_importing_nor_starting_loads_the_library() -> None:
    code = (
        "import sys, convatlas, convatlas.cli, convatlas.training; convatlas.train\n"
        "assert not {'datasets', 'pyarrow', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT_S)
