"""What holds for every network of the atlas; a new family is covered without a new line here."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.measure import Cost, cost_of
from convatlas.measure.table import build_without_memory, empty_batch, record_layer_calls
from convatlas.networks.lenet import FullyConnectedSpec, LeNetSpec
from convatlas.spec import Spec, Variant

MANY_CONVOLUTIONS = 24

FEW = settings(max_examples=max(2, settings().max_examples // 5))
"""Where each example builds a network."""

pytestmark = pytest.mark.usefixtures("one_thread")

every_variant = pytest.mark.at_once("variant", atlas.variants())
every_objective = pytest.mark.parametrize(
    "variant",
    {variant.objective: variant for variant in reversed(atlas.variants())}.values(),
    ids=lambda variant: type(variant.objective).__name__,
)


@cache
def num_convolutions(variant: Variant) -> int:
    network = build_without_memory(variant.network, variant.spec)
    return sum(isinstance(layer, nn.Conv2d) for layer in network.modules())


def few_units(variant: Variant) -> float:
    """The depth that leaves no more convolutions than a test has time for, as far as one unit a stage does."""
    return MANY_CONVOLUTIONS / max(num_convolutions(variant), MANY_CONVOLUTIONS)


def tiny(variant: Variant, depth: float = 1.0) -> Spec:
    """Narrow, on the smallest images, and with fewer units where there are very many."""
    smallest = variant.spec.smallest_resolution
    return variant.spec.scaled(width=0.25, depth=few_units(variant) * depth, resolution=smallest)


def images(spec: Spec, num: int = 16) -> Tensor:
    return torch.randn(num, spec.in_channels, spec.resolution, spec.resolution)


def build(variant: Variant, spec: Spec, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return variant.network(spec)


def loss_of(variant: Variant, network: nn.Module, spec: Spec, num: int = 16) -> Tensor:
    targets = torch.eye(spec.num_classes)[torch.arange(num) % spec.num_classes]
    return variant.objective.losses(network(images(spec, num)), targets).mean()


def built_and_used(variant: Variant, spec: Spec) -> nn.Module:
    """In evaluation mode, after batch normalization has seen images."""
    network = build(variant, spec).train()
    with torch.no_grad():
        network(images(spec))
    return network.eval()


@cache
def cost(variant: Variant, spec: Spec) -> Cost:
    return cost_of(variant.network, spec)


def never_cheaper(costs: list[Cost]) -> bool:
    return all(one.params <= other.params and one.macs <= other.macs for one, other in pairwise(costs))


# --- building and running ----------------------------------------------------------------------------------------


@pytest.mark.at_once("structure")
def test_a_network_is_built_from_its_spec_and_keeps_it(structure: Variant) -> None:
    spec = tiny(structure)
    network = build(structure, spec)
    assert network.spec == spec
    assert type(network) is structure.network


@pytest.mark.few_structures
@FEW
@given(data=st.data())
def test_outputs_are_a_row_a_image_and_a_column_a_class_at_any_size(structure_name: str, data: st.DataObject) -> None:
    variant = atlas.find(structure_name)
    smallest, limit = variant.spec.smallest_resolution, variant.spec.small_below
    spec = atlas.scale(
        variant,
        num_classes=data.draw(st.integers(1, 14), "classes"),
        in_channels=data.draw(st.integers(1, 4), "channels"),
        width=data.draw(st.floats(0.13, 0.4), "width"),
        depth=data.draw(st.floats(0.1, 1.5), "depth"),
        resolution=data.draw(st.integers(smallest, max(smallest, limit) + 10), "resolution"),
    )
    num = data.draw(st.integers(1, 3), "images")
    with torch.inference_mode():
        outputs = build(variant, spec).eval()(images(spec, num))
    assert outputs.shape == (num, spec.num_classes)
    assert outputs.isfinite().all()


def parameters_without_gradient(variant: Variant, spec: Spec, draws: int = 8) -> set[str]:
    """After some draws: in a single one dropout, drop-connect and rectification may keep it from a few."""
    network = build(variant, spec).train()
    unreached = dict(network.named_parameters())
    for _ in range(draws):
        loss_of(variant, network, spec).backward()
        assert all(value.grad is None or value.grad.isfinite().all() for value in network.parameters())
        unreached = {name: value for name, value in unreached.items() if value.grad is None or not value.grad.any()}
        if not unreached:
            break
    return set(unreached)


def test_the_gradient_of_the_loss_reaches_every_parameter(structure: Variant) -> None:
    assert parameters_without_gradient(structure, tiny(structure)) == set()


def test_the_gradient_of_the_loss_reaches_every_parameter_at_twice_the_depth(scaling: Variant) -> None:
    assert parameters_without_gradient(scaling, tiny(scaling, depth=2)) == set()


@pytest.mark.at_once("structure")
def test_the_same_seed_gives_the_same_network_and_another_seed_another(structure: Variant) -> None:
    spec = tiny(structure)
    one, same, other = (build(structure, spec, seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.few_structures
def test_a_image_is_answered_the_same_alone_and_in_company(structure: Variant) -> None:
    spec = tiny(structure)
    network = built_and_used(structure, spec).double()
    batch = images(spec, 3).double()
    with torch.inference_mode():
        alone = torch.cat([network(batch[i : i + 1]) for i in range(3)])
        assert torch.allclose(network(batch), alone, rtol=1e-9, atol=1e-9)


@pytest.mark.few_structures
def test_weights_and_statistics_survive_a_file(structure: Variant) -> None:
    spec = tiny(structure)
    network = built_and_used(structure, spec)
    restored = build(structure, spec, seed=1).eval()
    restored.load_state_dict(load(save(network.state_dict())), strict=True)
    batch = images(spec, 3)
    with torch.inference_mode():
        assert torch.equal(network(batch), restored(batch))
    read = restored.state_dict()
    assert all(torch.equal(value, read[name]) for name, value in network.state_dict().items())


@pytest.mark.at_once("structure")
def test_training_and_evaluation_use_the_same_names_of_weights(structure: Variant) -> None:
    network = build_without_memory(structure.network, structure.spec)
    names = list(network.train().state_dict())
    assert list(network.eval().state_dict()) == names


# --- small images ----------------------------------------------------------------------------------------------


def is_head(name: str, layer: nn.Module) -> bool:
    """Global pooling, or the first layer that is connected to all of the maps."""
    return isinstance(layer, nn.Linear) or name == "c5" or (isinstance(layer, nn.AdaptiveAvgPool2d) and "." not in name)


def side_of_the_last_map(variant: Variant, spec: Spec) -> int:
    side = 0
    for name, layer, output in record_layer_calls(build_without_memory(variant.network, spec), empty_batch(spec))[0]:
        if is_head(name, layer):
            break
        side = output.shape[-1]
    return side


def test_the_last_map_before_the_head_is_at_least_2x2(structure: Variant) -> None:
    if isinstance(structure.spec, FullyConnectedSpec):
        # It has no maps.
        return
    edges = {limit + more for limit in structure.spec.small_limits for more in (-1, 0, 1)}
    for resolution in edges | {structure.spec.smallest_resolution, 28, 32, structure.spec.resolution}:
        spec = replace(tiny(structure), resolution=resolution)  # type: ignore[type-var]
        assert side_of_the_last_map(structure, spec) >= 2, resolution


@pytest.mark.at_once("structure")
def test_under_its_limit_a_network_is_built_with_its_small_image_stem(structure: Variant) -> None:
    spec = structure.spec
    assert spec.num_skipped_downsamplings == 0
    if spec.small_limits:
        assert len(spec.small_limits) == len(spec.small_stem)
    for limit in spec.small_limits:
        below, above = (spec.scaled(resolution=resolution) for resolution in (limit - 1, limit))
        assert below.num_skipped_downsamplings == above.num_skipped_downsamplings + 1
        sides = [
            side_of_the_last_map(structure, replace(tiny(structure), resolution=resolution))  # type: ignore[type-var]
            for resolution in (limit - 1, limit)
        ]
        assert sides[0] > sides[1]


@pytest.mark.at_once("structure")
def test_no_small_network_costs_more_than_the_papers_own(structure: Variant) -> None:
    thin = tiny(structure)
    own = cost(structure, replace(thin, resolution=structure.spec.resolution))  # type: ignore[type-var]
    for limit in structure.spec.small_limits:
        small = cost(structure, replace(thin, resolution=limit - 1))  # type: ignore[type-var]
        assert small.params <= own.params
        assert small.macs < own.macs


def trains(variant: Variant, resolution: int, channels: int) -> bool:
    """Whether the loss is finite, its gradient reaches the images, and evaluation answers with a row an image."""
    spec = replace(tiny(variant), resolution=resolution, in_channels=channels)  # type: ignore[type-var]
    network = build(variant, spec).train()
    batch = images(spec, 4).requires_grad_()
    loss = variant.objective.losses(network(batch), torch.eye(spec.num_classes)[:4]).mean()
    loss.backward()
    with torch.inference_mode():
        outputs = network.eval()(images(spec, 2))
    assert outputs.shape == (2, spec.num_classes)
    return bool(loss.isfinite() and batch.grad.any() and batch.grad.isfinite().all())  # type: ignore[union-attr]


def test_a_network_trains_on_images_of_28_pixels(structure: Variant) -> None:
    assert trains(structure, 28, channels=1)


def test_a_network_trains_on_images_of_28_pixels_in_color(scaling: Variant) -> None:
    assert trains(scaling, 28, channels=3)


def train_at_the_limits_of_the_stem(variant: Variant) -> None:
    for limit in variant.spec.small_limits or (variant.spec.smallest_resolution + 1,):
        assert trains(variant, limit - 1, channels=1)
        assert trains(variant, limit, channels=3)


def test_a_network_trains_just_below_and_at_the_limits_of_its_stem(scaling: Variant) -> None:
    train_at_the_limits_of_the_stem(scaling)


@pytest.mark.slow
def test_every_structure_trains_just_below_and_at_the_limits_of_its_stem(structure: Variant) -> None:
    train_at_the_limits_of_the_stem(structure)


# --- scaling -----------------------------------------------------------------------------------------------------


@every_variant
def test_the_papers_size_does_not_depend_on_scaling_by_one(variant: Variant) -> None:
    assert variant.spec.scaled(1, 1) == variant.spec
    assert variant.spec.compound(0) == variant.spec
    assert variant.spec.compound(0, alpha=3, beta=0.1, gamma=7) == variant.spec


@pytest.mark.at_once("structure")
def test_twice_the_width_is_dearer(structure: Variant) -> None:
    costs = [cost(structure, tiny(structure).scaled(width=width)) for width in (1, 2, 4, 8)]
    for narrow, wide in pairwise(costs):
        assert narrow.params < wide.params
        assert narrow.macs < wide.macs


@FEW
@given(one=st.floats(0.25, 3), other=st.floats(0.25, 3), nearby=st.floats(1, 1.05))
def test_a_wider_network_is_never_cheaper(scaling_name: str, one: float, other: float, nearby: float) -> None:
    variant = atlas.find(scaling_name)
    narrow, wide = sorted((one, other))
    widths = [narrow, narrow * nearby, wide, wide * nearby]
    if isinstance(variant.spec, LeNetSpec):
        # Its connection tables keep their pattern, so that a few per cent more width may draw a sparser row.
        widths = [narrow, 1.5 * narrow]
    costs = [cost(variant, tiny(variant).scaled(width=4 * width)) for width in sorted(widths)]
    assert never_cheaper(costs)


@pytest.mark.at_once("structure")
def test_twice_the_depth_is_dearer(structure: Variant) -> None:
    costs = [cost(structure, tiny(structure, depth)) for depth in (1, 2, 4)]
    for shallow, deep in pairwise(costs):
        assert shallow.params < deep.params
        assert shallow.macs < deep.macs


@FEW
@given(one=st.floats(0.01, 3), other=st.floats(0.01, 3))
def test_a_deeper_network_is_never_cheaper(scaling_name: str, one: float, other: float) -> None:
    variant = atlas.find(scaling_name)
    assert never_cheaper([cost(variant, tiny(variant, depth)) for depth in sorted((one, other))])


@FEW
@given(data=st.data())
def test_a_larger_image_is_never_cheaper_on_the_same_side_of_the_small_stems_limit(
    scaling_name: str, data: st.DataObject
) -> None:
    # Just below a limit a network is dearer than just above it: its stem leaves out a halving there.
    variant = atlas.find(scaling_name)
    edges = [variant.spec.smallest_resolution, *sorted(variant.spec.small_limits), 301]
    for smallest, limit in pairwise(edges):
        resolutions = st.integers(smallest, limit - 1)
        sides = sorted(data.draw(st.tuples(resolutions, resolutions), "resolutions"))
        specs = [replace(tiny(variant), resolution=side) for side in sides]  # type: ignore[type-var]
        assert never_cheaper([cost(variant, spec) for spec in specs])


@pytest.mark.at_once("structure")
def test_twice_the_side_of_the_image_is_dearer(structure: Variant) -> None:
    side = max(structure.spec.small_below, structure.spec.smallest_resolution, 33)
    small, large = (replace(tiny(structure), resolution=n) for n in (side, 2 * side))  # type: ignore[type-var]
    assert cost(structure, small).macs < cost(structure, large).macs
    assert never_cheaper([cost(structure, small), cost(structure, large)])


@FEW
@given(classes=st.integers(1, 1200))
def test_more_classes_are_never_cheaper(scaling_name: str, classes: int) -> None:
    variant = atlas.find(scaling_name)
    few, more = (replace(tiny(variant), num_classes=n) for n in (classes, classes + 1))  # type: ignore[type-var]
    assert cost(variant, few).macs < cost(variant, more).macs
    assert cost(variant, few).params <= cost(variant, more).params


constants = st.floats(0.8, 1.6)


@settings(max_examples=15)
@given(phi=st.floats(-2, 4), alpha=constants, beta=constants, gamma=constants)
def test_compound_scaling_is_three_powers_of_phi(
    scaling_name: str, phi: float, alpha: float, beta: float, gamma: float
) -> None:
    spec = atlas.find(scaling_name).spec
    side = math.floor(spec.resolution * gamma**phi + 0.5)
    if side < spec.smallest_resolution:
        with pytest.raises(UserError, match=f"{side} px is too small"):
            spec.compound(phi, alpha, beta, gamma)
    else:
        expected = spec.scaled(width=beta**phi, depth=alpha**phi, resolution=side)
        assert spec.compound(phi, alpha, beta, gamma) == expected


@every_variant
def test_compound_scaling_has_the_constants_of_its_paper(variant: Variant) -> None:
    # Tan and Le 2019, section 3.3.
    spec = variant.spec
    side = math.floor(spec.resolution * 1.15**3 + 0.5)
    assert spec.compound(3) == spec.scaled(width=1.1**3, depth=1.2**3, resolution=side)


# --- objectives --------------------------------------------------------------------------------------------------


@every_objective
@settings(max_examples=40)
@given(data=st.data())
def test_probabilities_are_a_distribution_that_agrees_with_the_largest_output(
    variant: Variant, data: st.DataObject
) -> None:
    row = data.draw(st.lists(st.integers(-170, 170), min_size=2, max_size=12, unique=True))
    outputs = torch.tensor([row], dtype=torch.float32) / 100
    probabilities = variant.objective.probabilities(outputs)
    assert probabilities.shape == outputs.shape
    assert probabilities.min() >= 0
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    # A prediction takes the likeliest class, an evaluation the largest output: they must be the same.
    assert probabilities.argmax(1).tolist() == outputs.argmax(1).tolist()


@every_objective
def test_a_images_loss_does_not_depend_on_the_batch(variant: Variant) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(6, 5, dtype=torch.float64)
    targets = torch.eye(5, dtype=torch.float64)[[0, 1, 2, 3, 4, 0]]
    losses = variant.objective.losses
    singles = [losses(outputs[i : i + 1], targets[i : i + 1]).item() for i in range(6)]
    assert losses(outputs, targets).tolist() == pytest.approx(singles)


@every_objective
def test_the_loss_falls_when_the_right_class_wins(variant: Variant) -> None:
    targets = torch.eye(4)[[2]]
    right, wrong = torch.eye(4)[[2]] * 1.5 - 0.75, torch.eye(4)[[0]] * 1.5 - 0.75
    assert variant.objective.losses(right, targets) < variant.objective.losses(wrong, targets)


# --- mistakes ----------------------------------------------------------------------------------------------------


@every_variant
def test_a_spec_made_by_hand_is_held_to_the_same_limits(variant: Variant) -> None:
    wrong = ({"num_classes": 0}, {"in_channels": 0}, {"resolution": variant.spec.smallest_resolution - 1})
    for numbers in wrong:
        with pytest.raises(UserError):
            replace(variant.spec, **numbers)  # type: ignore[type-var]
