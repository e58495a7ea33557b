"""Distillation: what is computed, and that any network can teach any other."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.images import Preprocessing
from convatlas.models.evaluation import evaluation_batches
from convatlas.networks.blocks import CrossEntropy
from convatlas.runs.options import Distillation, InitFrom, Runtime
from convatlas.runs.run import Run, load_run
from convatlas.spec import Scale
from convatlas.training import Interrupted, Progress, Request, train_request
from convatlas.training.distillation import (
    AttentionMaps,
    Teacher,
    as_read_by,
    attention_map,
    input_side,
    last_of_each_size,
    log_probabilities,
    open_teacher,
)

pytestmark = pytest.mark.usefixtures("one_thread")

FORMATS = Path(__file__).parents[1] / "formats"
FAMILIES = {
    "lenet5": 1.0, "alexnet": 0.05, "vgg11": 0.05, "googlenet": 0.1, "resnet20-cifar": 0.25, "squeezenet": 0.1,
    "mobilenet": 0.1, "efficientnet-b0": 0.1,
}  # fmt: skip
"""One network of each, and its width."""
USUAL = ("lenet5", "alexnet", "resnet20-cifar")
"""The others in slow tests. These have outputs of another kind, towers, and normalization."""


def slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


def small(network: str, epochs: int = 1, **changes: object) -> Request:
    asked = Request(
        network=network,
        epochs=epochs,
        scale=Scale(width=FAMILIES.get(network, 1.0), resolution=28),
        runtime=Runtime(autotune=False),
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_request(small("lenet5-modern", 3), tmp_path_factory.mktemp("teacher") / "run", Progress())


def taught_by(run: Run, **options: float) -> Distillation:
    return Distillation(teacher=str(run.folder), **options)


# What is computed


@given(st.floats(0.5, 20), st.floats(1, 60))
def test_softened_probabilities_are_the_softmax_of_divided_logits(temperature: float, span: float) -> None:
    # Even the unlikely classes of a confident teacher matter.
    logits = torch.linspace(0, span, 10).repeat(2, 1).requires_grad_()
    ours = log_probabilities(CrossEntropy(), logits, temperature)
    theirs = (logits / temperature).log_softmax(1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    weights = torch.linspace(1, 2, 10).repeat(2, 1)
    torch.testing.assert_close(
        *(torch.autograd.grad((weights * each).sum(), logits)[0] for each in (ours, theirs)), rtol=1e-3, atol=1e-5
    )


# lenet5's objective is its own, and so is lenet1's.
@pytest.mark.parametrize("name", [*FAMILIES, "lenet1"])
def test_every_objective_has_softened_probabilities(name: str) -> None:
    outputs = (10 * torch.randn(5, 10)).requires_grad_()
    softened = log_probabilities(atlas.find(name).objective, outputs, 4.0).exp()
    torch.testing.assert_close(softened.sum(1), torch.ones(5))
    assert softened.min() > 0
    softened[:, 0].sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_the_loss_is_hintons(teacher: Run) -> None:
    asked = taught_by(teacher, temperature=3.0, distill_weight=0.7)
    inputs, outputs, by_targets = torch.randn(4, 1, 28, 28), torch.randn(4, 10), torch.rand(4)
    found = Teacher.of(teacher, nn.Linear(1, 1), asked).losses(by_targets, outputs, inputs)
    with torch.no_grad():
        theirs = (teacher.network(inputs) / 3).softmax(1)
    cross_entropy = -(theirs * (outputs / 3).log_softmax(1)).sum(1)
    entropy = -(theirs * theirs.log()).sum(1)
    torch.testing.assert_close(found, 0.3 * by_targets + 0.7 * 9 * (cross_entropy - entropy), rtol=1e-4, atol=1e-4)


def test_a_teacher_with_the_same_outputs_teaches_nothing(teacher: Run) -> None:
    inputs = torch.randn(4, 1, 28, 28)
    outputs = teacher.network(inputs).detach().requires_grad_()
    losses = Teacher.of(teacher, nn.Linear(1, 1), taught_by(teacher, distill_weight=1.0)).losses(
        torch.zeros(4), outputs, inputs
    )
    torch.testing.assert_close(losses, torch.zeros(4), rtol=0, atol=1e-4)
    losses.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().max() < 1e-4


def preprocessing(channels: int, mean: float, std: float) -> Preprocessing:
    return Preprocessing(resize=8, crop=8, channels=channels, mean=(mean,) * channels, std=(std,) * channels)


@pytest.mark.parametrize(("own", "other"), [(1, 1), (1, 3), (3, 3), (3, 1)])
def test_inputs_are_converted_to_those_of_another_network(own: int, other: int) -> None:
    one, two = preprocessing(own, 0.1, 0.3), preprocessing(other, 0.5, 0.2)
    # Gray images, so that the conversions between gray and color are known.
    gray = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    inputs = torch.from_numpy(one.normalize(gray.repeat(own, 1)))
    expected = torch.from_numpy(two.normalize(gray.repeat(other, 1)))
    torch.testing.assert_close(as_read_by(inputs, one, two, 8), expected, rtol=1e-4, atol=1e-5)
    assert as_read_by(inputs, one, two, 12).shape == (3, other, 12, 12)


def test_an_attention_map_shows_where_a_layer_responds_whatever_its_channels() -> None:
    features = torch.zeros(1, 3, 4, 4)
    features[0, :, 0, 0] = torch.tensor([1.0, -2.0, 3.0])
    assert attention_map(features, 4).tolist()[0] == [1.0] + [0.0] * 15
    torch.testing.assert_close(attention_map(5 * features, 2), attention_map(features[:, 1:], 2))


def test_layers_are_paired_from_the_smallest_feature_maps() -> None:
    resnet, vgg = atlas.find("resnet20-cifar"), atlas.find("vgg11")
    sizes = last_of_each_size(resnet, resnet.spec)
    assert sizes == ["stages.2.2.layers.1.conv", "stages.1.2.layers.1.conv", "stages.0.2.layers.1.conv"]
    assert last_of_each_size(vgg, vgg.spec)[0].startswith("stages.4")


def test_a_network_has_no_attention_distance_to_itself(teacher: Run) -> None:
    names = last_of_each_size(teacher.variant, teacher.spec)
    one, other = (AttentionMaps(teacher.network, names) for _ in range(2))
    teacher.network(torch.randn(2, 1, 28, 28))
    assert float(one.distances_to(other).detach().abs().max()) == 0


# Training


@pytest.mark.parametrize("student", [name if name in USUAL else slow(name) for name in FAMILIES])
def test_every_family_can_be_a_student(student: str, shades: Path, tmp_path: Path) -> None:
    few = {"data": str(shades), "batch_size": 4}
    taught = taught_by(
        train_request(small("lenet5-modern", **few), tmp_path / "teacher", Progress()), attention_weight=10.0
    )
    run = train_request(small(student, distillation=taught, **few), tmp_path / "student", Progress())
    assert run.results.epochs == 1
    again = load_run(run.folder)
    assert again.record.distillation == replace(taught, teacher=str((tmp_path / "teacher").resolve()))
    assert again.evaluate().accuracy == run.test_accuracy


@pytest.mark.parametrize("name", [name if name in USUAL else slow(name) for name in FAMILIES if name != "lenet5"])
def test_every_family_can_be_a_teacher(name: str, shades: Path, tmp_path: Path) -> None:
    few = {"data": str(shades), "batch_size": 4}
    taught = train_request(small(name, **few), tmp_path / "teacher", Progress())
    request = small("lenet5-modern", distillation=taught_by(taught, attention_weight=1.0), **few)
    assert train_request(request, tmp_path / "student", Progress()).results.epochs == 1


@pytest.mark.slow
def test_a_student_resembles_its_teacher(teacher: Run, tmp_path: Path) -> None:
    # From the labels alone it would not learn the teacher's mistakes.
    distances = []
    for distill_weight in (1e-3, 1.0):
        asked = small(
            "lenet5-modern",
            5,
            distillation=taught_by(teacher, distill_weight=distill_weight),
            scale=Scale(width=0.5, resolution=28),
            seed=1,
        )
        run = train_request(asked, tmp_path / str(distill_weight), Progress())
        batches = evaluation_batches(run.card, run.load_data().test, torch.device("cpu"))
        inputs = batches.plain(torch.arange(355)).inputs
        with torch.inference_mode():
            both = [log_probabilities(CrossEntropy(), each.network(inputs), 1.0) for each in (run, teacher)]
        distances.append(float(F.kl_div(*both, reduction="batchmean", log_target=True)))
    by_labels, by_teacher = distances
    assert by_teacher < by_labels


class StopAtOnce(Progress):
    def advance(self, num_images: int) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_a_training_with_a_teacher_that_was_stopped_ends_in_the_same_weights(teacher: Run, tmp_path: Path) -> None:
    asked = small("lenet5-modern", 2, distillation=taught_by(teacher, attention_weight=1.0), seed=3)
    whole = train_request(asked, tmp_path / "whole", Progress())
    with pytest.raises(Interrupted):
        train_request(asked, tmp_path / "stopped", StopAtOnce())
    resumed = ca.resume(tmp_path / "stopped")
    assert resumed.card.weights_sha256 == whole.card.weights_sha256


# What a teacher may be


def as_model_folder(run: Run, folder: Path) -> Path:
    return run.model.save(folder / "model").path or folder


def as_compressed_file(run: Run, folder: Path) -> Path:
    return run.model.save(folder / "model.cva").path or folder


@pytest.mark.slow
@pytest.mark.parametrize("save_as", [pytest.param(as_model_folder, marks=pytest.mark.slow), as_compressed_file])
def test_a_model_folder_or_a_compressed_file_teaches_as_the_run_does(
    save_as: Callable[[Run, Path], Path], teacher: Run, tmp_path: Path
) -> None:
    path = save_as(teacher, tmp_path)
    # The run itself may be gone.
    assert not (path / "run.json").exists()
    students = []
    for place in (teacher.folder, path):
        asked = Distillation(teacher=str(place), attention_weight=1.0)
        out = tmp_path / f"student of {place.name}"
        student = train_request(small("lenet1", 2, distillation=asked), out, Progress())
        assert student.record.distillation == replace(asked, teacher=str(place.resolve()))
        students.append(student.card.weights_sha256)
    # Digits are not trained at a smaller side than they are tested at, so that both teachers see the same.
    assert input_side(teacher) == teacher.spec.resolution
    assert students[0] == students[1]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("format-2", "format-2-shared", "format-2-int8", "int8.cva")
    ]
    + ["format-1", "old.cva"],
)
def test_what_earlier_versions_wrote_teaches(name: str, tmp_path: Path) -> None:
    asked = Distillation(teacher=str(FORMATS / name))
    student = train_request(small("lenet1", distillation=asked), tmp_path / "student", Progress())
    assert student.results.epochs == 1


def test_a_run_teaches_at_the_side_that_it_was_trained_at_and_a_model_at_that_of_its_tests(teacher: Run) -> None:
    recipe = teacher.record.recipe
    smaller = replace(recipe, augmentation=replace(recipe.augmentation, side=0.75))
    run = Run(teacher.folder, teacher.card, replace(teacher.record, recipe=smaller))
    assert input_side(run) == smaller.augmentation.side_for(28) == 21
    assert input_side(run.model) == 28


def test_a_quantized_teacher_stays_quantized_for_its_student(tmp_path: Path) -> None:
    int8 = open_teacher(FORMATS / "int8.cva", tuple("0123456789"))
    student = load_run(FORMATS / "format-2")
    teacher = Teacher.of(student, student.network, Distillation(teacher=str(FORMATS / "int8.cva")))
    inputs = torch.rand(2, 1, 28, 28)
    expected = int8.network(as_read_by(inputs, student.card.preprocessing, int8.card.preprocessing, 28))
    assert torch.equal(teacher.outputs_for(inputs), expected)


# What cannot work


def test_a_teacher_of_other_classes_is_refused(teacher: Run, tmp_path: Path) -> None:
    for path in (teacher.folder, as_model_folder(teacher, tmp_path), as_compressed_file(teacher, tmp_path)):
        with pytest.raises(UserError, match=r"has other classes: 10 \(0, 1, 2, ...\), and the images have 2"):
            open_teacher(path, ("cat", "dog"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "there is no .*nowhere"),
        ("nowhere.cva", r"there is no .*nowhere\.cva"),
        ("empty", "empty is not a run or model folder"),
        ("page.html", "page.html is damaged or no compressed model"),
        ("unfinished", "unfinished is not finished; convatlas resume .*unfinished goes on with it"),
    ],
)
def test_a_teacher_that_is_none_is_refused_before_anything_is_written(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.html").write_text("<!DOCTYPE html>")
    with pytest.raises(Interrupted):
        train_request(small("lenet1"), tmp_path / "unfinished", StopAtOnce())
    asked = small("lenet5", distillation=Distillation(teacher=str(tmp_path / name)))
    with pytest.raises(UserError, match=message) as error:
        train_request(asked, tmp_path / "run", Progress())
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_teacher_with_damaged_weights_is_refused_before_anything_is_written(teacher: Run, tmp_path: Path) -> None:
    path = as_model_folder(teacher, tmp_path)
    content = bytearray((path / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "weights.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is damaged or not this model's"):
        train_request(small("lenet5", distillation=Distillation(teacher=str(path))), tmp_path / "run", Progress())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature` 0 does not work"),
        ({"attention_weight": -1.0}, "`attention_weight` -1 does not work"),
        ({"distill_weight": 1.5}, "`distill_weight` 1.5 does not work"),
    ],
)
def test_numbers_that_teach_nothing_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Distillation(teacher="run", **options)


def test_attention_transfer_needs_feature_maps(teacher: Run, tmp_path: Path) -> None:
    asked = small("lenet-300", distillation=taught_by(teacher, attention_weight=1.0))
    message = "lenet-300 has no feature maps for attention transfer; leave `attention_weight` out"
    with pytest.raises(UserError, match=message):
        train_request(asked, tmp_path / "run", Progress())


def test_a_frozen_body_has_no_teacher(teacher: Run) -> None:
    frozen = InitFrom(path="run", freeze=True)
    with pytest.raises(UserError, match="no teacher sees the images"):
        small("lenet5", init_from=frozen, distillation=taught_by(teacher))
