"""A request finds its run again, whatever later versions add, and never takes another one's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas import atlas
from convatlas.data import find
from convatlas.errors import UserError
from convatlas.experiments.engine.request_key import asked_spec, canonical, check_is_of, key_of
from convatlas.images import ResizeMode
from convatlas.networks.lenet import FullyConnectedSpec
from convatlas.recipe import Augmentation, Cosine, Decayed, LinearDecay, Optimizer, Recipe, Staircase, Steps
from convatlas.runs.options import Distillation, InitFrom, Runtime, Validation, WeightConstraint
from convatlas.runs.run import Run
from convatlas.spec import Scale, Variant
from convatlas.training import Request
from convatlas.training.distribution import Processes
from convatlas.training.plan import plan, scaled_spec

RECIPE = Recipe(
    name="mine", optimizer=Optimizer.SGD, lr=0.1, schedule=Cosine(warmup=0.1), batch_size=32, epochs=2, momentum=0.9
)
SPEC = FullyConnectedSpec(hidden=(12, 7))


def some(*values: Any) -> st.SearchStrategy[Any]:
    """One of few values, so that two drawn ones are often equal."""
    return st.sampled_from(values)


SCHEDULES = st.one_of(
    st.builds(Cosine, warmup=some(0.0, 0.1)),
    st.just(LinearDecay()),
    st.builds(Steps, rates=some(((1, 0.1),), ((1, 0.1), (2, 0.01)), ((1.0, 0.1), (2, 0.01)))),
    st.builds(Staircase, factor=some(0.1, 0.5), every=some(1, 2), of=some(1, 2)),
)
RECIPES = st.builds(
    Recipe,
    name=some("a", "b"),
    optimizer=some(*Optimizer),
    lr=some(0.1, 1, 1.0, 1e300),
    schedule=SCHEDULES,
    batch_size=some(1, 2),
    epochs=some(1, 2),
    epochs_of=some(None, 10),
    decayed=some(*Decayed),
    augmentation=st.builds(Augmentation, shift=some(0, 0.1), flip=st.booleans()),
    sources=some((), (("lr", "section 4"),)),
)
SPECS = some(
    *(atlas.find(name).spec.scaled(width=width) for name in ("lenet1", "vgg11", "resnet20-cifar") for width in (0.5, 1))
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "network": some("lenet1", "lenet5"),
    "data": some("digits", "photos", Path("digits"), Path("photos"), Path("a/b")),
    "recipe": some("default", "paper", "mine") | RECIPES,
    "epochs": some(None, 1, 2),
    "batch_size": some(None, 1, 2),
    "lr": some(None, 0.1, 1, 1.0, 1e-3),
    "seed": some(0, 1, 2**63 - 1, 2**63 - 2),
    "scale": st.builds(Scale, width=some(1, 1.0, 0.5), depth=some(1, 2), resolution=some(None, 32), phi=some(0, 1.0)),
    "spec": st.none() | SPECS,
    "class_weights": some(None, "balanced"),
    "validation": st.none() | st.builds(Validation, val_split=some(0.1, 0.2), patience=some(None, 3)),
    "init_from": st.none() | st.builds(InitFrom, path=some("a", "b"), constraint=some(None, *WeightConstraint)),
    "distillation": st.none() | st.builds(Distillation, teacher=some("a", "b"), temperature=some(1, 2.0)),
    "runtime": st.builds(Runtime, device=some(None, "cpu"), autotune=st.booleans(), micro_batch=some(None, 8)),
    "skip_bad": st.booleans(),
    "stop_at_error": some(None, 0, 0.25, 0.5),
    "resize": some(None, *ResizeMode),
    "labels": some("labels.csv", Path("labels.csv"), Path("a/labels.csv")),
    "group_by": some(None, "patient"),
}
REQUESTS = st.builds(Request, **FIELDS)


def test_every_field_of_a_request_is_tried() -> None:
    assert FIELDS.keys() == {field.name for field in dataclasses.fields(Request)}


@given(REQUESTS, REQUESTS, st.sets(st.sampled_from(sorted(FIELDS)), max_size=3))
def test_keys_are_equal_exactly_if_requests_are(first: Request, other: Request, changed: set[str]) -> None:
    second = replace(first, **{name: getattr(other, name) for name in changed})
    assert (key_of(first) == key_of(second)) is (first == second)
    assert (key_of(first) == key_of(other)) is (first == other)


def test_a_key_is_the_same_in_every_version() -> None:
    request = Request(
        network="resnet20-cifar", data=Path("a/b"), recipe=RECIPE, seed=1, scale=Scale(width=0.5), spec=SPEC
    )
    assert key_of(Request(network="lenet1")) == "3761711efb61"
    assert key_of(request) == "ef3c00edcddf"


def with_field(kind: type, name: str, of_type: type, default: Any) -> Any:
    """A later version of a frozen dataclass, which has one field more."""
    return dataclasses.make_dataclass(
        kind.__name__, [(name, of_type, default)], bases=(kind,), frozen=True, kw_only=True
    )


@pytest.mark.parametrize("default", [None, 0.5, dataclasses.field(default_factory=Augmentation)])
def test_a_new_field_with_a_default_changes_no_key(default: Any) -> None:
    later = with_field(Request, "stop_at", object, default)
    assert key_of(later(network="lenet1", seed=3)) == key_of(Request(network="lenet1", seed=3))
    assert key_of(later(network="lenet1", seed=3, stop_at=0.25)) != key_of(Request(network="lenet1", seed=3))


def test_a_new_field_of_what_a_request_holds_changes_no_key() -> None:
    values = {field.name: getattr(RECIPE, field.name) for field in dataclasses.fields(Recipe)}
    later = with_field(Recipe, "lookahead", int, 0)
    assert key_of(Request(network="lenet1", recipe=later(**values))) == key_of(Request(network="lenet1", recipe=RECIPE))
    assert key_of(Request(network="lenet1", recipe=later(**values, lookahead=5))) != key_of(
        Request(network="lenet1", recipe=RECIPE)
    )


def test_a_value_whose_equality_json_does_not_know_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: object

    with pytest.raises(TypeError, match="a set has no place"):
        canonical(Odd({1}))


# Whether the run that lies there is what is asked for


def planned_run(request: Request, folder: Path) -> Run:
    """As `train` begins it."""
    planned = plan(request, Processes.from_env())
    return Run(folder, planned.card, planned.record)


LENET = atlas.find("lenet5-modern").spec
ASKED = [
    Request(network="lenet5-modern"),
    Request(network="lenet5-modern", epochs=3, batch_size=7, lr=0.5, seed=4),
    Request(network="lenet5-modern", recipe=RECIPE),
    Request(network="lenet5-modern", recipe=replace(RECIPE, epochs_of=10_000), lr=1),
    Request(network="lenet5-modern", recipe=replace(RECIPE, epochs_of=10_000), epochs=4),
    Request(network="lenet5-modern", spec=LENET.scaled(width=0.5), scale=Scale(resolution=40)),
    Request(network="lenet5-modern", scale=Scale(width=0.3, depth=2, phi=1)),
    Request(network="lenet5-modern", scale=Scale(resolution=36), class_weights="balanced", validation=Validation()),
]


@pytest.mark.parametrize("request_", ASKED)
def test_a_run_is_that_of_the_request_which_began_it(request_: Request, tmp_path: Path) -> None:
    check_is_of(planned_run(request_, tmp_path), request_)


@pytest.mark.parametrize("variant", atlas.variants(), ids=lambda variant: variant.name)
def test_a_network_at_any_scale_is_the_one_that_was_asked_for(variant: Variant) -> None:
    side = find("cifar10").typical_size[0]
    for scale in (Scale(), Scale(width=0.5), Scale(depth=2), Scale(phi=1.0), Scale(width=0.75, resolution=64)):
        request = Request(network=variant.name, scale=scale)
        own = replace(scaled_spec(request, variant, side), num_classes=10, in_channels=1)
        assert asked_spec(request, own) == own


def test_a_run_of_something_else_is_refused_with_the_folder_and_the_way_out(tmp_path: Path) -> None:
    request = Request(network="lenet5-modern", recipe=RECIPE, spec=LENET, validation=Validation(), seed=1)
    run = planned_run(request, tmp_path)
    others = [
        ("network", replace(request, network="lenet5")),
        ("seed", replace(request, seed=0)),
        ("recipe", replace(request, recipe=replace(RECIPE, weight_decay=0.1))),
        ("recipe", replace(request, epochs=9)),
        ("recipe", replace(request, batch_size=9)),
        ("recipe", replace(request, recipe="default", lr=9.0)),
        ("spec", replace(request, spec=LENET.scaled(width=2))),
        ("spec", replace(request, spec=None, scale=Scale(resolution=36))),
        ("class weights", replace(request, class_weights="balanced")),
        ("validation", replace(request, validation=Validation(val_split=0.2))),
    ]
    for name, other in others:
        with pytest.raises(UserError) as caught:
            check_is_of(run, other)
        assert str(caught.value) == (
            f"{tmp_path} holds a run whose {name} differs from what is asked for today; "
            "move that folder away to train anew"
        )
