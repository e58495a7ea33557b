"""Validation: which images are held out, which epoch's weights are kept, when training stops; and class weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import convatlas as ca
from convatlas.data import Batches, Split
from convatlas.errors import UserError
from convatlas.models.evaluation import evaluate
from convatlas.runs.options import Runtime, Validation
from convatlas.runs.run import Run, load_run, read_metrics
from convatlas.training import Progress, Request
from convatlas.training.checkpoint import LoopState, TrainState
from convatlas.training.distribution import Processes
from convatlas.training.loop import train_or_resume
from convatlas.training.step import class_weights
from convatlas.training.validation import least_accuracy, should_stop, split_validation, validate


def split_of(counts: list[int]) -> Split:
    """Images of one pixel that are all different, in an order that mixes the classes."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    numbers = np.arange(len(labels))
    images = np.stack([numbers // 256, numbers % 256], 1).astype(np.uint8)[:, :, None, None]
    return Split(images, labels, tuple(f"{number}.png" for number in numbers))


def numbers(split: Split) -> list[int]:
    images = np.asarray(split.images[:]).astype(int)
    return (256 * images[:, 0, 0, 0] + images[:, 1, 0, 0]).tolist()


# Which images are held out

counts_of_classes = st.lists(st.integers(2, 60), min_size=1, max_size=6)
seeds = st.integers(0, 2**63 - 1)


def check_split(split: Split, train: Split, val: Split) -> None:
    """Fail unless the two are all images of the split, each with its own label and name."""
    assert sorted(numbers(train) + numbers(val)) == list(range(len(split)))
    for part in (train, val):
        assert part.labels.tolist() == split.labels[numbers(part)].tolist()
        assert list(part.names) == [f"{number}.png" for number in numbers(part)]


@given(counts=counts_of_classes, seed=seeds)
def test_a_tenth_of_each_class_is_held_out_by_default(counts: list[int], seed: int) -> None:
    split = split_of(counts)
    train, val = split_validation(split, Validation(), seed)
    check_split(split, train, val)
    for label, count in enumerate(counts):
        held_out = int((val.labels == label).sum())
        assert held_out == max(1, round(count / 10))
        assert (train.labels == label).sum() == count - held_out >= 1


@given(counts=counts_of_classes, seed=seeds, val_split=st.floats(0.01, 0.99))
def test_val_split_is_the_part_of_each_class(counts: list[int], seed: int, val_split: float) -> None:
    split, validation = split_of(counts), Validation(val_split=val_split)
    expected = [max(1, round(val_split * count)) for count in counts]
    if any(held_out == count for held_out, count in zip(expected, counts, strict=True)):
        with pytest.raises(UserError, match=r"`val_split` .* leaves no image of a class for training"):
            split_validation(split, validation, seed)
        return
    train, val = split_validation(split, validation, seed)
    check_split(split, train, val)
    assert np.bincount(val.labels).tolist() == expected


def test_the_seed_draws_the_images_and_the_patience_does_not() -> None:
    split = split_of([40, 40])
    drawn = [numbers(split_validation(split, Validation(), seed)[1]) for seed in (1, 2, 1)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert numbers(split_validation(split, Validation(patience=3), 1)[1]) == drawn[0]


def test_a_class_with_one_image_cannot_be_split() -> None:
    with pytest.raises(UserError, match="leaves none for validation; add images to it"):
        split_validation(split_of([5, 1]), Validation(), 0)


# Which epoch's weights are kept


def lines(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def test_the_metrics_of_a_trial_are_checked_and_come_back_from_its_checkpoint(tmp_path: Path) -> None:
    request = Request(network="lenet1", epochs=2, validation=Validation(), runtime=Runtime(autotune=False))
    run = train_or_resume(request, tmp_path / "trial", Progress(), evaluate_test=False)
    rows = read_metrics(load_run(run.folder))
    path = run.folder / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.1", "0.9", 1))
    with pytest.raises(UserError, match=r"metrics.jsonl is damaged or not this run's"):
        read_metrics(load_run(run.folder))
    again = train_or_resume(request, tmp_path / "trial", Progress(), evaluate_test=False)
    assert read_metrics(again) == read_metrics(load_run(run.folder)) == rows


def val_metrics(run: Run) -> tuple[float, float]:
    """The validation accuracy and loss of the weights that the run wrote."""
    assert run.record.validation is not None
    _, val = split_validation(run.load_data().train, run.record.validation, run.record.seed)
    batches = Batches(
        val,
        run.card.preprocessing,
        num_classes=len(run.card.classes),
        batch_size=500,
        device=torch.device("cpu"),
    )
    evaluation = evaluate(run.network, run.variant.objective, batches)
    return evaluation.accuracy, evaluation.loss


UNTUNED = Runtime(autotune=False)


@pytest.fixture(
    scope="module",
    params=[("lenet5-modern", 0.3, 12), pytest.param(("lenet5", 0.05, 8), marks=pytest.mark.slow)],
    ids=["average", "none"],
)
def validated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With an average of the weights and without one; at such learning rates the last epoch need not be the best."""
    name, lr, epochs = request.param
    out = tmp_path_factory.mktemp("validated") / "run"
    return ca.train(name, lr=lr, epochs=epochs, validation=Validation(), runtime=UNTUNED, out=out)


def test_the_weights_of_the_best_epoch_are_written(validated: Run) -> None:
    rows = lines(validated)
    accuracies = [row["val_accuracy"] for row in rows]
    best = validated.results.best_epoch
    assert best is not None
    # The latest of equal epochs.
    assert best == max(i + 1 for i, accuracy in enumerate(accuracies) if accuracy == max(accuracies))
    accuracy, loss = val_metrics(validated)
    assert accuracy == accuracies[best - 1]
    assert loss == pytest.approx(rows[best - 1]["val_loss"], rel=1e-5)
    assert validated.evaluate().score == validated.score


class Constant(nn.Module):
    """Has the same outputs for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.zeros(10))

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs.expand(len(images), 10)


def test_the_best_weights_are_kept_while_others_do_worse_and_of_equal_ones_the_later(validated: Run) -> None:
    digits = validated.load_data().train
    counts = {0: 5, 1: 3, 2: 3}
    split = digits.take(np.concatenate([np.flatnonzero(digits.labels == label)[:num] for label, num in counts.items()]))
    network = Constant()
    train_state = TrainState(network, torch.optim.SGD(network.parameters()), None)
    weights = []
    for epoch, (label, best) in enumerate([(1, 1), (0, 2), (2, 2), (0, 4), (7, 4), (1, 4)]):
        with torch.no_grad():
            # Each time other weights, which predict that label for all images.
            network.outputs.zero_()[label] = 1 + epoch
        weights.append(network.outputs.detach().clone())
        train_state.state.add_batch(1.0, 1, 1)
        train_state.state.close_epoch(0.1, 0.0)
        validate(train_state, validated, split, torch.device("cpu"), Processes())
        assert train_state.state.metrics[-1]["val_accuracy"] == pytest.approx(counts.get(label, 0) / 11)
        assert train_state.state.best_epoch == best
        assert torch.equal(train_state.best["outputs"], weights[best - 1])


def test_the_record_says_that_images_were_held_out(validated: Run) -> None:
    assert validated.record.validation == Validation()
    # The results count all training images of the data set.
    assert validated.results.train_images == 1442
    assert validated.results.epochs == validated.record.recipe.epochs == len(lines(validated))


def test_without_validation_there_is_no_best_epoch(tmp_path: Path) -> None:
    run = ca.train("lenet1", epochs=1, runtime=UNTUNED, out=tmp_path / "run")
    assert run.record.validation is None
    assert run.results.best_epoch is None
    assert "val_accuracy" not in lines(run)[0]


@pytest.mark.parametrize("epochs", [pytest.param(40, marks=pytest.mark.slow), 3])
def test_patience_stops_after_so_many_epochs_without_a_better_one(epochs: int, tmp_path: Path) -> None:
    # A learning rate at which a network learns nothing more after its first epochs.
    run = ca.train(
        "lenet5-modern",
        epochs=epochs,
        lr=0.3,
        validation=Validation(patience=4),
        runtime=UNTUNED,
        out=tmp_path / "run",
    )
    assert run.record.validation == Validation(val_split=0.1, patience=4)
    accuracies = [row["val_accuracy"] for row in lines(run)]
    best = run.results.best_epoch
    assert best is not None
    assert run.results.epochs == len(accuracies) == min(epochs, best + 4)
    if epochs == 40:
        assert run.results.epochs < epochs
    # It did not stop too late.
    for end in range(5, len(accuracies)):
        assert max(accuracies[end - 4 : end]) >= max(accuracies[: end - 4])


@given(
    accuracies=st.lists(st.integers(0, 9), max_size=30),
    head=st.none() | st.integers(0, 9),
    patience=st.none() | st.integers(1, 10),
)
def test_training_should_stop_when_the_patience_has_run_out(
    accuracies: list[int], head: int | None, patience: int | None
) -> None:
    state = LoopState(head_accuracy=None if head is None else head / 10)
    for accuracy in accuracies:
        state.add_batch(1.0, 1, 1)
        state.close_epoch(0.1, 0.0)["val_accuracy"] = accuracy / 10
    expected = False
    if patience is not None and len(accuracies) >= patience:
        # Nothing among the last of them is as good as the best before.
        before = [*([] if head is None else [head]), *accuracies[: len(accuracies) - patience]]
        expected = bool(before) and max(accuracies[len(accuracies) - patience :]) < max(before)
    assert should_stop(state, Validation(patience=patience), None) == expected
    assert not should_stop(state, None, None)


def after(head: float | None, *accuracies: float) -> LoopState:
    """Training whose epochs had these accuracies on validation images."""
    state = LoopState(head_accuracy=head)
    for accuracy in accuracies:
        state.add_batch(1.0, 1, 1)
        state.close_epoch(0.1, 0.0)["val_accuracy"] = accuracy
    return state


def test_in_fine_tuning_a_later_epoch_within_a_standard_error_counts_as_equal() -> None:
    # sqrt(0.9 * 0.1 / 100) = 0.03
    assert least_accuracy(after(0.8, 0.85, 0.9, 0.84), 100) == pytest.approx(0.87)
    # But never one that is worse than the head alone.
    assert least_accuracy(after(0.89, 0.85, 0.9, 0.84), 100) == 0.89
    assert least_accuracy(after(0.9, 0.85), 100) == 0.9
    # Before the first epoch anything is kept, and from a beginning without weights the best of all.
    assert least_accuracy(after(None), 100) == 0
    assert least_accuracy(after(None, 0.85, 0.9, 0.84), 100) == 0.9


@given(num_images=st.integers(1, 10_000), data=st.data())
def test_training_should_stop_when_the_last_epoch_is_at_its_error(num_images: int, data: st.DataObject) -> None:
    errors = data.draw(st.lists(st.integers(0, num_images), max_size=3), "errors of the epochs")
    most = data.draw(st.integers(0, num_images) | st.sampled_from(errors or [0]), "errors to stop at")
    state = LoopState()
    for wrong in errors:
        state.add_batch(1.0, num_images - wrong, num_images)
        state.close_epoch(0.1, 0.0)["val_accuracy"] = 0.5
    expected = bool(errors) and errors[-1] <= most
    # As it would be typed, and as it would be computed.
    for stop_at_error in (most / num_images, 1 - (num_images - most) / num_images):
        assert should_stop(state, None, stop_at_error) == expected
        assert should_stop(state, Validation(patience=9), stop_at_error) == expected


# Class weights


@given(counts=st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(any))
def test_balanced_classes_have_the_same_total_weight_and_images_a_mean_weight_of_one(counts: list[int]) -> None:
    split = split_of(counts)
    weights = class_weights(split, len(counts), balanced=True)
    totals = weights * torch.tensor(counts)
    present = [total for total, count in zip(totals.tolist(), counts, strict=True) if count]
    assert present == pytest.approx([present[0]] * len(present), rel=1e-5)
    if all(counts):
        assert weights[split.labels].mean().item() == pytest.approx(1, rel=1e-5)
    # A class without images, which the split of a folder may leave, does no harm.
    assert weights.isfinite().all()


def test_unbalanced_every_class_has_weight_one() -> None:
    assert class_weights(split_of([3, 9]), 2, balanced=False).tolist() == [1.0, 1.0]


def test_the_weights_of_an_unbalanced_data_set_are_those_computed_by_hand() -> None:
    # 12 images: 12 / (2 x 3) and 12 / (2 x 9).
    assert class_weights(split_of([3, 9]), 2, balanced=True).tolist() == pytest.approx([2.0, 2 / 3])
