"""One step: the gradient of the mean loss over a whole batch, in pieces or at once."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas.data.batches import Batch
from convatlas.networks.blocks import CrossEntropy
from convatlas.runs.options import Execution
from convatlas.training.step import Step, parts

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
def test_pieces_are_the_batch_in_order_and_no_larger_than_asked(num: int, size: int | None) -> None:
    batch = batch_of(num, in_all=99)
    pieces = list(parts(batch, size))
    for field in range(4):
        assert torch.equal(torch.cat([piece[field] for piece, _ in pieces]), batch[field])
    assert [last for _, last in pieces] == [False] * (len(pieces) - 1) + [True]
    lengths = [len(piece.labels) for piece, _ in pieces]
    # One more where a single image would be left, which could not be normalized.
    assert max(lengths) <= (size or num) + (size in (1, 2))
    assert max(lengths) - min(lengths) <= 1
    assert {piece.num_in_all for piece, _ in pieces} == {99}


@given(num=st.integers(2, 12), size=st.integers(2, 5))
def test_no_piece_of_several_images_at_a_time_is_a_single_one(num: int, size: int) -> None:
    assert min(len(piece.labels) for piece, _ in parts(batch_of(num), size)) >= 2


@pytest.mark.parametrize("size", [None, 1, 2])
def test_a_share_of_no_images_is_one_piece_that_others_wait_for(size: int | None) -> None:
    (piece, last), *more = parts(batch_of(0, in_all=3), size)
    assert (len(piece.labels), last, more) == (0, True, [])
    told = step_of(network_of(), micro_batch=size).gradient(batch_of(0, in_all=3))
    assert (told.loss, told.num, told.finite) == (0.0, 0, True)


@given(num=st.integers(1, 12), size=st.integers(1, 12), uneven=st.booleans())
def test_pieces_have_the_gradient_of_the_mean_over_all(num: int, size: int, uneven: bool) -> None:
    weights = torch.tensor([0.5, 2.0, 1.0]) if uneven else torch.ones(3)
    batch = batch_of(num)
    expected = network_of()
    # By hand: each image's loss times the weight of its target.
    outputs = expected(batch.inputs)
    each = -(batch.targets * F.log_softmax(outputs, 1)).sum(1) * (batch.targets * weights).sum(1)
    each.mean().backward()
    for micro_batch in (None, size):
        network = network_of()
        told = step_of(network, weights, micro_batch).gradient(batch)
        assert close(gradients(network), gradients(expected))
        assert told.losses.tolist() == pytest.approx(each.tolist(), rel=1e-4)
        assert told.loss == pytest.approx(each.sum().item(), rel=1e-4)
        assert told.right == int((outputs.argmax(1) == batch.labels).sum())
        assert told.num == num
        assert told.finite
        length = math.sqrt(sum(value.square().sum().item() for value in gradients(expected)))
        assert told.norm.item() == pytest.approx(length, rel=1e-4)


def test_a_part_of_a_batch_counts_as_a_part_of_its_mean() -> None:
    whole, half, other = network_of(), network_of(), network_of()
    batch = batch_of(6)
    step_of(whole).gradient(batch)
    for network, places in ((half, slice(0, 2)), (other, slice(2, 6))):
        step_of(network).gradient(Batch(*(values[places] for values in batch[:4]), 6))
    # As processes add them up, where each takes its mean over all of them.
    assert close([a + b for a, b in zip(gradients(half), gradients(other), strict=True)], gradients(whole))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_image_without_a_loss_is_told(value: float) -> None:
    batch = batch_of(5)
    batch.inputs[3] = value
    told = step_of(network_of()).gradient(batch)
    assert not told.finite
    assert told.losses.isfinite().tolist() == [True, True, True, False, True]


def test_a_gradient_without_a_number_is_told_where_every_loss_is_one() -> None:
    class Steep(nn.Module):
        """Finite everywhere, with a slope that is not."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.flatten(1)[:, :3] + self.weight.abs().sqrt()

    told = step_of(Steep()).gradient(batch_of(4))
    assert told.losses.isfinite().all()
    assert math.isfinite(told.loss)
    assert not told.finite


def test_losses_that_are_large_and_finite_are_not_called_lost() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, inputs: Tensor) -> Tensor:
            return (torch.tensor([0.0, 2e38, -1e38]) + 0 * self.weight).expand(len(inputs), 3)

    labels = torch.zeros(5, dtype=torch.long)
    batch = Batch(torch.zeros(5, 1, 2, 2), F.one_hot(labels, 3).float(), labels, torch.arange(5), 5)
    told = step_of(Large()).gradient(batch)
    assert told.losses.isfinite().all()
    # Five of them are more than single precision holds; which image would be to blame?
    assert math.isfinite(told.loss)
