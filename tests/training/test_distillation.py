"""Learning from a teacher: what is computed, and that any network may teach any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
from convatlas.networks.blocks import CrossEntropy
from convatlas.runs.options import Distillation
from convatlas.runs.run import Run, load
from convatlas.training import Interrupted, Progress, Request, train_as
from convatlas.training.distillation import (
    Teacher,
    Watched,
    as_read_by,
    attention,
    last_of_each_size,
    log_probabilities,
    teacher_named,
)

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = {
    "lenet5": 1.0, "alexnet": 0.05, "vgg11": 0.05, "googlenet": 0.1, "resnet20-cifar": 0.25, "squeezenet": 0.1,
    "mobilenet": 0.1, "efficientnet-b0": 0.1,
}  # fmt: skip
"""One of each, and its width."""


def little(network: str, epochs: int = 1, **given: object) -> Request:
    width = FAMILIES.get(network, 1.0)
    return replace(Request(network=network, width=width, epochs=epochs, resolution=28, autotune=False), **given)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_as(little("lenet5-modern", 3), tmp_path_factory.mktemp("teacher") / "run", Progress())


def taught_by(run: Run, **given: float) -> Distillation:
    return Distillation(teacher=str(run.folder), **given)


# --- what is computed --------------------------------------------------------------------------------------------


@given(st.floats(0.5, 20), st.floats(1, 60))
def test_softened_answers_are_softmax_of_divided_logits(temperature: float, span: float) -> None:
    # Of one who is sure, even the unlikely classes tell something.
    logits = torch.linspace(0, span, 10).repeat(2, 1).requires_grad_()
    ours = log_probabilities(CrossEntropy(), logits, temperature)
    theirs = (logits / temperature).log_softmax(1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    weights = torch.linspace(1, 2, 10).repeat(2, 1)
    torch.testing.assert_close(
        *(torch.autograd.grad((weights * each).sum(), logits)[0] for each in (ours, theirs)), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_softened_answers_of_every_objective_are_probabilities(name: str) -> None:
    softened = log_probabilities(atlas.find(name).objective, 10 * torch.randn(5, 10), 4.0).exp()
    torch.testing.assert_close(softened.sum(1), torch.ones(5))
    assert softened.min() > 0


def test_the_loss_is_hinton_s(teacher: Run) -> None:
    learner = nn.Linear(1, 1)
    asked = taught_by(teacher, temperature=3.0, distill_weight=0.7)
    inputs, outputs, hard = torch.randn(4, 1, 28, 28), torch.randn(4, 10), torch.rand(4)
    found = Teacher.of(teacher, learner, asked).losses(hard, outputs, inputs)
    with torch.no_grad():
        theirs = (teacher.network(inputs) / 3).softmax(1)
    crossed = -(theirs * (outputs / 3).log_softmax(1)).sum(1)
    entropy = -(theirs * theirs.log()).sum(1)
    torch.testing.assert_close(found, 0.3 * hard + 0.7 * 9 * (crossed - entropy), rtol=1e-4, atol=1e-4)


def test_nothing_is_left_to_learn_of_oneself(teacher: Run) -> None:
    inputs = torch.randn(4, 1, 28, 28)
    outputs = teacher.network(inputs).detach().requires_grad_()
    losses = Teacher.of(teacher, nn.Linear(1, 1), taught_by(teacher, distill_weight=1.0)).losses(
        torch.zeros(4), outputs, inputs
    )
    torch.testing.assert_close(losses, torch.zeros(4), rtol=0, atol=1e-4)
    losses.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().max() < 1e-4


def preprocessing(channels: int, mean: float, deviation: float) -> Preprocessing:
    return Preprocessing(resolution=8, channels=channels, mean=(mean,) * channels, deviation=(deviation,) * channels)


@pytest.mark.parametrize(("own", "other"), [(1, 1), (1, 3), (3, 3), (3, 1)])
def test_another_network_reads_the_same_images(own: int, other: int) -> None:
    one, two = preprocessing(own, 0.1, 0.3), preprocessing(other, 0.5, 0.2)
    # Gray ones, so that gray of color and color of gray are known.
    gray = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    inputs = torch.from_numpy(one.normalize(gray.repeat(own, 1)))
    expected = torch.from_numpy(two.normalize(gray.repeat(other, 1)))
    torch.testing.assert_close(as_read_by(inputs, one, two, 8), expected, rtol=1e-4, atol=1e-5)
    assert as_read_by(inputs, one, two, 12).shape == (3, other, 12, 12)


def test_attention_is_where_a_layer_responds_whatever_its_maps() -> None:
    maps = torch.zeros(1, 3, 4, 4)
    maps[0, :, 0, 0] = torch.tensor([1.0, -2.0, 3.0])
    assert attention(maps, 4).tolist()[0] == [1.0] + [0.0] * 15
    torch.testing.assert_close(attention(5 * maps, 2), attention(maps[:, 1:], 2))


def test_layers_are_paired_from_the_smallest_maps() -> None:
    resnet, vgg = atlas.find("resnet20-cifar"), atlas.find("vgg11")
    sizes = last_of_each_size(resnet, resnet.spec)
    assert sizes == ["stages.2.2.layers.1.conv", "stages.1.2.layers.1.conv", "stages.0.2.layers.1.conv"]
    assert last_of_each_size(vgg, vgg.spec)[0].startswith("stages.4")


def test_hints_of_a_network_to_itself_are_nothing(teacher: Run) -> None:
    names = last_of_each_size(teacher.variant, teacher.record.spec)
    one, other = (Watched(teacher.network, names) for _ in range(2))
    teacher.network(torch.randn(2, 1, 28, 28))
    assert float(one.attention_to(other).detach().abs().max()) == 0


# --- training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("student", FAMILIES)
def test_every_family_learns_from_any(student: str, teacher: Run, tmp_path: Path) -> None:
    request = little(student, distillation=taught_by(teacher, attention_weight=10.0))
    run = train_as(request, tmp_path / "student", Progress())
    assert run.results.epochs == 1
    again = load(run.folder)
    assert again.record.distillation == replace(
        taught_by(teacher, attention_weight=10.0), teacher=str(teacher.folder.resolve())
    )
    assert again.evaluate().accuracy == run.test_accuracy


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "lenet5"])
def test_every_family_teaches(name: str, tmp_path: Path) -> None:
    taught = train_as(little(name), tmp_path / "teacher", Progress())
    request = little("lenet5-modern", distillation=taught_by(taught, attention_weight=1.0))
    assert train_as(request, tmp_path / "student", Progress()).results.epochs == 1


def test_a_student_takes_after_its_teacher(teacher: Run, tmp_path: Path) -> None:
    # Of labels alone that are wrong for all, it would learn none of this.
    alike = []
    for distill_weight in (1e-3, 1.0):
        asked = little(
            "lenet5-modern", 5, distillation=taught_by(teacher, distill_weight=distill_weight), width=0.5, seed=1
        )
        run = train_as(asked, tmp_path / str(distill_weight), Progress())
        batches = run.judging(run.load_data().test, torch.device("cpu"))
        inputs = batches.plain(torch.arange(355)).inputs
        with torch.inference_mode():
            answers = [log_probabilities(CrossEntropy(), each.network(inputs), 1.0) for each in (run, teacher)]
        alike.append(float(F.kl_div(*answers, reduction="batchmean", log_target=True)))
    by_labels, by_teacher = alike
    assert by_teacher < by_labels


def test_a_training_with_a_teacher_goes_on_to_the_same_weights(teacher: Run, tmp_path: Path) -> None:
    class Impatient(Progress):
        def advance(self, num_images: int) -> None:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    asked = little("lenet5-modern", 2, distillation=taught_by(teacher, attention_weight=1.0), seed=3)
    whole = train_as(asked, tmp_path / "whole", Progress())
    with pytest.raises(Interrupted):
        train_as(asked, tmp_path / "stopped", Impatient())
    resumed = ca.resume(tmp_path / "stopped")
    assert resumed.results.weights_sha256 == whole.results.weights_sha256


# --- what cannot work --------------------------------------------------------------------------------------------


def test_a_teacher_of_other_classes_is_refused(teacher: Run) -> None:
    with pytest.raises(UserError, match=r"tells other classes apart: 10 \(0, 1, 2, ...\), and the images have 2"):
        teacher_named(teacher.folder, ("cat", "dog"))


def test_a_teacher_that_is_none_is_refused_before_anything_is_begun(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        train_as(little("lenet5", distillation=Distillation(teacher="nowhere")), tmp_path / "run", Progress())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [({"temperature": 0.0}, "--temperature 0 softens nothing"), ({"attention_weight": -1.0}, "--attention_weight -1 cannot weigh"),
     ({"distill_weight": 1.5}, "1.5 of the loss cannot be the teacher's")],
)  # fmt: skip
def test_numbers_with_which_nothing_is_learned_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Distillation(teacher="run", **given)


def test_hints_take_maps(teacher: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lenet-300 has no maps that respond somewhere; leave --attention_weight out"):
        train_as(
            little("lenet-300", distillation=taught_by(teacher, attention_weight=1.0)), tmp_path / "run", Progress()
        )


def test_a_frozen_body_has_no_teacher(teacher: Run) -> None:
    with pytest.raises(UserError, match="no teacher sees their images"):
        little("lenet5", start="run", freeze=True, distillation=taught_by(teacher))
