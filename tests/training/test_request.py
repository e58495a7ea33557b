"""What a request refuses before anything is read, in one line that names the argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from inspect import signature

import pytest

from convatlas.errors import UserError
from convatlas.recipe import Recipe
from convatlas.runs.options import Distillation, InitFrom, Runtime, Validation, WeightConstraint
from convatlas.spec import Scale
from convatlas.training import Request, recipes, train


def request(**arguments: object) -> Request:
    """A request whose network would be an error if anything looked it up."""
    return Request(network="no such network", **arguments)  # type: ignore[arg-type]


def test_a_request_is_the_same_by_default_as_training_without_arguments() -> None:
    defaults = {name: parameter.default for name, parameter in signature(train).parameters.items()}
    # These two say where and for whom, not what.
    del defaults["out"], defaults["progress"]
    of_request = {field.name: field.default for field in fields(Request)}
    del defaults["network"], of_request["network"]
    assert of_request == defaults


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_every_seed_of_63_bits_is_accepted(seed: int) -> None:
    assert request(seed=seed).seed == seed


def start(*, freeze: bool = False) -> InitFrom:
    return InitFrom(path="x", freeze=freeze)


@pytest.mark.parametrize(
    ("make", "argument", "message"),
    [
        (lambda: request(seed=-1), "seed", "`seed` -1 is out of range; it must be an integer from 0 to"),
        (lambda: request(seed=2**63), "seed", "is out of range"),
        (lambda: request(stop_at_error=25), "stop_at_error", "`stop_at_error` 25 does not work; it must be 0 to 1"),
        (lambda: request(stop_at_error=-0.01), "stop_at_error", "it must be 0 to 1"),
        (lambda: request(stop_at_error=float("nan")), "stop_at_error", "it must be 0 to 1"),
        (lambda: request(class_weights="even"), "class_weights", "'even' is unknown; the only choice is 'balanced'"),
        (lambda: request(class_weights=""), "class_weights", "the only choice is 'balanced'"),
        (
            lambda: request(init_from=start(freeze=True), recipe="paper"),
            "freeze",
            "papers' recipes train whole network",
        ),
        (
            lambda: request(init_from=start(freeze=True), distillation=Distillation(teacher="y")),
            "freeze",
            "no teacher sees the images",
        ),
        (
            lambda: InitFrom(path="x", freeze=True, constraint=WeightConstraint.ZEROS),
            "freeze",
            "a constraint keeps the old one",
        ),
        (lambda: Validation(val_split=0), "val_split", "`val_split` 0 splits nothing; it must be between 0 and 1"),
        (lambda: Validation(val_split=1), "val_split", "splits nothing"),
        (lambda: Validation(val_split=-0.1), "val_split", "splits nothing"),
        (lambda: Validation(val_split=float("nan")), "val_split", "splits nothing"),
        (lambda: Validation(patience=0), "patience", "`patience` 0 does not work; it must be at least 1"),
        (lambda: Runtime(micro_batch=0), "micro_batch", "`micro_batch` 0 does not work; it must be at least 1"),
        (lambda: Runtime(checkpoint_steps=-1), "checkpoint_steps", "`checkpoint_steps` -1 does not work"),
        (lambda: Distillation(teacher="x", temperature=0.0), "temperature", "`temperature` 0 does not work"),
        (lambda: Distillation(teacher="x", temperature=float("inf")), "temperature", "it must be 0.01 to 1000"),
        (lambda: Distillation(teacher="x", temperature=float("nan")), "temperature", "it must be 0.01 to 1000"),
        (lambda: Distillation(teacher="x", distill_weight=0.0), "distill_weight", "above 0 and at most 1"),
        (lambda: Distillation(teacher="x", distill_weight=1.5), "distill_weight", "`distill_weight` 1.5 does not work"),
        (lambda: Distillation(teacher="x", attention_weight=-1.0), "attention_weight", "it must be 0 to 1e+09"),
        (lambda: Distillation(teacher="x", attention_weight=float("inf")), "attention_weight", "it must be 0 to 1e+09"),
    ],
)
def test_arguments_that_cannot_work_are_a_one_line_error_before_anything_is_read(
    make: Callable[[], object], argument: str, message: str
) -> None:
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)
    assert f"`{argument}`" in str(error.value)
    assert "--" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_frozen_body_takes_a_custom_recipe() -> None:
    custom: Recipe = recipes.DEFAULT
    assert request(init_from=start(freeze=True), recipe=custom).recipe is custom


def test_the_papers_recipe_and_a_teacher_work_with_weights_that_are_not_frozen() -> None:
    teacher = Distillation(teacher="y", distill_weight=1.0)
    asked = request(init_from=start(), recipe="paper", distillation=teacher)
    assert (asked.init_from, asked.recipe, asked.distillation) == (start(), "paper", teacher)


def test_a_request_takes_options_in_their_groups_only() -> None:
    assert request(scale=Scale(width=0.5)).scale.width == 0.5
    for name in ("width", "device", "autotune", "patience", "freeze"):
        with pytest.raises(TypeError, match=name):
            request(**{name: 1})
