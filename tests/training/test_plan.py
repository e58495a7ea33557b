"""From a request to the card and the record of a run: scale, recipe, folder, and requests that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import convatlas as ca
from convatlas.errors import UserError
from convatlas.files.typed_json import encoded
from convatlas.models.card import CARD
from convatlas.models.device import resolve_device
from convatlas.models.folder import write_card
from convatlas.models.imported import import_checkpoint
from convatlas.models.network import spec_of
from convatlas.networks.resnet import Shortcut
from convatlas.runs.options import Distillation, Execution, InitFrom, Runtime, Validation
from convatlas.runs.run import RECORD
from convatlas.spec import Scale
from convatlas.training import Request, recipes
from convatlas.training.distribution import Processes
from convatlas.training.plan import Plan, crop_margin, default_resolution, new_run_folder, plan, training_batches

ALONE = Processes()
T = TypeVar("T")


def planned(**arguments: object) -> Plan:
    return plan(Request(**arguments), ALONE)  # type: ignore[arg-type]


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


# The card and the record


def test_a_request_without_arguments_is_the_default_training_of_the_digits() -> None:
    made = planned(network="lenet5-modern")
    card, record, dataset = made.card, made.record, made.dataset
    assert (record.data, record.seed, record.device) == ("digits", 0, resolve_device(None).type)
    spec = spec_of(card)
    assert spec.num_classes == len(card.classes) == len(dataset.classes) == 10
    assert spec.in_channels == dataset.channels == 1
    assert record.recipe == replace(
        recipes.CHARACTERS, epochs=recipes.CHARACTERS.epochs_for(len(dataset.train)), epochs_of=None
    )
    assert record.execution == Execution(threads=torch.get_num_threads())
    # Whether to tune is still open, and no option was set.
    assert not record.is_tuned
    assert record.runtime == Runtime(device=record.device)
    assert (record.class_weights, record.validation, record.init_from, record.distillation) == (None, None, None, None)
    assert (record.scale, record.num_processes) == (Scale(resolution=28), 1)
    assert record.results is None


def test_the_card_says_what_the_model_is_and_where_it_comes_from() -> None:
    made = planned(network="lenet5-modern", seed=5, skip_bad=True)
    card, dataset = made.card, made.dataset
    assert (card.variant, card.classes) == ("lenet5-modern", dataset.classes)
    assert card.spec == encoded(replace(ca.find("lenet5-modern").spec.scaled(resolution=28), in_channels=1))
    layers = ca.measure.layers(ca.create("lenet5-modern", resolution=28))
    assert (card.params, card.macs) == (layers.params, layers.macs)
    provenance = card.provenance
    assert (provenance.method, provenance.data, provenance.seed, provenance.skip_bad) == ("trained", "digits", 5, True)
    assert provenance.data_checksum == dataset.checksum
    assert provenance.parent_sha256 is None
    # There are no weights yet, and nothing was tested.
    assert (card.weights_sha256, card.score, card.quantization, card.calibration) == (None, None, None, None)


def test_a_card_does_not_say_where_an_image_folder_lies(photographs: Path) -> None:
    made = planned(network="resnet20-cifar", data=photographs)
    assert made.card.provenance.data == "photographs"
    assert made.record.data == str(photographs)


def test_every_argument_is_in_the_card_or_the_record() -> None:
    made = planned(
        network="resnet20-cifar", data="digits", epochs=7, batch_size=33, lr=0.5, seed=5, recipe="paper",
        scale=Scale(width=0.5, depth=2.0, resolution=40, phi=1.0), class_weights="balanced",
        validation=Validation(val_split=0.2, patience=3), skip_bad=True,
        runtime=Runtime(device="cpu", autotune=False, micro_batch=11, checkpoint_steps=9),
    )  # fmt: skip
    card, record = made.card, made.record
    recipe = record.recipe
    assert (recipe.name, recipe.epochs, recipe.batch_size, recipe.lr) == ("paper", 7, 33, 0.5)
    assert (record.seed, record.scale) == (5, Scale(width=0.5, depth=2.0, resolution=40, phi=1.0))
    assert spec_of(card).resolution == card.preprocessing.crop == 40
    assert record.runtime == Runtime(device="cpu", autotune=False, micro_batch=11, checkpoint_steps=9)
    assert record.class_weights == "balanced"
    assert record.validation == Validation(val_split=0.2, patience=3)
    assert record.is_tuned
    assert card.provenance.skip_bad


def test_a_custom_spec_is_used_unchanged_but_for_the_scale_that_is_asked_for() -> None:
    own = replace(ca.find("resnet20-cifar").spec, stem=8, resolution=40, shortcut=Shortcut.C)
    made = planned(network="resnet20-cifar", spec=own, scale=Scale(depth=2.0))
    assert spec_of(made.card) == replace(own.scaled(depth=2.0), in_channels=1)
    # No command asks for that.
    assert made.record.scale is None


def test_a_custom_recipe_is_used_unchanged_but_for_the_numbers_that_are_asked_for() -> None:
    own = replace(recipes.DEFAULT, name="own", epochs=3, epochs_of=None, momentum=0.5)
    record = planned(network="lenet1", recipe=own, lr=0.25).record
    assert record.recipe == replace(own, lr=0.25)
    assert record.scale is None


def test_a_spec_of_another_family_is_an_error() -> None:
    with pytest.raises(UserError, match="a LeNetSpec is not a spec of alexnet"):
        planned(network="alexnet", spec=ca.find("lenet5").spec)


def test_the_same_request_makes_the_same_plan() -> None:
    one, other = planned(network="lenet1"), planned(network="lenet1")
    assert (one.card, one.record) == (other.card, other.record)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` 0 trains nothing"),
        ({"batch_size": -2}, "`batch_size` -2 trains nothing"),
        ({"lr": 0.0}, "`lr` 0 trains nothing"),
        ({"lr": float("inf")}, "`lr` inf trains nothing"),
        ({"lr": float("nan")}, "`lr` nan trains nothing"),
    ],
)
def test_a_number_that_trains_nothing_is_a_one_line_error(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        planned(network="lenet1", **arguments)
    assert len(str(error.value).splitlines()) == 1


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
def test_batch_normalization_needs_at_least_two_images_at_once(
    num_processes: int, batch_size: int, micro_batch: int | None, works: bool
) -> None:
    # One process that stands for all: what it gathers, each of them would have sent.
    class Others(Processes):
        def main_first(self, work: Callable[[], T]) -> T:
            return work()

        def all_gather(self, value: T) -> list[T]:
            return [value] * self.world_size

    processes = Others(0, num_processes, 0, num_processes)
    request = Request(
        network="resnet20-cifar",
        batch_size=batch_size,
        scale=Scale(width=0.25),
        runtime=Runtime(micro_batch=micro_batch),
    )
    if works:
        assert plan(request, processes).record.num_processes == num_processes
    else:
        with pytest.raises(
            UserError, match="resnet20-cifar has batch normalization, which needs batches of at least 2"
        ):
            plan(request, processes)
    # A network without it works.
    plan(replace(request, network="lenet1", scale=Scale()), processes)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("hf:one", "hf:one is not the name of a model; it must be hf:OWNER/NAME"),
        ("torchvision:resnet19", "there is no file of published weights 'torchvision:resnet19'"),
    ],
)
def test_the_name_of_a_teacher_is_no_path(teacher: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^{said}"):
        planned(network="lenet5-modern", distillation=Distillation(teacher=teacher))


# Resolution and margin


@pytest.mark.parametrize("side", [24, 48])
def test_images_get_the_side_that_the_weights_learned_on_whatever_the_papers(side: int, tmp_path: Path) -> None:
    images = folder_of((60, 60), tmp_path / "images")
    run = ca.train(
        "resnet20-cifar-b",
        images,
        scale=Scale(resolution=side),
        epochs=1,
        runtime=Runtime(autotune=False),
        out=tmp_path / "run",
    )
    assert run.spec.resolution == side != ca.find("resnet20-cifar-b").spec.resolution
    start = InitFrom(path=str(run.folder))
    assert planned(network="resnet20-cifar-b", data=images, init_from=start).card.preprocessing.crop == side
    # A person may ask for another.
    asked = planned(network="resnet20-cifar-b", data=images, init_from=start, scale=Scale(resolution=32))
    assert asked.card.preprocessing.crop == 32


@given(detail=st.integers(1, 5000))
@pytest.mark.parametrize("name", ["lenet5", "lenet1989", "resnet20-cifar", "vgg16", "efficientnet-b3"])
def test_images_keep_their_size_between_the_networks_smallest_and_its_own(name: str, detail: int) -> None:
    variant = ca.find(name)
    chosen = default_resolution(variant, detail)
    assert variant.spec.smallest_resolution <= chosen <= variant.spec.resolution
    if variant.spec.smallest_resolution <= detail <= variant.spec.resolution:
        assert chosen == detail


def test_for_images_of_unknown_size_the_networks_own_resolution_is_used() -> None:
    assert default_resolution(ca.find("vgg16"), None) == 224


@given(resolution=st.integers(28, 600), detail=st.none() | st.integers(1, 2000))
def test_a_margin_never_takes_pixels_that_images_do_not_have(resolution: int, detail: int | None) -> None:
    margin = crop_margin(resolution, detail)
    assert margin in (0, round(resolution / 14))
    if detail is not None and margin:
        assert resolution + 2 * margin <= detail


def test_the_margin_is_that_of_alexnet() -> None:
    assert 224 + 2 * crop_margin(224, None) == 224 + 2 * crop_margin(224, 256) == 256
    assert crop_margin(224, 255) == 0


def test_photographs_are_decoded_with_their_margin_and_evaluated_without(photographs: Path) -> None:
    made = planned(network="resnet20-cifar", data=photographs, scale=Scale(resolution=70))
    preprocessing = made.card.preprocessing
    assert (preprocessing.crop, preprocessing.margin) == (70, 5)
    assert spec_of(made.card).resolution == 70
    assert made.dataset.train.images.shape[1:] == (3, 80, 80)
    assert preprocessing.resize == 80
    # At a larger size than the images have, there is no room.
    made = planned(network="resnet20-cifar", data=photographs, scale=Scale(resolution=96))
    assert made.card.preprocessing.margin == 0
    assert made.dataset.train.images.shape[1:] == (3, 96, 96)


def test_a_data_set_of_one_size_has_no_margin() -> None:
    made = planned(network="lenet5")
    assert made.card.preprocessing.margin == 0
    assert made.dataset.native_side == made.card.preprocessing.native_side == 8


# Preprocessing


def test_a_paper_that_prints_a_range_of_pixels_has_it_and_others_the_mean_of_the_data_set() -> None:
    lenet = planned(network="lenet5").card.preprocessing
    # Black is -0.1 and white 1.175.
    black, white = lenet.normalize(np.array([0, 255], np.uint8)[:, None, None, None]).ravel()
    assert (black, white) == pytest.approx((-0.1, 1.175), abs=1e-6)
    modern = planned(network="lenet5-modern")
    normalized = modern.card.preprocessing.normalize(modern.dataset.train.images[:])
    assert normalized.mean() == pytest.approx(0, abs=1e-4)
    assert normalized.std() == pytest.approx(1, abs=1e-4)


def test_characters_are_framed_as_in_their_data_set_and_photographs_are_not(photographs: Path) -> None:
    assert planned(network="lenet5").card.preprocessing.ink is not None
    assert planned(network="resnet20-cifar", data=photographs).card.preprocessing.ink is None


# Folders


def test_runs_without_a_name_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for expected in ("runs/x", "runs/x-2", "runs/x-3"):
        folder = new_run_folder(None, "x")
        assert folder == Path(expected)
        folder.mkdir(parents=True)


def test_a_new_or_empty_folder_is_used_whatever_hidden_files_a_killed_run_left_in_it(tmp_path: Path) -> None:
    assert new_run_folder(tmp_path / "new", "x") == tmp_path / "new"
    (tmp_path / ".run.json.part").touch()
    (tmp_path / ".lock").touch()
    assert new_run_folder(tmp_path, "x") == tmp_path


def test_a_folder_that_holds_something_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, message in ((tmp_path, "has other files"), (tmp_path / "file", "is a file")):
        with pytest.raises(UserError, match=message):
            new_run_folder(out, "x")
    (tmp_path / RECORD).touch()
    with pytest.raises(UserError, match="holds a run already"):
        new_run_folder(tmp_path, "x")


def test_a_folder_is_used_again_in_which_a_killed_process_left_the_card_alone(tmp_path: Path) -> None:
    # The card is written before the record, and without a record there is nothing to resume.
    card = planned(network="lenet1").card
    write_card(tmp_path, card)
    (tmp_path / ".run.json.part").touch()
    assert new_run_folder(tmp_path, "x") == tmp_path
    # With anything beside it, the folder is somebody's.
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="has other files"):
        new_run_folder(tmp_path, "x")


def test_a_folder_with_the_card_of_a_finished_model_is_not_used(tmp_path: Path) -> None:
    write_card(tmp_path, replace(planned(network="lenet1").card, weights_sha256="0" * 64))
    with pytest.raises(UserError, match="has other files"):
        new_run_folder(tmp_path, "x")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 99}', b'{"class_name": "Sequential", "config": {}}'])
def test_a_folder_with_somebodys_own_model_json_is_not_used(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(UserError, match="has other files in it; choose a new or empty folder"):
        new_run_folder(tmp_path, "x")
    assert (tmp_path / CARD).read_bytes() == content


def test_a_folder_with_a_folder_in_place_of_the_card_is_not_used(tmp_path: Path) -> None:
    (tmp_path / CARD).mkdir()
    with pytest.raises(UserError, match="has other files in it"):
        new_run_folder(tmp_path, "x")


@pytest.mark.parametrize("out", [None, "images/run", "alias/cat/run"])
def test_nothing_is_decoded_or_made_where_a_run_would_lie_in_its_data(
    out: str | None, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded_cache: Path
) -> None:
    (tmp_path / "images").symlink_to(photographs)
    (tmp_path / "alias").symlink_to("images")
    monkeypatch.chdir(tmp_path if out else photographs)
    before = sorted(photographs.rglob("*"))
    with pytest.raises(UserError, match=r"lies in the data .*; name a place elsewhere with `out`"):
        ca.train("lenet5", photographs, out=out)
    assert sorted(photographs.rglob("*")) == before
    assert not decoded_cache.exists()


def test_a_class_too_small_to_validate_is_told_before_there_is_a_run(
    write_images: Callable[..., Path], tmp_path: Path
) -> None:
    image = Image.new("L", (28, 28))
    images = write_images(tmp_path / "images", {"cat": [image] * 9, "dog": [image] * 2})
    with pytest.raises(UserError, match="leaves none for validation"):
        ca.train("lenet1", images, validation=Validation(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Batches


def test_batches_are_as_the_record_says() -> None:
    made = planned(network="lenet5-modern", batch_size=50, seed=7)
    batches = training_batches(made.card, made.record, made.dataset.train, torch.device("cpu"), ALONE.shard)
    assert (batches.batch_size, batches.seed, batches.num_classes) == (50, 7, 10)
    assert batches.augmentation == made.record.recipe.augmentation
    assert batches.label_smoothing == made.record.recipe.label_smoothing == 0.1


@pytest.mark.parametrize(
    ("network", "arguments", "words"),
    [
        ("vgg19", {"scale": Scale(width=40)}, "more weights than the 1,073,741,824 that there is room for"),
        pytest.param(
            "resnet1202-cifar", {"scale": Scale(depth=5)}, "more layers than there is room for", marks=pytest.mark.slow
        ),
        ("vgg16", {"scale": Scale(resolution=3000)}, "cannot be trained at this size: "),
        ("resnet20-cifar", {"scale": Scale(resolution=9000)}, "activations of one image do not fit into memory"),
        ("lenet1", {"batch_size": 10**12}, "`batch_size` 1,000,000,000,000 does not work; it must be 1 to 1,048,576"),
        ("lenet1", {"epochs": 10**6}, "`epochs` 1,000,000 does not work; it must be 1 to 100,000"),
    ],
)
def test_what_could_not_be_resumed_is_not_begun(network: str, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(network=network, **arguments)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# Squares


def folder_of(sizes: tuple[int, int], root: Path) -> Path:
    """Two classes of black images of that width and height."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", sizes, (i, i, 60 * i)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def published(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of imported weights, which learned on cropped images of 32 px."""
    return import_checkpoint(checkpoint, "resnet20-cifar-b").model.save(tmp_path_factory.mktemp("published") / "m").path


@pytest.mark.parametrize(
    ("size", "mode", "said"),
    [
        pytest.param((40, 40), "crop", None, marks=pytest.mark.slow),
        ((41, 40), "crop", None),
        ((60, 40), "squash", "a crop would cut 33 % off an image, so they become squares by squash"),
        pytest.param((40, 80), "squash", "a crop would cut 50 % off", marks=pytest.mark.slow),
        ((100, 40), "letterbox", "a crop would cut 60 % off an image, so they become squares by letterbox"),
    ],
)
def test_published_weights_lose_as_little_of_the_images_as_can_be(
    size: tuple[int, int], mode: str, said: str | None, published: Path, tmp_path: Path
) -> None:
    images = folder_of(size, tmp_path / "images")
    made = planned(network="resnet20-cifar-b", data=images, init_from=InitFrom(path=str(published)))
    preprocessing = made.card.preprocessing
    assert preprocessing.mode == mode
    # The size of the weights. What is not cut off in one way is not in another.
    assert (preprocessing.crop, preprocessing.margin) == (32, 2 if mode == "crop" else 0)
    notes = [note for note in made.dataset.notes if "squares" in note]
    assert (said is None) == (not notes)
    assert said is None or said in notes[0]
    # From nothing images are cropped, unless a person says otherwise.
    assert planned(network="resnet20-cifar-b", data=images).card.preprocessing.mode == "crop"
    assert planned(network="resnet20-cifar-b", data=images, resize="letterbox").card.preprocessing.mode == "letterbox"


@pytest.mark.parametrize(("patients", "few"), [(2, "groups of patient"), (8, "images")])
def test_why_no_image_can_be_held_out_is_said(patients: int, few: str, published: Path, tmp_path: Path) -> None:
    folder = folder_of((40, 40), tmp_path / "images")
    names = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4 if patients == 2 else 2)]
    rows = [f"{name},{name[:3]},{name[:3]}{i % patients}" for i, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["file,label,patient", *rows]))
    made = planned(
        network="resnet20-cifar-b",
        data=folder,
        labels=folder / "labels.csv",
        group_by="patient",
        init_from=InitFrom(path=str(published)),
    )
    assert made.record.validation is None
    assert [note for note in made.dataset.notes if "hold any out" in note] == [
        f"a class has too few {few} to hold any out, so the last epoch is kept, which may be worse than the head alone "
        "(--freeze)"
    ]


def test_a_person_chooses_how_images_become_squares_where_the_weights_leave_it_open(
    published: Path, tmp_path: Path
) -> None:
    images = folder_of((60, 40), tmp_path / "images")
    asked = {"network": "resnet20-cifar-b", "data": images, "scale": Scale(resolution=32)}
    chosen = planned(**asked, init_from=InitFrom(path=str(published)), resize="letterbox")
    assert chosen.card.preprocessing.mode == "letterbox"
    run = ca.train(
        **asked,
        init_from=published,
        resize="letterbox",
        epochs=1,
        runtime=Runtime(autotune=False),
        out=tmp_path / "run",
    )
    again = InitFrom(path=str(run.folder))
    assert planned(**asked, init_from=again).card.preprocessing.mode == "letterbox"
    with pytest.raises(UserError, match="the weights learned on images made square by letterbox; leave"):
        planned(**asked, init_from=again, resize="crop")
    with pytest.raises(UserError, match="'stretch' is unknown; it must be one of crop, squash, letterbox"):
        planned(**asked, resize="stretch")


@pytest.mark.parametrize(("num", "is_said"), [(1, True), (4, False)])
def test_it_is_said_where_fine_tuning_can_be_worse_than_the_head_alone(
    num: int, is_said: bool, published: Path, tmp_path: Path
) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder := tmp_path / "images" / split / name).mkdir(parents=True)
            for i in range(num):
                Image.new("RGB", (40, 40), (i, 0, 0)).save(folder / f"{i}.png")
    start = InitFrom(path=str(published))
    made = planned(network="resnet20-cifar-b", data=tmp_path / "images", init_from=start)
    said = [note for note in made.dataset.notes if "few images to hold any out" in note]
    assert (bool(said), made.record.validation) == (is_said, None if is_said else Validation())
    alone = planned(network="resnet20-cifar-b", data=tmp_path / "images", init_from=replace(start, freeze=True))
    assert not [note for note in alone.dataset.notes if "to hold any out" in note]


def test_fine_tuning_holds_images_out_and_keeps_statistics_unless_there_are_many(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = InitFrom(path=str(published))
    for few, keeps in ((1443, True), (1442, False)):
        monkeypatch.setattr("convatlas.training.plan.FEW_IMAGES", few)
        record = planned(network="resnet20-cifar-b", init_from=start).record
        assert (record.fits_head, record.keeps_statistics, record.validation) == (True, keeps, Validation())
    record = planned(network="resnet20-cifar-b", init_from=replace(start, freeze=True)).record
    assert (record.fits_head, record.keeps_statistics, record.validation) == (True, False, None)
    own = planned(network="resnet20-cifar-b", init_from=start, validation=Validation(val_split=0.3)).record
    assert own.validation == Validation(val_split=0.3)
    record = planned(network="resnet20-cifar-b").record
    assert (record.fits_head, record.keeps_statistics, record.validation) == (False, False, None)
