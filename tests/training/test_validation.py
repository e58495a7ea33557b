"""Choices by held-out images: which are held out, whose weights stay, when training stops; and classes' weights."""

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
from convatlas.runs.run import Run
from convatlas.training.checkpoint import Learner, State
from convatlas.training.distribution import Processes
from convatlas.training.step import class_weights
from convatlas.training.validation import should_stop, split_validation, validate


def split_of(counts: list[int]) -> Split:
    """Images of one pixel that are all different, in an order that mixes the classes."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    places = np.arange(len(labels))
    images = np.stack([places // 256, places % 256], 1).astype(np.uint8)[:, :, None, None]
    return Split(images, labels, tuple(f"{place}.png" for place in places))


def numbers(split: Split) -> list[int]:
    images = np.asarray(split.images[:]).astype(int)
    return (256 * images[:, 0, 0, 0] + images[:, 1, 0, 0]).tolist()


# Which are held out

counts_of_classes = st.lists(st.integers(2, 60), min_size=1, max_size=6)


@given(counts=counts_of_classes, seed=st.integers(0, 2**63 - 1))
def test_a_tenth_of_each_class_is_held_out_and_the_rest_learned(counts: list[int], seed: int) -> None:
    split = split_of(counts)
    rest, tenth = split_validation(split, seed)
    assert sorted(numbers(rest) + numbers(tenth)) == list(range(len(split)))
    for label, count in enumerate(counts):
        held = int((tenth.labels == label).sum())
        assert held == max(1, round(count / 10))
        assert (rest.labels == label).sum() == count - held >= 1
    for part in (rest, tenth):
        # Each image with its own label and name.
        assert part.labels.tolist() == split.labels[numbers(part)].tolist()
        assert list(part.names) == [f"{number}.png" for number in numbers(part)]


def test_the_seed_draws_which() -> None:
    split = split_of([40, 40])
    drawn = [numbers(split_validation(split, seed)[1]) for seed in (1, 2, 1)]
    assert drawn[0] == drawn[2] != drawn[1]


def test_of_a_class_with_one_image_none_can_be_held_out() -> None:
    with pytest.raises(UserError, match="train without --hold-out"):
        split_validation(split_of([5, 1]), 0)


# Whose weights stay


def lines(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def val_accuracy(run: Run) -> tuple[float, float]:
    """Of the weights that the run wrote, and their loss."""
    record = run.record
    _, tenth = split_validation(run.load_data().train, record.seed)
    batches = Batches(
        tenth,
        record.preprocessing,
        num_classes=len(record.classes),
        batch_size=500,
        device=torch.device("cpu"),
    )
    evaluation = evaluate(run.network, run.variant.objective, batches)
    return evaluation.accuracy, evaluation.loss


@pytest.fixture(scope="module", params=[("lenet5-modern", 0.3, 12), ("lenet5", 0.05, 8)], ids=["average", "none"])
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of weights that an average is taken of, and not; at such a rate the last epoch need not be the best."""
    name, lr, epochs = request.param
    out = tmp_path_factory.mktemp("held") / "run"
    return ca.train(name, lr=lr, epochs=epochs, hold_out=True, autotune=False, out=out)


def test_the_weights_of_the_best_epoch_are_written(held: Run) -> None:
    rows = lines(held)
    accuracies = [row["val_accuracy"] for row in rows]
    best = held.results.best_epoch
    assert best is not None
    # Of equals the latest.
    assert best == max(i + 1 for i, accuracy in enumerate(accuracies) if accuracy == max(accuracies))
    accuracy, loss = val_accuracy(held)
    assert accuracy == accuracies[best - 1]
    assert loss == pytest.approx(rows[best - 1]["val_loss"], rel=1e-5)
    assert held.evaluate().num_errors == held.results.test_errors


class Stubborn(nn.Module):
    """Gives every image the same answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Parameter(torch.zeros(10))

    def forward(self, images: Tensor) -> Tensor:
        return self.answer.expand(len(images), 10)


def test_the_best_weights_are_kept_while_others_do_worse_and_of_equals_the_later(held: Run) -> None:
    digits = held.load_data().train
    counts = {0: 5, 1: 3, 2: 3}
    split = digits.take(np.concatenate([np.flatnonzero(digits.labels == label)[:num] for label, num in counts.items()]))
    network = Stubborn()
    learner = Learner(network, torch.optim.SGD(network.parameters()), None)
    learned = []
    for epoch, (answer, best) in enumerate([(1, 1), (0, 2), (2, 2), (0, 4), (7, 4), (1, 4)]):
        with torch.no_grad():
            # Another time the same answer is given by other weights.
            network.answer.zero_()[answer] = 1 + epoch
        learned.append(network.answer.detach().clone())
        learner.state.tally(1.0, 1, 1)
        learner.state.close_epoch(0.1, 0.0)
        validate(learner, held, split, torch.device("cpu"), Processes())
        assert learner.state.metrics[-1]["val_accuracy"] == pytest.approx(counts.get(answer, 0) / 11)
        assert learner.state.best_epoch == best
        assert torch.equal(learner.best["answer"], learned[best - 1])


def test_a_tenth_less_is_learned_and_all_of_it_is_said(held: Run) -> None:
    assert held.record.hold_out
    # The run says how many training images the set has.
    assert held.results.train_images == 1442
    assert held.results.epochs == held.record.recipe.epochs == len(lines(held))


def test_without_holding_out_there_is_no_best_epoch(tmp_path: Path) -> None:
    run = ca.train("lenet1", epochs=1, autotune=False, out=tmp_path / "run")
    assert run.results.best_epoch is None
    assert "val_accuracy" not in lines(run)[0]


@pytest.mark.parametrize("epochs", [40, 3])
def test_patience_stops_after_so_many_epochs_without_a_better_one(epochs: int, tmp_path: Path) -> None:
    # A rate at which a network learns nothing more after its first epochs.
    run = ca.train("lenet5-modern", epochs=epochs, lr=0.3, patience=4, autotune=False, out=tmp_path / "run")
    assert run.record.hold_out
    accuracies = [row["val_accuracy"] for row in lines(run)]
    best = run.results.best_epoch
    assert best is not None
    assert run.results.epochs == len(accuracies) == min(epochs, best + 4)
    if epochs == 40:
        assert run.results.epochs < epochs
    # Never so many without a better one before.
    for end in range(5, len(accuracies)):
        assert max(accuracies[end - 4 : end]) >= max(accuracies[: end - 4])


@given(epochs=st.integers(0, 30), best=st.integers(0, 30), patience=st.none() | st.integers(1, 10))
def test_patience_has_run_out_so_many_epochs_after_the_best(epochs: int, best: int, patience: int | None) -> None:
    state = State(best_epoch=min(best, epochs))
    for _ in range(epochs):
        state.tally(1.0, 1, 1)
        state.close_epoch(0.1, 0.0)
    expected = patience is not None and 0 < state.best_epoch <= epochs - patience
    assert should_stop(state, patience) == expected


# Weights of classes


@given(counts=st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(any))
def test_balanced_classes_weigh_the_same_and_a_image_one_in_the_mean(counts: list[int]) -> None:
    split = split_of(counts)
    weights = class_weights(split, len(counts), balanced=True)
    totals = weights * torch.tensor(counts)
    present = [total for total, count in zip(totals.tolist(), counts, strict=True) if count]
    assert present == pytest.approx([present[0]] * len(present), rel=1e-5)
    if all(counts):
        assert weights[split.labels].mean().item() == pytest.approx(1, rel=1e-5)
    # A class without images, as a split of a folder may leave one, does no harm.
    assert weights.isfinite().all()


def test_without_balance_every_class_weighs_one() -> None:
    assert class_weights(split_of([3, 9]), 2, balanced=False).tolist() == [1.0, 1.0]


def test_of_an_unbalanced_set_the_weights_are_those_of_a_hand_count() -> None:
    # 12 images: 12 / (2 x 3) and 12 / (2 x 9).
    assert class_weights(split_of([3, 9]), 2, balanced=True).tolist() == pytest.approx([2.0, 2 / 3])
