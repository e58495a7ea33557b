"""A model opens, predicts, evaluates and is saved, from its card and its weights alone."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from convatlas import atlas, data
from convatlas.errors import UserError
from convatlas.files.typed_json import encoded
from convatlas.images import ImageError
from convatlas.models.bounds import describe, describe_card
from convatlas.models.card import CARD, Card
from convatlas.models.folder import WEIGHTS, weights_checksum
from convatlas.models.hub import README
from convatlas.models.model import Model, open_model
from convatlas.models.network import build
from convatlas.models.prediction import NUM_CLASSES, Prediction
from convatlas.runs.options import Runtime
from convatlas.spec import Scale
from convatlas.training import Request
from convatlas.training.distribution import Processes
from convatlas.training.plan import plan

ModelOf = Callable[..., Model]
FORMATS = Path(__file__).parents[1] / "formats"
RANDOM = np.random.default_rng(0)


def noise(height: int, width: int, channels: int | None = 3) -> np.ndarray:
    """Smooth noise (height, width, channels), or (height, width) without channels."""
    shape = (5, 6) if channels is None else (5, 6, channels)
    coarse = Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def same_bits(one: Model, other: Model) -> None:
    own, others = one.network.state_dict(), other.network.state_dict()
    assert list(own) == list(others)
    for name, value in own.items():
        assert value.dtype == others[name].dtype
        assert value.contiguous().numpy().tobytes() == others[name].contiguous().numpy().tobytes(), name


def close(one: Prediction, other: Prediction) -> None:
    assert one.path == other.path
    assert dict(zip(one.classes, one.probabilities, strict=True)) == pytest.approx(
        dict(zip(other.classes, other.probabilities, strict=True)), abs=1e-5
    )


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of three classes of photographs of several sizes."""
    root = tmp_path_factory.mktemp("data") / "photographs"
    for part, num in (("train", 4), ("test", 3)):
        for name in ("cat", "dog", "emu"):
            (root / part / name).mkdir(parents=True)
            for number in range(num):
                image = Image.fromarray(noise(40 + 7 * number, 60 - 5 * number))
                image.save(root / part / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def color(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of color images, untrained."""
    request = Request(
        network="resnet20-cifar",
        data=photographs,
        scale=Scale(width=0.25, resolution=32),
        runtime=Runtime(autotune=False),
    )
    card = plan(request, Processes()).card
    torch.manual_seed(0)
    network = build(card).eval()
    return Model(card, load_network=lambda: network).save(tmp_path_factory.mktemp("color") / "model")


@pytest.fixture
def copy(model_of: ModelOf, tmp_path: Path) -> Model:
    """A model folder that a test may damage: `model.json` and `weights.safetensors`, nothing else."""
    source = model_of("lenet5").path
    assert source is not None
    (tmp_path / "copy").mkdir()
    for name in (CARD, WEIGHTS):
        shutil.copy(source / name, tmp_path / "copy")
    return open_model(tmp_path / "copy")


# Opening and evaluating.


def test_a_card_and_weights_are_all_that_it_takes(copy: Model, model_of: ModelOf) -> None:
    own = model_of("lenet5")
    assert copy.path is not None
    assert {path.name for path in copy.path.iterdir()} == {"model.json", "weights.safetensors"}
    same_bits(copy, own)
    assert not copy.network.training
    assert (copy.card, copy.classes, copy.preprocessing) == (own.card, own.card.classes, own.card.preprocessing)
    assert (copy.provenance, copy.variant, copy.spec) == (own.card.provenance, atlas.find("lenet5"), own.spec)
    assert copy.name == str(copy.path)
    image = noise(28, 28, None)
    assert copy.predict(image) == own.predict(image)
    evaluation = copy.evaluate()
    assert evaluation.num_images == 355
    assert torch.equal(evaluation.confusion, own.evaluate().confusion)
    # Nothing is written by any of it.
    assert {path.name for path in copy.path.iterdir()} == {"model.json", "weights.safetensors"}


def test_predictions_and_evaluation_agree(color: Model, photographs: Path) -> None:
    confusion = torch.zeros(3, 3, dtype=torch.int64)
    for label, name in enumerate(color.classes):
        for prediction in color.predict(sorted((photographs / "test" / name).iterdir())):
            confusion[label, color.classes.index(prediction.classes[0])] += 1
    assert torch.equal(color.evaluate(photographs).confusion, confusion)


def test_it_evaluates_a_split_of_ones_own(color: Model, photographs: Path) -> None:
    dataset = data.find(photographs).load(color.preprocessing.resizing, seed=0)
    assert torch.equal(color.evaluate(dataset.test).confusion, color.evaluate(str(photographs)).confusion)
    assert color.evaluate(dataset.train.take(np.arange(5))).num_images == 5


def test_data_that_is_not_found_or_another_is_one_line(color: Model, copy: Model, photographs: Path) -> None:
    with pytest.raises(UserError, match=r"image folder photographs, whose place is not known; name .* with `data`"):
        color.evaluate()
    with pytest.raises(UserError, match="there is no folder"):
        color.evaluate(photographs / "nowhere")
    with pytest.raises(UserError, match=r"are not, or no longer, those that .* was trained on"):
        color.evaluate(photographs / "train")
    with pytest.raises(UserError, match=r"are not, or no longer, those that .* was trained on"):
        copy.evaluate(photographs)


def test_weights_are_read_when_they_are_first_needed(copy: Model) -> None:
    assert copy.path is not None
    (copy.path / WEIGHTS).unlink()
    opened = open_model(copy.path)
    assert opened.classes == copy.classes
    with pytest.raises(UserError, match=rf"{re.escape(str(copy.path / WEIGHTS))} is missing"):
        _ = opened.network


def test_damaged_weights_are_one_line(copy: Model) -> None:
    assert copy.path is not None
    path = copy.path / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights.safetensors is damaged or not this model's"):
        _ = open_model(copy.path).network


def test_weights_of_another_network_are_one_line(copy: Model, model_of: ModelOf) -> None:
    assert copy.path is not None
    other = model_of("lenet1")
    assert other.path is not None
    shutil.copy(other.path / WEIGHTS, copy.path)
    with pytest.raises(UserError, match="not this model's"):
        _ = open_model(copy.path).network
    (copy.path / CARD).write_bytes(replace(copy.card, weights_sha256=other.card.weights_sha256).to_json())
    with pytest.raises(UserError, match=r"its size is not that of the network in its card"):
        _ = open_model(copy.path).network


def test_a_file_of_weights_has_a_short_header(copy: Model) -> None:
    assert copy.path is not None
    described = describe_card(copy.card)
    most = described.num_bytes + 2**20 + 2**10 * len(described.shapes)
    for size, what in ((most, "checksum"), (most + 1, "size")):
        os.truncate(copy.path / WEIGHTS, size)
        with pytest.raises(UserError, match=f"not this model's: its {what} is not"):
            _ = open_model(copy.path).network


def test_a_model_that_is_not_finished_is_one_line(copy: Model) -> None:
    assert copy.path is not None
    (copy.path / CARD).write_bytes(replace(copy.card, weights_sha256=None).to_json())
    for work in (lambda one: one.network, lambda one: one.evaluate(), lambda one: one.predict(noise(9, 9))):
        with pytest.raises(UserError, match=f"{copy.path} is not finished; convatlas resume {copy.path}"):
            work(open_model(copy.path))


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path} is not a model folder: it has no model.json"):
        open_model(tmp_path)
    with pytest.raises(UserError, match=r"there is no .*nowhere"):
        open_model(tmp_path / "nowhere")
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(UserError, match=r"text is damaged or no compressed model"):
        open_model(tmp_path / "text")
    # Weights alone, by what is in the file or as Caffe's by its name.
    torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "resnet18.pth")
    (tmp_path / "net.caffemodel").write_bytes(b"\n\x03net")
    for name in ("resnet18.pth", "net.caffemodel"):
        path = tmp_path / name
        with pytest.raises(UserError) as caught:
            open_model(path)
        assert str(caught.value) == (
            f"{path} is no model; if it has another library's weights, convatlas import {path} --as NETWORK "
            "--out FOLDER makes one of them"
        )


# Saving.


def test_saved_and_opened_again_it_has_the_same_bits(family: str, model_of: ModelOf, tmp_path: Path) -> None:
    own = model_of(family)
    folder = own.save(tmp_path / "below" / "folder")
    file = folder.save(tmp_path / "one.cva")
    again = file.save(tmp_path / "again")
    for model in (folder, file, again):
        same_bits(model, own)
        assert replace(model.card, weights_sha256=None) == replace(own.card, weights_sha256=None)
    assert folder.card == again.card == own.card
    assert file.card.weights_sha256 is None
    for name in (CARD, WEIGHTS):
        assert own.path is not None
        assert (tmp_path / "again" / name).read_bytes() == (own.path / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [README, CARD, WEIGHTS]
    assert (folder.path, file.path) == (tmp_path / "below" / "folder", tmp_path / "one.cva")


def test_saving_goes_on_where_it_was_killed(model_of: ModelOf, tmp_path: Path) -> None:
    own, folder = model_of("lenet5"), tmp_path / "model"
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / CARD).write_bytes(replace(own.card, weights_sha256=None).to_json())
    (folder / WEIGHTS).write_bytes(b"of an earlier version of the library")
    assert own.save(folder).card == own.card
    assert sorted(path.name for path in folder.iterdir()) == [README, CARD, WEIGHTS]
    # Nor does a lock stay where it was killed at its very end.
    (folder / ".lock").touch()
    with pytest.raises(UserError, match="holds something already"):
        own.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == [README, CARD, WEIGHTS]
    # Another model's are not overwritten.
    (folder / CARD).write_bytes(replace(own.card, weights_sha256=None, params=1).to_json())
    with pytest.raises(UserError, match="holds something already"):
        own.save(folder)


def test_a_model_in_memory_is_used_like_any_other(model_of: ModelOf, tmp_path: Path) -> None:
    own = model_of("lenet5")
    model = Model(own.card, load_network=lambda: own.network)
    assert (model.path, model.name) == (None, "lenet5")
    image = noise(30, 20)
    assert model.predict(image) == own.predict(image)
    assert model.save(tmp_path / "model").card == own.card


def test_a_model_that_was_not_evaluated_has_a_folder_and_no_file(color: Model, tmp_path: Path) -> None:
    assert color.card.score is None
    assert color.save(tmp_path / "model").card == color.card
    with pytest.raises(UserError, match="was not evaluated"):
        color.save(tmp_path / "model.cva")


def test_nothing_is_overwritten(copy: Model, tmp_path: Path) -> None:
    assert copy.path is not None
    before = {path: path.read_bytes() for path in copy.path.iterdir()}
    for place in (copy.path, tmp_path, copy.path / WEIGHTS):
        with pytest.raises(UserError, match="holds something already; choose a new or empty folder"):
            copy.save(place)
    assert {path: path.read_bytes() for path in copy.path.iterdir()} == before


@pytest.mark.parametrize("name", ["int8.cva", "new.cva", "old.cva"])
def test_a_file_of_version_1_opens(name: str, tmp_path: Path) -> None:
    model = open_model(FORMATS / name)
    expected: dict[str, Any] = json.loads((FORMATS / "expected.json").read_text())[name]
    assert model.card.variant == expected["variant"]
    assert model.classes == tuple(expected["classes"])
    assert model.card.score is not None
    assert model.card.score.accuracy == expected["recorded_accuracy"]
    assert bool(model.card.quantization) == (name == "int8.cva")
    saved = model.save(tmp_path / "model")
    same_bits(saved, model)
    same_bits(saved.save(tmp_path / "again.cva"), model)
    image = FORMATS / "images" / "disk" / "0.png"
    prediction = saved.predict(image)
    found = dict(zip(prediction.classes, prediction.probabilities, strict=True))
    assert found == pytest.approx(expected["predictions"]["images/disk/0.png"], abs=1e-4)
    assert saved.card.weights_sha256 == weights_checksum(model.network)


# Predicting.


def test_one_image_has_one_prediction_and_a_list_has_a_list(color: Model) -> None:
    image = noise(50, 40)
    alone = color.predict(image)
    assert isinstance(alone, Prediction)
    assert alone.path is None
    for images in ([image], (image,), [image, noise(20, 30)]):
        found = color.predict(images)
        assert isinstance(found, list)
        assert len(found) == len(images)
        close(found[0], alone)
    assert color.predict([]) == []


def test_a_path_an_image_and_an_array_are_the_same_image(color: Model, tmp_path: Path) -> None:
    array = noise(50, 40)
    Image.fromarray(array).save(tmp_path / "image.png")
    path = tmp_path / "image.png"
    of_array = color.predict(array)
    for same in (path, str(path)):
        prediction = color.predict(same)
        assert prediction.path == path
        assert replace(prediction, path=None) == of_array
    with Image.open(path) as opened:
        assert color.predict(opened) == of_array
    for same in (np.asfortranarray(array), array[::-1][::-1], array.copy()):
        assert color.predict(same) == of_array


@pytest.mark.parametrize("name", ["color", "gray"])
def test_gray_and_color_images_are_read_by_networks_of_either(
    name: str, color: Model, model_of: ModelOf, tmp_path: Path
) -> None:
    model = color if name == "color" else model_of("lenet5")
    gray = noise(50, 40, None)
    expected = model.predict(Image.fromarray(gray))
    assert model.predict(gray) == expected
    assert model.predict(np.stack([gray] * 3, axis=2)) == expected
    Image.fromarray(gray).save(tmp_path / "gray.png")
    assert replace(model.predict(tmp_path / "gray.png"), path=None) == expected


def test_up_to_five_classes_are_named_the_most_probable_first(model_of: ModelOf, color: Model) -> None:
    for model, num in ((model_of("lenet5-modern"), NUM_CLASSES), (color, 3)):
        prediction = model.predict(noise(30, 30))
        assert len(prediction.classes) == len(prediction.probabilities) == num
        assert set(prediction.classes) <= set(model.classes)
        assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
        assert 0 < sum(prediction.probabilities) <= 1 + 1e-5


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_batches_predict_what_single_images_do(
    size: int, color: Model, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(photographs.rglob("*.png"))
    images = [*files[:9], *(noise(33, 70) for _ in range(4)), *(Image.open(path) for path in files[9:12])]
    singles = [color.predict(image) for image in images]
    monkeypatch.setattr("convatlas.models.evaluation.BATCH_SIZE", size)
    for together, alone in zip(color.predict(images), singles, strict=True):
        close(together, alone)


@settings(max_examples=15)
@given(st.data())
def test_any_arrays_batched_predict_what_single_ones_do(color: Model, data: st.DataObject) -> None:
    side = st.integers(1, 70)
    shape = st.one_of(st.tuples(side, side), st.tuples(side, side, st.just(3)))
    images = data.draw(st.lists(arrays(np.uint8, shape), min_size=1, max_size=6))
    for together, alone in zip(color.predict(images), map(color.predict, images), strict=True):
        close(together, alone)


REFUSED: list[tuple[Any, str]] = [
    (np.zeros((8, 8, 3), np.float32), "an array of float32 does not say what its values mean; pass uint8"),
    (np.zeros((8, 8), np.float64), "an array of float64 does not say what its values mean"),
    (np.zeros((8, 8), np.int64), "an array of int64 does not say"),
    (np.zeros((8, 8), np.uint16), "an array of uint16 does not say"),
    (np.zeros((8, 8), np.bool_), "an array of bool does not say"),
    (
        np.zeros((3, 8, 8), np.uint8),
        "an array of shape (3, 8, 8) is not an image; pass (height, width, 3) in RGB order",
    ),
    (np.zeros((8, 8, 1), np.uint8), "an array of shape (8, 8, 1) is not an image"),
    (np.zeros((8, 8, 4), np.uint8), "an array of shape (8, 8, 4) is not an image"),
    (np.zeros((1, 8, 8, 3), np.uint8), "an array of shape (1, 8, 8, 3) is not an image"),
    (np.zeros(8, np.uint8), "an array of shape (8,) is not an image"),
    (np.zeros((), np.uint8), "an array of shape () is not an image"),
    (np.zeros((0, 8, 3), np.uint8), "an array of shape (0, 8, 3) is not an image"),
    (np.zeros((8, 0), np.uint8), "an array of shape (8, 0) is not an image"),
    (torch.zeros(8, 8, 3), "a Tensor is not an image; pass a path, a PIL image or a uint8 array"),
    (None, "a NoneType is not an image"),
    (b"\x89PNG", "a bytes is not an image"),
    (5, "a int is not an image"),
    ({"path": "x.png"}, "a dict is not an image"),
]


@pytest.mark.parametrize(("image", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_is_no_image_is_one_line_that_says_why(image: Any, message: str, color: Model) -> None:
    kept: list[ImageError] = []
    calls: list[Callable[[], object]] = [
        lambda: color.predict(image),
        lambda: color.predict([noise(9, 9), image]),
        # Only files are left out: an array of the wrong kind is a mistake in a program.
        lambda: color.predict([image], on_error=kept.append),
    ]
    for call in calls:
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
    assert kept == []


def test_files_that_cannot_be_used_are_left_out_where_that_is_wanted(
    color: Model, tmp_path: Path, write_odd_images: Callable[[Path, int], Any]
) -> None:
    odd = write_odd_images(tmp_path, 1)
    files = sorted([*odd.good, *odd.unusable])
    kept: list[ImageError] = []
    predictions = color.predict(files, on_error=kept.append)
    assert [prediction.path for prediction in predictions] == sorted(odd.good)
    assert [error.path for error in kept] == sorted(odd.unusable)
    for error in kept:
        assert odd.unusable[error.path] in error.reason
    for prediction in predictions:
        close(prediction, color.predict(prediction.path or ""))
    # All of a batch, and all there are.
    assert color.predict(sorted(odd.unusable), on_error=kept.append) == []
    for path in odd.unusable:
        for images in (path, [path]):
            with pytest.raises(ImageError, match=re.escape(str(path))):
                color.predict(images)


def test_a_file_that_is_not_there_is_one_line(color: Model, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no\.png: there is no such file"):
        color.predict(tmp_path / "no.png")


def test_the_device_is_the_one_asked_for(copy: Model) -> None:
    image = noise(28, 28, None)
    assert copy.predict(image, device="cpu") == copy.predict(image)
    assert copy.predict([image], device="cpu") == copy.predict([image])
    for call in (copy.predict, lambda _, device: copy.evaluate(device=device)):
        with pytest.raises(UserError, match="there is no device 'abacus' on this machine"):
            call(image, device="abacus")


@pytest.mark.gpu
def test_another_device_predicts_the_same_and_the_network_comes_back(color: Model) -> None:
    images = [noise(40, 50) for _ in range(5)]
    for one, other in zip(color.predict(images, device="cuda"), color.predict(images, device="cpu"), strict=True):
        assert dict(zip(one.classes, one.probabilities, strict=True)) == pytest.approx(
            dict(zip(other.classes, other.probabilities, strict=True)), abs=1e-2
        )
    assert next(color.network.parameters()).device.type == "cpu"


@pytest.mark.gpu
def test_the_network_comes_back_from_the_device_after_an_error(color: Model) -> None:
    with suppress(KeyError), color.network_on(torch.device("cuda")) as network:
        assert next(network.parameters()).device.type == "cuda"
        raise KeyError
    assert next(color.network.parameters()).device.type == "cpu"


def test_a_card_says_how_many_outputs_are_classes(copy: Model) -> None:
    card: Card = copy.card
    with pytest.raises(UserError, match="it names 9 classes, and its network has 10 outputs"):
        replace(card, classes=card.classes[1:])


def test_weights_that_are_not_there_are_not_allocated(copy: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card of a network of 2^26 weights beside a file of 2^16."""
    assert copy.path is not None
    spec = copy.spec.scaled(width=45)
    card = replace(copy.card, spec=encoded(spec), **describe(copy.variant.network, spec).cost._asdict())
    assert card.params > 2**26
    (copy.path / CARD).write_bytes(card.to_json())
    opened = open_model(copy.path)
    monkeypatch.setattr("convatlas.models.folder.build", lambda card: pytest.fail("it is allocated"))
    with pytest.raises(UserError, match="its size is not that of the network in its card"):
        _ = opened.network
