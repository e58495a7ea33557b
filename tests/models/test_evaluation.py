import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas.data import Batches, Split
from convatlas.data.batches import Shard
from convatlas.images import Preprocessing
from convatlas.models.evaluation import Evaluation, batch_size, evaluate, evaluation_batches
from convatlas.models.model import Model
from convatlas.networks.blocks import CrossEntropy

counts = st.integers(2, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 500), min_size=n, max_size=n), min_size=n, max_size=n)
)


class Shown(nn.Module):
    """Predictions with the image itself: one pixel, a channel for each class. Dropout tells the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(1.0)
        self.gradients: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.gradients.append(torch.is_grad_enabled())
        return self.drop(x.flatten(1))


def batches(images: list[list[int]], labels: list[int], batch_size: int, shard: Shard | None = None) -> Batches:
    split = Split(np.array(images, np.uint8)[:, :, None, None], np.array(labels, np.int64))
    channels = len(images[0])
    plain = Preprocessing(resize=1, crop=1, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels)
    device = torch.device("cpu")
    return Batches(split, plain, num_classes=channels, batch_size=batch_size, device=device, shard=shard)


def of_errors(errors: int, num: int) -> Evaluation:
    return of_counts([[num - errors, errors], [0, 0]])


def of_counts(rows: list[list[int]]) -> Evaluation:
    """Of a confusion matrix."""
    confusion = torch.tensor(rows)
    classes = torch.arange(len(rows)).expand_as(confusion)
    return Evaluation(confusion, 0.0, classes.flatten().repeat_interleave(confusion.flatten()), int(confusion.sum()))


IMAGES = [[255, 0, 0], [0, 255, 51], [0, 0, 255], [10, 20, 30], [200, 100, 0]]
LABELS = [0, 1, 2, 0, 1]
PREDICTED = [0, 1, 2, 2, 0]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_every_image_is_counted_once_at_its_class_and_its_predicted_class(batch_size: int) -> None:
    evaluation = evaluate(Shown(), CrossEntropy(), batches(IMAGES, LABELS, batch_size))
    assert evaluation.predictions.tolist() == PREDICTED
    assert evaluation.predictions.dtype == torch.int64
    assert evaluation.confusion.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert (evaluation.num_images, evaluation.num_errors) == (5, 2)
    assert evaluation.accuracy == pytest.approx(3 / 5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_the_loss_is_the_mean_over_images_whatever_the_batches(batch_size: int) -> None:
    expected = 0.0
    for image, label in zip(IMAGES, LABELS, strict=True):
        exponents = [math.exp(value / 255) for value in image]
        expected -= math.log(exponents[label] / sum(exponents)) / 5
    evaluation = evaluate(Shown(), CrossEntropy(), batches(IMAGES, LABELS, batch_size))
    assert evaluation.loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_processes", [2, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_several_processes_count_every_image_once_and_all_of_them_know_the_sum(
    num_processes: int, batch_size: int
) -> None:
    alone = evaluate(Shown(), CrossEntropy(), batches(IMAGES, LABELS, batch_size))
    own: list[Tensor] = []

    def note(values: Tensor) -> Tensor:
        own.append(values)
        # Of a process without images nothing could be divided.
        return torch.ones_like(values)

    for rank in range(num_processes):
        evaluate(Shown(), CrossEntropy(), batches(IMAGES, LABELS, batch_size, Shard(rank, num_processes)), note)
    total = torch.stack(own).sum(0)
    together = evaluate(
        Shown(), CrossEntropy(), batches(IMAGES, LABELS, batch_size, Shard(0, num_processes)), lambda values: total
    )
    assert together.confusion.tolist() == alone.confusion.tolist()
    assert together.predictions.tolist() == alone.predictions.tolist() == PREDICTED
    assert together.loss == pytest.approx(alone.loss)


def test_classes_without_images_keep_their_rows() -> None:
    evaluation = evaluate(Shown(), CrossEntropy(), batches([[0, 0, 9]], [1], 1))
    assert evaluation.confusion.tolist() == [[0] * 3, [0, 0, 1], [0] * 3]


def test_the_network_is_evaluated_in_evaluation_mode_without_gradients() -> None:
    network = Shown().train()
    # In training mode all would be dropped, and class 0 would be predicted every time.
    evaluation = evaluate(network, CrossEntropy(), batches(IMAGES, LABELS, 2))
    assert evaluation.confusion.sum(0).tolist() == [2, 1, 2]
    # The fifth image joins the second batch.
    assert network.gradients == [False] * 2
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("errors", "num", "low", "high"),
    [
        # Wilson 1927, z = 1.96. Without errors the lower end is n / (n + z z).
        (0, 10, 0.7225, 1.0),
        (10, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (0, 1, 0.2065, 1.0),
        (1, 1, 0.0, 0.7935),
        (5, 100, 0.8882, 0.9785),
        (95, 10_000, 0.9884, 0.9922),
    ],
)
def test_the_interval_is_wilsons(errors: int, num: int, low: float, high: float) -> None:
    assert of_errors(errors, num).interval == pytest.approx((low, high), abs=1e-4)


PAIRS = st.integers(1, 100_000).flatmap(lambda num: st.tuples(st.integers(0, num), st.just(num)))
"""Errors and images."""


@given(PAIRS)
@example((4, 5))
def test_an_accuracy_is_the_number_nearest_to_the_fraction(pair: tuple[int, int]) -> None:
    errors, num = pair
    # 1 - 4 / 5 is 0.19999999999999996.
    assert of_errors(errors, num).accuracy == (num - errors) / num


@given(PAIRS)
def test_the_interval_contains_the_accuracy_and_lies_between_0_and_1(pair: tuple[int, int]) -> None:
    evaluation = of_errors(*pair)
    low, high = evaluation.interval
    assert 0 <= low <= evaluation.accuracy <= high <= 1
    assert low < high


@pytest.mark.parametrize(("errors", "num"), [(0, 4), (3, 3), (0, 10), (10, 10), (0, 355), (355, 355)])
def test_the_interval_contains_an_accuracy_of_all_or_nothing(errors: int, num: int) -> None:
    evaluation = of_errors(errors, num)
    low, high = evaluation.interval
    assert low <= evaluation.accuracy <= high


@given(st.integers(0, 50), st.integers(2, 20))
def test_more_images_make_the_interval_narrower(errors: int, times: int) -> None:
    few, many = of_errors(errors, 100), of_errors(errors * times, 100 * times)
    (low, high), (higher, lower) = few.interval, many.interval
    assert lower - higher < high - low


@given(counts)
def test_errors_are_what_stands_off_the_diagonal(rows: list[list[int]]) -> None:
    off = sum(value for i, row in enumerate(rows) for j, value in enumerate(row) if i != j)
    total = sum(map(sum, rows))
    evaluation = of_counts(rows)
    assert (evaluation.num_errors, evaluation.num_images) == (off, total)
    if total:
        assert evaluation.accuracy == pytest.approx((total - off) / total)


@pytest.mark.parametrize(("resolution", "size"), [(28, 500), (32, 500), (64, 128), (224, 10), (1024, 1)])
def test_the_larger_the_images_the_fewer_are_evaluated_at_once(
    resolution: int, size: int, model_of: Callable[..., Model]
) -> None:
    card = model_of("squeezenet").card
    card = replace(card, preprocessing=replace(card.preprocessing, resize=resolution, crop=resolution))
    split = Split(np.zeros((2, 1, resolution, resolution), np.uint8), np.zeros(2, np.int64))
    assert batch_size(resolution) == size
    assert evaluation_batches(card, split, torch.device("cpu")).batch_size == size


def test_predictions_are_those_of_a_plain_loop_over_the_images(model_of: Callable[..., Model]) -> None:
    model = model_of("lenet1")
    split = model.load_data().test
    batches = evaluation_batches(model.card, split, torch.device("cpu"))
    network = model.network.eval()
    with torch.inference_mode():
        expected = [int(network(batches.plain(torch.tensor([i])).inputs).argmax()) for i in range(len(split))]
    assert model.evaluate().predictions.tolist() == expected


def test_the_batch_size_changes_no_result(model_of: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("lenet1")
    together = model.evaluate()
    monkeypatch.setattr("convatlas.models.evaluation.BATCH_SIZE", 7)
    apart = model.evaluate()
    torch.testing.assert_close(apart.confusion, together.confusion)
    assert apart.predictions.tolist() == together.predictions.tolist()
    assert apart.loss == pytest.approx(together.loss, rel=1e-5)


def test_the_score_of_a_card_is_that_of_the_evaluation() -> None:
    evaluation = of_errors(5, 100)
    score = evaluation.score
    assert (score.accuracy, score.interval) == (evaluation.accuracy, evaluation.interval)
    assert (score.num_errors, score.num_images) == (5, 100)
