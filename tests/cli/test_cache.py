"""A folder of good, odd and broken images through the command, and the cache that it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convatlas.data.folder import Folder
from convatlas.runs.run import load_run

RANDOM = np.random.default_rng(0)


def fill(folder: Path, num: int) -> None:
    """So many small photographs of two classes."""
    for number in range(num):
        place = folder / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        coarse = RANDOM.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((50, 40)).save(place / f"{number:05}.jpg")


def trains_on_what_is_good(
    folder: Path, num_odd: int, out: Path, write_odd_images: Callable, command: Callable
) -> None:
    """Put odd images into the folder, and train on it by the command."""
    odd = write_odd_images(folder / "cat", num_odd)
    num = sum(1 for path in folder.rglob("[!.]*") if not path.is_dir())
    status, printed, err = command("train", "lenet5-modern", "--data", folder, "--epochs", 1, "--out", out)
    assert (status, printed) == (2, "")
    assert len(err.splitlines()) == 1
    assert f"{len(odd.unusable)} of {num} images cannot be used, the first is" in err
    assert not out.exists()

    status, printed, err = command(
        "train", "lenet5-modern", "--data", folder, "--epochs", 1, "--out", out, "--skip-bad"
    )
    assert status == 0, err
    lines = err.splitlines()
    assert "epoch 1/1" in lines[-1]
    left_out = [line.removeprefix("convatlas: left out ") for line in lines if "left out" in line]
    # Before the first step.
    assert lines[: len(left_out)] == [line for line in lines if "left out" in line]
    assert {Path(line.partition(": ")[0]) for line in left_out} == set(odd.unusable)
    for line in left_out:
        path, _, reason = line.partition(": ")
        assert reason.startswith(odd.unusable[Path(path)])

    run = load_run(out)
    assert run.results.skipped_images == len(odd.unusable)
    assert run.results.train_images + run.score.num_images == num - len(odd.unusable)
    images = run.load_data()
    for split in (images.train, images.test):
        for index, name in enumerate(split.names):
            if folder / name in odd.good:
                odd.check_colors(folder / name, split.images[index : index + 1][0])
    assert {folder / name for split in (images.train, images.test) for name in split.names} >= set(odd.good)
    status, _, err = command("predict", out, *odd.unusable)
    assert (status, len(err.splitlines())) == (2, len(odd.unusable))


@pytest.mark.slow
def test_two_hundred_files_with_ten_kinds_of_odd_ones(
    tmp_path: Path, decoded_cache: Path, write_odd_images: Callable, convatlas: Callable
) -> None:
    fill(tmp_path / "images", 180)
    trains_on_what_is_good(tmp_path / "images", 2, tmp_path / "run", write_odd_images, convatlas)
    assert len(list(decoded_cache.glob("*.decoded"))) == 1


@pytest.mark.slow
def test_ten_thousand_files_with_ten_kinds_of_odd_ones(
    tmp_path: Path, decoded_cache: Path, write_odd_images: Callable
) -> None:
    def command(*words: object) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "convatlas", *map(str, words)], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    fill(tmp_path / "images", 9_900)
    trains_on_what_is_good(tmp_path / "images", 10, tmp_path / "run", write_odd_images, command)


def test_predict_and_evaluate_agree(tmp_path: Path, convatlas: Callable, as_json: Callable) -> None:
    """Also for photographs that the decoder scales."""
    folder = tmp_path / "images"
    for part, num in (("train", 8), ("test", 6)):
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for number in range(num):
                coarse = RANDOM.integers(0, 256, (9, 12, 3), dtype=np.uint8)
                image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
                image.save(folder / part / name / f"{number}.jpg")
    out = tmp_path / "run"
    assert convatlas("train", "lenet5-modern", "--data", folder, "--epochs", 1, "--out", out).status == 0
    confusion = np.zeros((2, 2), int)
    for label, name in enumerate(("cat", "dog")):
        for prediction in as_json("predict", out, folder / "test" / name)["predictions"]:
            confusion[label, ("cat", "dog").index(prediction["classes"][0])] += 1
    assert as_json("evaluate", out, "--data", folder)["confusion"] == confusion.tolist()


# convatlas cache


@pytest.fixture
def filled(tmp_path: Path, decoded_cache: Path) -> Path:
    """A cache with an entry of ten images for training, and one with two of them for evaluation."""
    fill(tmp_path / "images", 10)
    Folder(tmp_path / "images").load(16)
    return decoded_cache


def test_the_cache_is_listed(filled: Path, tmp_path: Path, convatlas: Callable) -> None:
    status, out, err = convatlas("cache", "list")
    assert (status, err) == (0, "")
    title, *rows, _, total = out.splitlines()
    assert title.split() == ["folder", "images", "side", "kind", "size", "last", "used"]
    assert sorted(row.split()[:5] for row in rows) == [
        [str(tmp_path / "images"), "10", "16", "px", "raw"],
        [str(tmp_path / "images"), "2", "16", "px", "exact"],
    ]
    assert total.endswith(f"of at most 50.0 GiB in {filled}")


def test_the_list_for_programs(filled: Path, tmp_path: Path, as_json: Callable, monkeypatch: Any) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "2MB")
    values = as_json("cache", "list")
    raw, exact = sorted(values["entries"], key=lambda entry: -entry["images"])
    assert (values["cache"], values["limit_bytes"]) == (str(filled), 2 * 10**6)
    assert {key: raw[key] for key in ("folder", "images", "side", "kind")} == {
        "folder": str(tmp_path / "images"), "images": 10, "side": 16, "kind": "raw",
    }  # fmt: skip
    assert (exact["images"], exact["kind"]) == (2, "exact")
    assert raw["bytes"] > 10 * 3 * 16**2
    assert raw["bytes"] + exact["bytes"] == values["bytes"]


def test_clearing_frees_what_was_listed(filled: Path, convatlas: Callable, as_json: Callable) -> None:
    num_bytes = as_json("cache", "list")["bytes"]
    status, out, err = convatlas("cache", "clear")
    assert (status, out, err) == (0, f"freed {num_bytes / 2**10:,.1f} KiB in {filled}\n", "")
    assert list(filled.iterdir()) == []
    assert as_json("cache", "list")["entries"] == []


def test_an_empty_cache_is_no_mistake(decoded_cache: Path, convatlas: Callable) -> None:
    for verb in ("list", "clear"):
        status, out, err = convatlas("cache", verb)
        assert (status, len(out.splitlines()), err) == (0, 1, "")
    assert not decoded_cache.exists()


def test_a_limit_that_is_no_size_is_one_line(filled: Path, convatlas: Callable, monkeypatch: Any) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "plenty")
    status, _, err = convatlas("cache", "list")
    assert status == 2
    assert err.startswith("convatlas: CONVATLAS_CACHE_LIMIT is 'plenty'")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("words", [["cache", "empty"], ["cache", "list", "all"]])
def test_a_mistake_in_the_words_is_one_line(words: list[str], convatlas: Callable) -> None:
    status, out, err = convatlas(*words)
    assert (status, out, len(err.splitlines())) == (2, "", 1)


def test_without_a_verb_the_help_is_the_answer(convatlas: Callable) -> None:
    status, out, err = convatlas("cache")
    assert (status, err) == (2, "")
    assert "clear" in out


@pytest.mark.parametrize("verb", ["list", "clear"])
def test_neither_verb_loads_torch(verb: str, filled: Path) -> None:
    code = (
        f"import sys; sys.argv = ['convatlas', 'cache', {verb!r}]\n"
        "try:\n    from convatlas.cli import main; main()\nexcept SystemExit:\n    pass\n"
        "import json; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "convatlas" in loaded
    assert not {"torch", "numpy", "PIL", "matplotlib"} & loaded
