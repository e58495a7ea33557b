"""One step: the gradient of the mean loss over a whole batch, in micro-batches or at once."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

import convatlas as ca
from convatlas.data.batches import Batch
from convatlas.networks.blocks import CrossEntropy
from convatlas.runs.options import Execution
from convatlas.training.step import Step, parts, seed_dropout

PLAIN = Execution(threads=1)


def batch_of(num: int, in_all: int | None = None) -> Batch:
    generator = torch.Generator().manual_seed(num)
    inputs = torch.randn(num, 1, 2, 2, generator=generator)
    targets = torch.rand(num, 3, generator=generator).softmax(1)
    return Batch(inputs, targets, torch.arange(num) % 3, torch.arange(num), in_all or num)


def network_of(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def step_of(network: nn.Module, weights: Tensor | None = None, micro_batch: int | None = None) -> Step:
    return Step.prepared(
        network,
        CrossEntropy(),
        PLAIN,
        class_weights=torch.ones(3) if weights is None else weights,
        batch_size=8,
        micro_batch=micro_batch,
    )


def gradients(network: nn.Module) -> list[Tensor]:
    return [value.grad for value in network.parameters() if value.grad is not None]


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(one, other, strict=True)
    )


@given(num=st.integers(1, 12), size=st.none() | st.integers(1, 6))
@example(num=3, size=1)
@example(num=5, size=2)
def test_micro_batches_are_the_batch_in_order_and_no_larger_than_asked(num: int, size: int | None) -> None:
    batch = batch_of(num, in_all=99)
    pieces = list(parts(batch, size))
    for field in range(4):
        assert torch.equal(torch.cat([piece[field] for piece, _ in pieces]), batch[field])
    assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]
    lengths = [len(piece.labels) for piece, _ in pieces]
    # One more where a single image would be left, which could not be normalized.
    assert max(lengths) <= (size or num) + (size in (1, 2))
    assert max(lengths) - min(lengths) <= 1
    assert {piece.global_batch_size for piece, _ in pieces} == {99}


@given(num=st.integers(2, 12), size=st.integers(2, 5))
def test_no_micro_batch_of_several_images_is_a_single_one(num: int, size: int) -> None:
    assert min(len(piece.labels) for piece, _ in parts(batch_of(num), size)) >= 2


@pytest.mark.parametrize("size", [None, 1, 2])
def test_a_shard_without_images_is_one_micro_batch_that_other_processes_wait_for(size: int | None) -> None:
    (piece, last), *more = parts(batch_of(0, in_all=3), size)
    assert (len(piece.labels), last, more) == (0, True, [])
    result = step_of(network_of(), micro_batch=size).gradient(batch_of(0, in_all=3))
    assert (result.loss, result.num_images, result.is_finite) == (0.0, 0, True)


@given(num=st.integers(1, 12), size=st.integers(1, 12), uneven=st.booleans())
def test_micro_batches_have_the_gradient_of_the_mean_over_all_images(num: int, size: int, uneven: bool) -> None:
    weights = torch.tensor([0.5, 2.0, 1.0]) if uneven else torch.ones(3)
    batch = batch_of(num)
    expected = network_of()
    # By hand: each image's loss times the weight of its target.
    outputs = expected(batch.inputs)
    each = -(batch.targets * F.log_softmax(outputs, 1)).sum(1) * (batch.targets * weights).sum(1)
    each.mean().backward()
    for micro_batch in (None, size):
        network = network_of()
        result = step_of(network, weights, micro_batch).gradient(batch)
        assert close(gradients(network), gradients(expected))
        assert result.losses.tolist() == pytest.approx(each.tolist(), rel=1e-4)
        assert result.loss == pytest.approx(each.sum().item(), rel=1e-4)
        assert result.num_correct == int((outputs.argmax(1) == batch.labels).sum())
        assert result.num_images == num
        assert result.is_finite
        length = math.sqrt(sum(value.square().sum().item() for value in gradients(expected)))
        assert result.norm.item() == pytest.approx(length, rel=1e-4)


def test_a_part_of_a_batch_counts_as_a_part_of_its_mean() -> None:
    whole, half, other = network_of(), network_of(), network_of()
    batch = batch_of(6)
    step_of(whole).gradient(batch)
    for network, places in ((half, slice(0, 2)), (other, slice(2, 6))):
        step_of(network).gradient(Batch(*(values[places] for values in batch[:4]), 6))
    # As processes sum them, where each divides by the number of images of all.
    assert close([a + b for a, b in zip(gradients(half), gradients(other), strict=True)], gradients(whole))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_image_whose_loss_is_not_finite_is_reported(value: float) -> None:
    batch = batch_of(5)
    batch.inputs[3] = value
    result = step_of(network_of()).gradient(batch)
    assert not result.is_finite
    assert result.losses.isfinite().tolist() == [True, True, True, False, True]


def test_a_gradient_that_is_not_finite_is_reported_where_every_loss_is() -> None:
    class Steep(nn.Module):
        """Finite everywhere, with a slope that is not."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.flatten(1)[:, :3] + self.weight.abs().sqrt()

    result = step_of(Steep()).gradient(batch_of(4))
    assert result.losses.isfinite().all()
    assert math.isfinite(result.loss)
    assert not result.is_finite


def test_losses_that_are_large_and_finite_do_not_overflow_in_their_sum() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, inputs: Tensor) -> Tensor:
            return (torch.tensor([0.0, 2e38, -1e38]) + 0 * self.weight).expand(len(inputs), 3)

    labels = torch.zeros(5, dtype=torch.long)
    batch = Batch(torch.zeros(5, 1, 2, 2), F.one_hot(labels, 3).float(), labels, torch.arange(5), 5)
    result = step_of(Large()).gradient(batch)
    assert result.losses.isfinite().all()
    # The sum of five is more than single precision holds, though no image is to blame.
    assert math.isfinite(result.loss)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["efficientnet-b0", "googlenet"])
def test_dropout_differs_between_steps_and_is_the_same_in_each_run(name: str) -> None:
    network = ca.create(name, num_classes=2, width=0.25, resolution=28).train()
    images = torch.randn(8, 3, 28, 28)
    seen = []
    for seed in (1, 2, 1):
        seed_dropout(torch.device("cpu"), seed)
        with torch.no_grad():
            outputs = network(images)
        seen.append(outputs if isinstance(outputs, torch.Tensor) else outputs[0])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
