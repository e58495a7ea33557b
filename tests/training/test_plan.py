"""From what a person asks for to a record: sizes, statistics, preprocessing, and what cannot work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import convatlas as ca
from convatlas import data
from convatlas.data import Split
from convatlas.data.dataset import Indices
from convatlas.errors import UserError
from convatlas.models.device import device_named
from convatlas.networks.resnet import Shortcut
from convatlas.runs.options import Execution
from convatlas.training import Request, plan, recipes
from convatlas.training.distribution import Processes

ALONE = Processes()
T = TypeVar("T")


def planned(**asked: object) -> tuple[ca.runs.Record, data.Dataset]:
    return plan.planned(Request(**asked), ALONE)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Color, 120 pixels wide and 90 high."""
    root = tmp_path_factory.mktemp("photographs") / "photographs"
    generator = np.random.default_rng(0)
    for split, num in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(num):
                noise = generator.integers(0, 256, (90, 120, 3), dtype=np.uint8)
                Image.fromarray(noise).save(root / split / name / f"{i}.png")
    return root


# The record


def test_nothing_asked_is_the_default_of_the_digits() -> None:
    record, images = planned(network="lenet5-modern")
    assert (record.data, record.seed, record.device) == ("digits", 0, device_named(None).type)
    assert record.spec.num_classes == len(images.classes) == 10
    assert record.spec.in_channels == images.channels == 1
    assert record.recipe == replace(
        recipes.CHARACTERS, epochs=recipes.CHARACTERS.epochs_for(len(images.train)), epochs_of=None
    )
    assert record.execution == Execution(threads=torch.get_num_threads())
    # Whether to measure is still open, and nothing else was asked for.
    assert not record.autotuned
    assert (record.micro_batch, record.balance, record.hold_out, record.patience) == (None, False, False, None)
    assert (record.width, record.depth, record.phi, record.processes) == (1.0, 1.0, 0.0, 1)
    assert record.results is None


def test_everything_asked_is_in_the_record() -> None:
    record, _ = planned(
        network="resnet20-cifar", data="digits", epochs=7, batch_size=33, lr=0.5, seed=5, width=0.5, depth=2.0,
        resolution=40, phi=1.0, recipe="paper", micro_batch=11, balance=True, patience=3, device="cpu", autotune=False,
        checkpoint_steps=9, skip_bad=True,
    )  # fmt: skip
    recipe = record.recipe
    assert (recipe.name, recipe.epochs, recipe.batch_size, recipe.lr) == ("paper", 7, 33, 0.5)
    assert (record.seed, record.width, record.depth, record.phi) == (5, 0.5, 2.0, 1.0)
    assert record.spec.resolution == record.preprocessing.resolution == 40
    assert (record.micro_batch, record.balance, record.patience, record.checkpoint_steps) == (11, True, 3, 9)
    # Patience needs images to judge by.
    assert record.hold_out
    assert record.autotuned
    assert record.skip_bad


def test_a_spec_of_ones_own_is_taken_as_it_is_and_scaled_by_what_else_is_asked() -> None:
    own = replace(ca.find("resnet20-cifar").spec, stem=8, resolution=40, shortcut=Shortcut.C)
    record, _ = planned(network="resnet20-cifar", spec=own, depth=2.0)
    assert record.spec == replace(own.scaled(depth=2.0), in_channels=1)
    # No command says that.
    assert (record.width, record.depth, record.phi) == (None, None, None)


def test_a_recipe_of_ones_own_is_taken_as_it_is_but_for_what_else_is_asked() -> None:
    own = replace(recipes.DEFAULT, name="own", epochs=3, epochs_of=None, momentum=0.5)
    record, _ = planned(network="lenet1", recipe=own, lr=0.25)
    assert record.recipe == replace(own, lr=0.25)
    assert record.width is None


def test_a_spec_of_another_family_is_none_of_this_network() -> None:
    with pytest.raises(UserError, match="LeNetSpec is no spec of alexnet"):
        planned(network="alexnet", spec=ca.find("lenet5").spec)


def test_a_record_is_the_same_however_often_it_is_planned() -> None:
    assert planned(network="lenet1")[0] == planned(network="lenet1")[0]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"micro_batch": 0}, "--micro-batch 0 cannot work"),
        ({"patience": 0}, "--patience 0 cannot work"),
        ({"checkpoint_steps": -1}, "--checkpoint-steps -1 cannot work"),
        ({"freeze": True}, "name its weights with --from"),
        ({"freeze": True, "start": "x", "recipe": "paper"}, "papers train the whole network"),
        ({"seed": -1}, "--seed -1 is out of range"),
        ({"seed": 2**63}, "is out of range"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_read(asked: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says) as told:
        Request(network="no such network", **asked)  # type: ignore[arg-type]
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"epochs": 0}, "--epochs 0 trains nothing"),
        ({"batch_size": -2}, "--batch-size -2 trains nothing"),
        ({"lr": 0.0}, "--lr 0 trains nothing"),
        ({"lr": float("inf")}, "--lr inf trains nothing"),
        ({"lr": float("nan")}, "--lr nan trains nothing"),
    ],
)
def test_a_number_that_trains_nothing_is_a_one_line_error(asked: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        planned(network="lenet1", **asked)


@pytest.mark.parametrize(
    ("num_processes", "batch_size", "micro_batch", "works"),
    [
        (1, 2, None, True),
        (1, 1, None, False),
        (1, 64, 1, False),
        (1, 64, 2, True),
        (4, 8, None, True),
        (4, 7, None, False),
    ],
)
def test_who_normalizes_over_a_batch_needs_two_images_at_once(
    num_processes: int, batch_size: int, micro_batch: int | None, works: bool
) -> None:
    # The only one of them that has come, and what it says is what all say.
    class Others(Processes):
        def main_first(self, work: Callable[[], T]) -> T:
            return work()

        def all_gather(self, value: T) -> list[T]:
            return [value] * self.num

    processes = Others(0, num_processes, 0, num_processes)
    request = Request(network="resnet20-cifar", batch_size=batch_size, micro_batch=micro_batch, width=0.25)
    if works:
        record, _ = plan.planned(request, processes)
        assert record.processes == num_processes
    else:
        with pytest.raises(UserError, match="resnet20-cifar normalizes over a batch"):
            plan.planned(request, processes)
    # Whoever normalizes nothing may.
    plan.planned(replace(request, network="lenet1", width=1.0), processes)


# Sizes


@given(detail=st.integers(1, 5000))
@pytest.mark.parametrize("name", ["lenet5", "lenet1989", "resnet20-cifar", "vgg16", "efficientnet-b3"])
def test_a_network_reads_images_at_their_size_between_its_smallest_and_its_own(name: str, detail: int) -> None:
    variant = ca.find(name)
    chosen = plan.resolution(variant, detail)
    assert variant.spec.smallest_resolution <= chosen <= variant.spec.resolution
    if variant.spec.smallest_resolution <= detail <= variant.spec.resolution:
        assert chosen == detail


def test_of_images_of_unknown_size_the_networks_own_is_taken() -> None:
    assert plan.resolution(ca.find("vgg16"), None) == 224


@given(resolution=st.integers(28, 600), detail=st.none() | st.integers(1, 2000))
def test_a_margin_is_never_made_of_pixels_that_images_do_not_have(resolution: int, detail: int | None) -> None:
    margin = plan.margin(resolution, detail)
    assert margin in (0, round(resolution / 14))
    if detail is not None and margin:
        assert resolution + 2 * margin <= detail


def test_the_margin_is_that_of_2012() -> None:
    assert 224 + 2 * plan.margin(224, None) == 224 + 2 * plan.margin(224, 256) == 256
    assert plan.margin(224, 255) == 0


def test_photographs_are_decoded_with_their_margin_and_read_without(photographs: Path) -> None:
    record, images = planned(network="resnet20-cifar", data=photographs, resolution=70)
    assert (record.preprocessing.resolution, record.preprocessing.margin) == (70, 5)
    assert record.spec.resolution == 70
    assert images.train.images.shape[1:] == (3, 80, 80)
    assert record.preprocessing.working_side == 80
    # Larger than they are, there is no room.
    record, images = planned(network="resnet20-cifar", data=photographs, resolution=96)
    assert record.preprocessing.margin == 0
    assert images.train.images.shape[1:] == (3, 96, 96)


def test_a_set_of_one_size_has_no_margin() -> None:
    record, images = planned(network="lenet5")
    assert record.preprocessing.margin == 0
    assert images.side == record.preprocessing.side == 8


# Folders


def test_runs_without_a_name_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for expected in ("runs/x", "runs/x-2", "runs/x-3"):
        folder = plan.vacant(None, "x")
        assert folder == Path(expected)
        folder.mkdir(parents=True)


def test_a_new_or_empty_folder_is_taken_and_what_a_killed_run_hid_in_it_does_not_matter(tmp_path: Path) -> None:
    assert plan.vacant(tmp_path / "new", "x") == tmp_path / "new"
    (tmp_path / ".run.json.part").touch()
    (tmp_path / ".lock").touch()
    assert plan.vacant(tmp_path, "x") == tmp_path


def test_a_folder_with_something_in_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, says in ((tmp_path, "has other files"), (tmp_path / "file", "is a file")):
        with pytest.raises(UserError, match=says):
            plan.vacant(out, "x")
    (tmp_path / "run.json").touch()
    with pytest.raises(UserError, match="holds a run already"):
        plan.vacant(tmp_path, "x")


# Statistics and preprocessing


@dataclass
class Shelf:
    """Images that are read as they are asked for."""

    images: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Indices, /) -> np.ndarray:
        read = self.images[indices]
        # Never all of a large set at once.
        assert len(read) <= plan.IMAGES_AT_ONCE
        return read


@pytest.mark.parametrize("num", [1, 999, 1000, 1001, 2500])
@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_all_pixels_wherever_they_lie(num: int, channels: int) -> None:
    images = np.random.default_rng(num).integers(0, 200, (num, channels, 3, 5), dtype=np.uint8)
    images[:, 0] //= 3
    labels = np.zeros(num, np.int64)
    mean, deviation = plan.statistics(Split(images, labels))
    values = images.transpose(1, 0, 2, 3).reshape(channels, -1) / 255
    assert mean == pytest.approx(values.mean(1))
    assert deviation == pytest.approx(values.std(1))
    # To the bit, or a resumed run would see other numbers.
    assert plan.statistics(Split(Shelf(images), labels)) == (mean, deviation)


def test_what_does_not_vary_is_divided_by_one() -> None:
    images = np.full((4, 2, 3, 3), 51, np.uint8)
    images[0, 1] = 0
    mean, deviation = plan.statistics(Split(images, np.zeros(4, np.int64)))
    assert mean[0] == pytest.approx(0.2)
    assert deviation[0] == 1.0
    assert 0 < deviation[1] < 1


def test_a_paper_that_prints_a_range_has_it_and_others_the_sets_mean() -> None:
    lenet, _ = planned(network="lenet5")
    # Black is -0.1 and white 1.175.
    black, white = lenet.preprocessing.normalize(np.array([0, 255], np.uint8)[:, None, None, None]).ravel()
    assert (black, white) == pytest.approx((-0.1, 1.175), abs=1e-6)
    modern, images = planned(network="lenet5-modern")
    normalized = modern.preprocessing.normalize(images.train.images[:])
    assert normalized.mean() == pytest.approx(0, abs=1e-4)
    assert normalized.std() == pytest.approx(1, abs=1e-4)


def test_characters_are_framed_as_in_their_set_and_photographs_are_not(photographs: Path) -> None:
    assert planned(network="lenet5")[0].preprocessing.ink is not None
    assert planned(network="resnet20-cifar", data=photographs)[0].preprocessing.ink is None


def test_batches_are_as_the_record_says() -> None:
    record, images = planned(network="lenet5-modern", batch_size=50, seed=7)
    batches = plan.batches(record, images.train, torch.device("cpu"), ALONE.share)
    assert (batches.batch_size, batches.seed, batches.num_classes) == (50, 7, 10)
    assert batches.augmentation == record.recipe.augmentation
    assert batches.label_smoothing == record.recipe.label_smoothing == 0.1
