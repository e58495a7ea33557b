"""What holds for every network of the atlas; a new family is covered without a new line here."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.measure import layers_of
from convatlas.spec import Layers, Spec, Variant

every_variant = pytest.mark.parametrize("variant", atlas.variants(), ids=lambda variant: variant.name)
# For hypothesis, which prints every argument of a failure.
every_name = pytest.mark.parametrize("name", [variant.name for variant in atlas.variants()])


def is_small(variant: Variant) -> bool:
    return layers_of(variant.network, variant.spec).params < 3_000_000


def affordable(variant: Variant, depth: float = 1.0) -> Spec:
    """The paper's own network where a test can run it, else a narrow one on the smallest pictures."""
    if is_small(variant):
        return variant.spec.scaled(depth=depth)
    return variant.spec.scaled(width=0.25, depth=depth, resolution=variant.spec.smallest_resolution)


def pictures(spec: Spec, num: int = 4) -> torch.Tensor:
    return torch.randn(num, spec.in_channels, spec.resolution, spec.resolution)


def build(variant: Variant, spec: Spec, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return variant.network(spec)


def cost(variant: Variant, spec: Spec) -> Layers:
    return layers_of(variant.network, spec)


@every_variant
def test_a_network_is_built_from_its_spec_and_keeps_it(variant: Variant) -> None:
    spec = affordable(variant)
    network = build(variant, spec)
    assert network.spec == spec
    assert type(network) is variant.network


@every_name
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_outputs_are_a_row_a_picture_and_a_column_a_class_at_any_size(name: str, data: st.DataObject) -> None:
    variant = atlas.find(name)
    widths = st.floats(0.25, 2.0) if is_small(variant) else st.floats(0.125, 0.25)
    smallest = variant.spec.smallest_resolution
    spec = atlas.scale(
        variant,
        num_classes=data.draw(st.integers(1, 14), "classes"),
        in_channels=data.draw(st.integers(1, 4), "channels"),
        width=data.draw(widths, "width"),
        depth=data.draw(st.floats(0.5, 3.0), "depth"),
        resolution=data.draw(st.integers(smallest, smallest + 20), "resolution"),
    )
    num = data.draw(st.integers(1, 3), "pictures")
    with torch.inference_mode():
        outputs = build(variant, spec).eval()(pictures(spec, num))
    assert outputs.shape == (num, spec.num_classes)
    assert outputs.isfinite().all()


@every_variant
@pytest.mark.parametrize("depth", [1, 2])
def test_the_gradient_of_the_loss_reaches_every_parameter(variant: Variant, depth: float) -> None:
    spec = affordable(variant, depth)
    network = build(variant, spec).train()
    targets = torch.eye(spec.num_classes)[torch.arange(4) % spec.num_classes]
    variant.objective.loss(network(pictures(spec)), targets).backward()
    unreached = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert unreached == []


@every_variant
def test_the_same_seed_gives_the_same_network_and_another_seed_another(variant: Variant) -> None:
    spec = affordable(variant)
    one, same, other = (dict(build(variant, spec, seed).named_parameters()) for seed in (5, 5, 6))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


@every_variant
def test_a_picture_is_answered_the_same_alone_and_in_company(variant: Variant) -> None:
    spec = affordable(variant)
    network = build(variant, spec).double().eval()
    batch = pictures(spec).double()
    with torch.inference_mode():
        alone = torch.cat([network(batch[i : i + 1]) for i in range(4)])
        assert torch.allclose(network(batch), alone, rtol=1e-9, atol=1e-9)


@every_variant
@pytest.mark.parametrize("depth", [1, 2])
def test_weights_survive_a_file(variant: Variant, depth: float) -> None:
    spec = affordable(variant, depth)
    network = build(variant, spec).eval()
    restored = build(variant, spec, seed=1).eval()
    content = save({name: value.contiguous() for name, value in network.state_dict().items()})
    restored.load_state_dict(load(content), strict=True)
    batch = pictures(spec)
    with torch.inference_mode():
        assert torch.equal(network(batch), restored(batch))


@every_variant
def test_the_papers_size_does_not_depend_on_scaling_by_one(variant: Variant) -> None:
    assert cost(variant, variant.spec.scaled(1, 1)) == cost(variant, variant.spec)


@every_variant
def test_twice_the_width_is_dearer(variant: Variant) -> None:
    tables = [cost(variant, variant.spec.scaled(width=width)) for width in (0.25, 0.5, 1, 2, 4)]
    for narrow, wide in pairwise(tables):
        assert narrow.params < wide.params
        assert narrow.macs < wide.macs


@every_variant
def test_a_wider_network_is_never_cheaper(variant: Variant) -> None:
    # LeNet's connection tables keep their pattern, so that a few per cent more width may draw a sparser row.
    few = any(isinstance(maps, tuple) for maps in vars(variant.spec).values())
    widths = (0.25, 0.5, 0.75, 1, 1.5, 2) if few else (0.25, 0.3, 0.4, 0.45, 0.55, 0.7, 0.9, 0.99, 1, 1.01, 1.3, 1.5, 2)
    tables = [cost(variant, variant.spec.scaled(width=width)) for width in widths]
    cheaper = [
        (narrow, wide)
        for narrow, wide, before, after in zip(widths, widths[1:], tables, tables[1:], strict=False)
        if after.params < before.params or after.macs < before.macs
    ]
    assert cheaper == []


@every_variant
def test_a_deeper_network_is_never_cheaper_and_twice_the_depth_is_dearer(variant: Variant) -> None:
    tables = [cost(variant, variant.spec.scaled(depth=depth)) for depth in (0.3, 1, 1.2, 2, 2.5, 4)]
    for shallow, deep in pairwise(tables):
        assert shallow.params <= deep.params
        assert shallow.macs <= deep.macs
    assert tables[1].params < tables[3].params < tables[5].params
    assert tables[1].macs < tables[3].macs < tables[5].macs


@every_variant
def test_larger_pictures_are_never_cheaper_and_twice_the_side_is_dearer(variant: Variant) -> None:
    side = variant.spec.resolution
    sides = sorted({variant.spec.smallest_resolution, side, side + 1, side + 7, 2 * side})
    tables = [cost(variant, variant.spec.scaled(resolution=resolution)) for resolution in sides]
    for small, large in pairwise(tables):
        assert small.params <= large.params
        assert small.macs <= large.macs
    assert cost(variant, variant.spec).macs < tables[-1].macs


@every_name
@settings(max_examples=5, deadline=None)
@given(st.integers(1, 30))
def test_more_classes_are_never_cheaper(name: str, classes: int) -> None:
    variant = atlas.find(name)
    few, more = (replace(variant.spec, num_classes=n) for n in (classes, classes + 1))  # type: ignore[type-var]
    assert cost(variant, few).macs < cost(variant, more).macs
    assert cost(variant, few).params <= cost(variant, more).params


@every_name
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_probabilities_are_a_distribution_that_agrees_with_the_largest_output(name: str, data: st.DataObject) -> None:
    variant = atlas.find(name)
    row = data.draw(st.lists(st.integers(-170, 170), min_size=2, max_size=12, unique=True))
    outputs = torch.tensor([row], dtype=torch.float32) / 100
    probabilities = variant.objective.probabilities(outputs)
    assert probabilities.shape == outputs.shape
    assert probabilities.min() >= 0
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    # A prediction takes the likeliest class, an evaluation the largest output: they must be the same.
    assert probabilities.argmax(1).tolist() == outputs.argmax(1).tolist()


@every_variant
def test_the_loss_is_the_mean_over_the_batch(variant: Variant) -> None:
    torch.manual_seed(0)
    outputs = torch.randn(6, 5, dtype=torch.float64)
    targets = torch.eye(5, dtype=torch.float64)[[0, 1, 2, 3, 4, 0]]
    loss = variant.objective.loss
    singles = [loss(outputs[i : i + 1], targets[i : i + 1]).item() for i in range(6)]
    assert loss(outputs, targets).item() == pytest.approx(sum(singles) / 6)


@every_variant
def test_the_loss_falls_when_the_right_class_wins(variant: Variant) -> None:
    targets = torch.eye(4)[[2]]
    right, wrong = torch.eye(4)[[2]] * 1.5 - 0.75, torch.eye(4)[[0]] * 1.5 - 0.75
    assert variant.objective.loss(right, targets) < variant.objective.loss(wrong, targets)


@every_variant
def test_a_spec_made_by_hand_is_held_to_the_same_limits(variant: Variant) -> None:
    wrong = ({"num_classes": 0}, {"in_channels": 0}, {"resolution": variant.spec.smallest_resolution - 1})
    for numbers in wrong:
        with pytest.raises(UserError):
            replace(variant.spec, **numbers)  # type: ignore[type-var]
