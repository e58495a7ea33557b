"""Random changes: what was asked for and no more, and the same for a part of a batch as for the whole."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from convatlas.data import Batches, Split
from convatlas.data.augment import PrincipalColors, affine_matrices, mix, pixel_grid, warp
from convatlas.data.batches import Batch, Shard
from convatlas.images import Preprocessing
from convatlas.recipe import Augmentation

CPU = torch.device("cpu")
SIDE = 12
RANDOM = np.random.default_rng(0)
DISTORTED = Augmentation(shift=0.2, scale=0.1, squeeze=0.1, shear=0.1, rotation=20, flip=True)
CROPPED = Augmentation(crop=0.3, aspect=1.5, flip=True, lighting=0.1)


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(num: int, channels: int = 1, side: int = SIDE) -> npt.NDArray[np.uint8]:
    return RANDOM.integers(0, 256, (num, channels, side, side), dtype=np.uint8)


def batches(
    images: npt.NDArray[np.uint8],
    augmentation: Augmentation | None,
    *,
    batch_size: int = 8,
    margin: int = 0,
    label_smoothing: float = 0.0,
    seed: int = 0,
    shard: Shard | None = None,
) -> Batches:
    """Each image a class of its own, and the values 0 to 255 as they are."""
    num, channels, side, _ = images.shape
    bytes_ = Preprocessing(
        resize=side, crop=side - 2 * margin, channels=channels, mean=(0.0,) * channels, std=(1 / 255,) * channels,
    )  # fmt: skip
    return Batches(
        Split(images, np.arange(num)),
        bytes_,
        num_classes=num,
        batch_size=batch_size,
        device=CPU,
        seed=seed,
        augmentation=augmentation,
        label_smoothing=label_smoothing,
        shard=shard,
    )


# Whole pixels


@pytest.mark.at_once("augmentation", [None, Augmentation()])
@pytest.mark.at_once("margin", [0, 1, 3])
def test_with_no_change_asked_training_sees_the_very_middle(augmentation: Augmentation | None, margin: int) -> None:
    images = noise(10, channels=3)
    middle = slice(margin, SIDE - margin)
    for batch in batches(images, augmentation, margin=margin).epoch(0):
        assert np.array_equal(batch.inputs.numpy(), images[batch.indices][..., middle, middle])


def places_of(changed: npt.NDArray[np.float32], whole: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Where in `whole` (channels, height, width) the image `changed` was cut."""
    side = changed.shape[-1]
    room = whole.shape[-1] - side
    return [
        (top, left)
        for top, left in itertools.product(range(room + 1), repeat=2)
        if np.allclose(changed, whole[:, top : top + side, left : left + side], atol=0.01)
    ]


def test_of_an_image_with_a_margin_training_reads_any_part_to_the_pixel() -> None:
    images = noise(300, side=9)
    # Half of them mirrored, since nothing asked is the middle.
    [batch] = batches(images, Augmentation(flip=True), batch_size=300, margin=1).epoch(0)
    seen = []
    for changed, index in zip(batch.inputs.numpy(), batch.indices, strict=True):
        places = places_of(changed, images[index]) + places_of(changed[..., ::-1], images[index])
        assert len(places) == 1
        seen += places
    counts = [seen.count(place) for place in itertools.product(range(3), repeat=2)]
    # All of them; those at the edges half as often, as rounding is.
    assert min(counts) >= 8
    assert max(counts) == counts[4]


def test_a_shift_moves_by_whole_pixels_and_the_background_moves_in() -> None:
    most = 3
    # Images on paper of their own color, which is what moves in.
    images = np.full((80, 3, SIDE, SIDE), 200, np.uint8)
    images[..., most:-most, most:-most] = noise(80, 3, SIDE - 2 * most)
    [batch] = batches(images, Augmentation(shift=most / SIDE), batch_size=80).epoch(0)
    seen = set()
    for changed, index in zip(batch.inputs.numpy(), batch.indices, strict=True):
        wide = np.pad(images[index], ((0, 0), (most, most), (most, most)), constant_values=200)
        [place] = places_of(changed, wide)
        seen.add(place)
    for direction in range(2):
        assert {place[direction] for place in seen} == set(range(2 * most + 1))


def test_the_background_of_each_channel_is_its_own() -> None:
    paper = np.array([10, 120, 250], np.uint8)
    images = np.broadcast_to(paper[:, None, None], (16, 3, SIDE, SIDE)).copy()
    for batch in batches(images, DISTORTED, batch_size=16).epoch(0):
        assert batch.inputs.numpy() == pytest.approx(images.astype(np.float32), abs=1e-3)


def test_a_flip_mirrors_left_and_right_to_the_pixel_for_about_half_of_the_images() -> None:
    images = noise(200)
    [batch] = batches(images, Augmentation(flip=True), batch_size=200).epoch(0)
    flipped = 0
    for changed, index in zip(batch.inputs.numpy(), batch.indices, strict=True):
        mirrored = np.allclose(changed, images[index, ..., ::-1], atol=0.01)
        assert mirrored or np.allclose(changed, images[index], atol=0.01)
        flipped += mirrored
    assert 60 < flipped < 140


# Maps


@pytest.mark.at_once("side", [1, 7, 8, 28, 32])
def test_the_identity_leaves_images_unchanged(side: int) -> None:
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).repeat(2, 1, 1)
    assert torch.allclose(warp(images, identity, pixel_grid(side)), images, atol=1e-5)


def test_a_quarter_turn_turns_and_each_image_has_its_own_map() -> None:
    images = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    # From a place in the changed image to the place in the given one: right comes from below.
    maps = torch.tensor([[[0.0, -1, 0], [1, 0, 0]], [[1, 0, 0], [0, 1, 0]]])
    changed = warp(images, maps, pixel_grid(9))
    assert torch.allclose(changed[0, 0], torch.rot90(images[0, 0]), atol=1e-5)
    assert torch.allclose(changed[1], images[1], atol=1e-5)


def maps_of(augmentation: Augmentation, num: int = 500, side: int = 28, seed: int = 0) -> Tensor:
    return affine_matrices(num, augmentation, side, side, seeded(seed))


def test_no_augmentation_is_the_identity_map() -> None:
    assert torch.equal(maps_of(Augmentation(), num=3), torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(3, 2, 3))


def test_size_changes_within_what_is_given_and_alike_in_both_directions() -> None:
    maps = maps_of(Augmentation(scale=0.1))
    sizes = 1 / maps[:, 0, 0]
    assert sizes.min() == pytest.approx(0.9, abs=0.01)
    assert sizes.max() == pytest.approx(1.1, abs=0.01)
    assert torch.equal(maps[:, 0, 0], maps[:, 1, 1])
    assert (maps[:, 0, 1:] == 0).all()


def test_a_turn_goes_both_ways_within_what_is_given_and_keeps_the_size() -> None:
    maps = maps_of(Augmentation(rotation=30))
    angles = torch.rad2deg(torch.atan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert angles.min() == pytest.approx(-30, abs=0.5)
    assert angles.max() == pytest.approx(30, abs=0.5)
    assert torch.allclose(maps[:, :, :2] @ maps[:, :, :2].mT, torch.eye(2).expand(500, 2, 2), atol=1e-5)


def test_shear_moves_sideways_only_and_in_proportion_to_the_height() -> None:
    maps = maps_of(Augmentation(shear=0.2))
    assert maps[:, 0, 1].min() == pytest.approx(-0.2, abs=0.01)
    assert maps[:, 0, 1].max() == pytest.approx(0.2, abs=0.01)
    assert (maps[:, [0, 1], [0, 1]] == 1).all()
    assert (maps[:, 1, 0] == 0).all()


@given(squeeze=st.floats(0, 0.3), shear=st.floats(0, 0.3), rotation=st.floats(0, 180), scale=st.floats(0, 0.3))
def test_only_scale_changes_the_area(squeeze: float, shear: float, rotation: float, scale: float) -> None:
    areas = [
        1 / torch.linalg.det(maps_of(augmentation, num=20)[:, :, :2])
        for augmentation in (
            Augmentation(squeeze=squeeze, shear=shear, rotation=rotation, scale=scale),
            Augmentation(scale=scale),
        )
    ]
    assert torch.allclose(areas[0], areas[1], atol=1e-3)


crops = st.floats(0.01, 1.0)
aspects = st.floats(1.0, 3.0)


@given(crop=crops, aspect=aspects, flip=st.booleans(), side=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_cut_stays_inside_the_image(crop: float, aspect: float, flip: bool, side: int, seed: int) -> None:
    maps = affine_matrices(20, Augmentation(crop=crop, aspect=aspect, flip=flip), side, side + 4, seeded(seed))
    # Its very corners too, which are further out than any pixel's center.
    corners = torch.tensor([[-1.0, -1, 1, 1], [-1, 1, -1, 1], [1, 1, 1, 1]])
    assert (maps @ torch.cat([pixel_grid(side), corners], 1)).abs().max() <= 1 + 1e-6


@given(crop=crops, aspect=aspects, seed=st.integers(0, 1000))
def test_a_cut_has_the_area_and_the_aspect_that_were_asked_for(crop: float, aspect: float, seed: int) -> None:
    # A smallest part that is as wide as that fits into the image; else the image's side ends it.
    assume(crop * aspect <= 1)
    maps = maps_of(Augmentation(crop=crop, aspect=aspect), num=50, seed=seed)
    width, height = maps[:, 0, 0], maps[:, 1, 1]
    assert (maps[:, [0, 1], [1, 0]] == 0).all()
    assert (width * height).min() >= crop - 1e-6
    assert torch.stack([width / height, height / width]).max() <= aspect * (1 + 1e-5)


def test_cuts_are_of_every_area_and_lie_everywhere() -> None:
    maps = maps_of(Augmentation(crop=0.25), num=2000)
    areas = maps[:, 0, 0] * maps[:, 1, 1]
    for part in (0.1, 0.5, 0.9):
        assert areas.quantile(part).item() == pytest.approx(0.25 + 0.75 * part, abs=0.03)
    # How much of the room beside the cut lies left of it and above it.
    for axis in range(2):
        places = maps[:, axis, 2] / (1 - maps[:, axis, axis])
        for part in (0.1, 0.5, 0.9):
            assert places.quantile(part).item() == pytest.approx(2 * part - 1, abs=0.06)


def test_a_cut_wider_than_the_image_is_as_wide_as_it() -> None:
    maps = maps_of(Augmentation(crop=1.0, aspect=2.0))
    width, height = maps[:, 0, 0], maps[:, 1, 1]
    # All of the image's area is asked for, and one side of each cut is shorter.
    assert torch.allclose(torch.maximum(width, height), torch.ones(500))
    assert torch.minimum(width, height).min() == pytest.approx(math.sqrt(1 / 2), abs=0.01)


# Functions of seed, epoch and step, and the same for every part of a batch


def whole_epoch(source: Batches, epoch: int = 0) -> list[Batch]:
    return list(source.epoch(epoch))


@pytest.mark.at_once("num_processes", [2, 3, 5])
@pytest.mark.at_once("augmentation", [None, DISTORTED, CROPPED])
@pytest.mark.at_once("margin", [0, 1])
def test_the_parts_of_several_processes_are_together_the_batch_of_one(
    num_processes: int, augmentation: Augmentation | None, margin: int
) -> None:
    images = noise(41, channels=3)
    options = {"batch_size": 12, "margin": margin, "label_smoothing": 0.1}
    alone = whole_epoch(batches(images, augmentation, **options), epoch=2)
    shares = [
        whole_epoch(batches(images, augmentation, shard=Shard(rank, num_processes), **options), epoch=2)
        for rank in range(num_processes)
    ]
    # Where the last of one process is too small for several, they have a step fewer.
    for step in range(len(shares[0]) - 1):
        inputs, *answers = (torch.cat([shard[step][part] for shard in shares]) for part in range(4))
        own_inputs, *own_answers = alone[step][:4]
        # A product of matrices may be rounded otherwise where it is of fewer images; it depends on the processor.
        torch.testing.assert_close(inputs, own_inputs, rtol=1e-5, atol=1e-5)
        assert all(torch.equal(ours, whole) for ours, whole in zip(answers, own_answers, strict=True))
        assert {shard[step].global_batch_size for shard in shares} == {len(alone[step].labels)}


def test_seed_epoch_and_step_each_change_how_an_image_is_changed() -> None:
    images = np.repeat(noise(1), 16, axis=0)
    shown = []
    for seed, epoch in itertools.product(range(2), repeat=2):
        shown += [batch.inputs for batch in whole_epoch(batches(images, DISTORTED, seed=seed), epoch)]
    for one, other in itertools.combinations(torch.cat(shown), 2):
        assert not torch.equal(one, other)


@pytest.mark.parametrize("augmentation", [DISTORTED, CROPPED, replace(CROPPED, mixup=0.5, cutmix=0.5)])
def test_the_same_seed_changes_alike_whatever_was_drawn_before(augmentation: Augmentation) -> None:
    images = noise(24, channels=3)
    expected = whole_epoch(batches(images, augmentation, seed=5), epoch=2)
    used = batches(images, augmentation, seed=5)
    for epoch in range(2):
        whole_epoch(used, epoch)
    torch.manual_seed(99)
    torch.rand(7)
    used.in_order(0)
    for one, other in zip(whole_epoch(used, epoch=2), expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


# Lighting


def colored(num: int) -> npt.NDArray[np.uint8]:
    """Images whose colors vary together, by far the most along one direction."""
    bright, rest = RANDOM.normal(0, 40, (num, 1, SIDE, SIDE)), RANDOM.normal(0, 8, (num, 3, SIDE, SIDE))
    direction = np.array([1.0, 0.8, 0.3])[:, None, None]
    return (128 + bright * direction + rest).clip(0, 255).astype(np.uint8)


def test_lighting_moves_each_image_by_one_constant_a_channel() -> None:
    images = colored(30)
    moves = []
    [batch] = batches(images, Augmentation(lighting=0.5), batch_size=30).epoch(0)
    for changed, index in zip(batch.inputs.numpy(), batch.indices, strict=True):
        move = changed - images[index]
        assert move == pytest.approx(np.broadcast_to(move.mean((1, 2), keepdims=True), move.shape), abs=0.01)
        moves.append(move.mean((1, 2)))
    # Each by another.
    assert np.ptp(np.stack(moves), axis=0).min() > 10


@pytest.mark.parametrize("std", [0.1, 1.0])
def test_colors_move_along_the_components_of_the_sets_own(std: float) -> None:
    images = colored(60)
    covariance = np.cov(images.transpose(1, 0, 2, 3).reshape(3, -1).astype(float))
    moves = PrincipalColors.of(images).shifts(20_000, std, seeded()).squeeze().numpy()
    assert moves.mean(0) == pytest.approx(np.zeros(3), abs=std)
    assert np.cov(moves.T) / std**2 == pytest.approx(covariance, rel=0.05, abs=0.02 * covariance.max())


def test_gray_images_have_one_component_and_a_set_of_one_color_none() -> None:
    images = noise(20)
    moves = PrincipalColors.of(images).shifts(20_000, 1.0, seeded())
    assert moves.shape == (20_000, 1, 1, 1)
    assert moves.std().item() == pytest.approx(images.std(), rel=0.05)
    assert not PrincipalColors.of(np.full((5, 3, 4, 4), 77, np.uint8)).shifts(9, 1.0, seeded()).any()


# Mixing


def numbered(num: int) -> Tensor:
    """Images of which each pixel says whose it is."""
    return torch.arange(num, dtype=torch.float32)[:, None, None, None].expand(num, 2, SIDE, SIDE).clone()


def mixed(num: int, augmentation: Augmentation, seed: int) -> tuple[Tensor, Tensor]:
    """Images and targets of as many classes, mixed."""
    inputs = numbered(num)
    targets = mix(inputs, torch.eye(num), augmentation, seeded(seed))
    return inputs, targets


@given(num=st.integers(1, 9), seed=st.integers(0, 10_000))
def test_targets_of_a_cut_and_pasted_image_are_the_areas_that_it_shows(num: int, seed: int) -> None:
    inputs, targets = mixed(num, Augmentation(cutmix=1.0), seed)
    for i in range(num):
        shown = inputs[i, 0].long()
        assert torch.equal(inputs[i, 0], inputs[i, 1])
        areas = torch.bincount(shown.flatten(), minlength=num) / SIDE**2
        torch.testing.assert_close(targets[i], areas)
        # Its own image and one other, in one rectangle.
        partner = num - 1 - i
        assert set(shown.unique().tolist()) <= {i, partner}
        rows, columns = torch.nonzero(shown == partner, as_tuple=True)
        if len(rows) and partner != i:
            assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


@given(num=st.integers(1, 9), seed=st.integers(0, 10_000))
def test_targets_of_overlaid_images_are_the_parts_of_the_blend(num: int, seed: int) -> None:
    inputs, targets = mixed(num, Augmentation(mixup=1.0), seed)
    for i in range(num):
        # A pixel that says whose it is, weighed by the targets.
        blend = (targets[i] * torch.arange(num)).sum()
        torch.testing.assert_close(inputs[i], blend.expand_as(inputs[i]))
        assert targets[i].nonzero().flatten().tolist() in ([i], [num - 1 - i], sorted({i, num - 1 - i}))


@pytest.mark.parametrize("kind", [Augmentation(mixup=1.0), Augmentation(cutmix=1.0)], ids=["overlaid", "pasted"])
def test_a_mixed_image_takes_on_the_classes_of_the_one_it_is_mixed_with(kind: Augmentation) -> None:
    # More classes than images, and not theirs in order.
    own = torch.eye(5)[[0, 3, 1]]
    targets = mix(numbered(3), own, kind, seeded(3))
    share = targets[0, 1]
    assert 0 < share < 1
    torch.testing.assert_close(targets, own.lerp(own[[2, 1, 0]], share))


def test_the_area_of_cuts_is_uniform_but_for_what_is_outside_and_blends_are_mostly_small() -> None:
    areas = torch.stack([1 - mixed(2, Augmentation(cutmix=1.0), seed)[1][0, 0] for seed in range(1000)])
    # A square of area a whose center is anywhere keeps (1 - sqrt(a) / 4)^2 of it in the mean, and a is uniform.
    assert areas.mean().item() == pytest.approx(
        sum((a / 100) * (1 - (a / 100) ** 0.5 / 4) ** 2 for a in range(100)) / 100, abs=0.03
    )
    assert areas.max() > 0.8
    shares = torch.stack([1 - mixed(2, Augmentation(mixup=1.0), seed)[1][0, 0] for seed in range(1000)])
    # Of Beta(0.2, 0.2): the mean is a half, the variance 1 / (4 x 1.4).
    assert shares.mean().item() == pytest.approx(0.5, abs=0.05)
    assert shares.var().item() == pytest.approx(1 / 5.6, rel=0.1)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.25, 0.25), (0.5, 0.0), (0.0, 0.3), (0.6, 0.4)])
def test_batches_are_mixed_as_often_as_is_asked_for(mixup: float, cutmix: float) -> None:
    num = 1500
    counts = {"whole": 0, "overlaid": 0, "pasted": 0}
    for seed in range(num):
        inputs, targets = mixed(2, Augmentation(mixup=mixup, cutmix=cutmix), seed)
        if torch.equal(targets, torch.eye(2)) and torch.equal(inputs, numbered(2)):
            counts["whole"] += 1
        else:
            counts["overlaid" if len(inputs[0].unique()) == 1 and 0 < inputs[0, 0, 0, 0] < 1 else "pasted"] += 1
    # A cut of no pixel, one of all of them and a blend of nearly nothing look like another kind.
    for name, part in (("whole", 1 - mixup - cutmix), ("overlaid", mixup), ("pasted", cutmix)):
        assert counts[name] / num == pytest.approx(part, abs=0.05), counts


def test_what_is_not_mixed_keeps_its_targets() -> None:
    inputs, targets = numbered(4), torch.eye(4)
    assert mix(inputs, targets, DISTORTED, seeded()) is targets
    assert torch.equal(inputs, numbered(4))


@given(
    num=st.integers(2, 12),
    mixup=st.sampled_from([0.0, 0.5]),
    cutmix=st.sampled_from([0.0, 0.5]),
    label_smoothing=st.floats(0, 0.5),
    epoch=st.integers(0, 100),
)
def test_targets_are_probabilities(num: int, mixup: float, cutmix: float, label_smoothing: float, epoch: int) -> None:
    augmentation = Augmentation(mixup=mixup, cutmix=cutmix, flip=True)
    for batch in batches(noise(num), augmentation, label_smoothing=label_smoothing).epoch(epoch):
        assert torch.allclose(batch.targets.sum(1), torch.ones(len(batch.labels)), atol=1e-6)
        assert batch.targets.min() >= label_smoothing / num - 1e-6


def test_label_smoothing_spreads_its_part_over_all_classes() -> None:
    [batch] = batches(noise(5), None, label_smoothing=0.1).epoch(0)
    expected = torch.full((5, 5), 0.1 / 5)
    expected[torch.arange(5), batch.labels] += 0.9
    torch.testing.assert_close(batch.targets, expected)


def test_a_mixed_image_keeps_the_label_by_which_answers_are_counted() -> None:
    images = noise(10)
    [batch] = batches(images, Augmentation(mixup=1.0), batch_size=10).epoch(0)
    assert torch.equal(batch.labels, batch.indices)


@pytest.mark.parametrize("augmentation", [Augmentation(mixup=1.0), Augmentation(cutmix=1.0)])
def test_all_processes_mix_a_batch_alike(augmentation: Augmentation) -> None:
    # Two images a process: each other's partner in any case, and so the same targets in all.
    images = noise(4)
    sources = [batches(images, augmentation, batch_size=4, shard=Shard(rank, 2)) for rank in range(2)]
    for epoch in range(5):
        shares = []
        for source in sources:
            [batch] = source.epoch(epoch)
            shares.append(batch.targets[0, batch.labels[1]].item())
        assert shares[0] == shares[1]
