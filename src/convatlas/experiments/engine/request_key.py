"""Which run is a request's: the key that names its folder, and whether the run there is what is asked for today."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import replace
from enum import Enum
from pathlib import PurePath
from typing import Any

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.recipe import Recipe
from convatlas.runs.run import Run
from convatlas.spec import Spec
from convatlas.training import Request
from convatlas.training.plan import adjusted, scaled_spec


def key_of(request: Request) -> str:
    """12 hexadecimal digits, the same for equal requests.

    Only what differs from its default counts: a new field with a default changes no key, and its run is found again. A
    default that changes does not change the key either, so that what is found is held against `check_is_of`.
    """
    return hashlib.sha256(json.dumps(canonical(request), sort_keys=True).encode()).hexdigest()[:12]


def canonical(value: Any) -> Any:
    """What a request holds, for JSON: equal for equal values, and for them alone.

    Raises:
        TypeError: it is of no type that a request may hold.
    """
    if dataclasses.is_dataclass(value):
        fields = {field.name: (getattr(value, field.name), default_of(field)) for field in dataclasses.fields(value)}
        return {type(value).__name__: {name: canonical(own) for name, (own, usual) in fields.items() if own != usual}}
    if isinstance(value, Enum):
        return canonical(value.value)
    if isinstance(value, tuple):
        return [canonical(part) for part in value]
    if isinstance(value, PurePath):
        return {"Path": value.as_posix()}
    if value is None or isinstance(value, str) or (isinstance(value, float) and not value.is_integer()):
        return value
    if isinstance(value, int | float):
        # 1, 1.0 and True are equal.
        return int(value)
    raise TypeError(f"a {type(value).__name__} has no place in a request's key")


def default_of(field: dataclasses.Field[Any]) -> Any:
    """`dataclasses.MISSING`, which equals nothing, if it has none."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def check_is_of(run: Run, request: Request) -> None:
    """Hold what a run's card and record say against what is asked for.

    Raises:
        UserError: something differs, since a default, a recipe or a network is no longer what it was.
    """
    card, record = run.card, run.record
    compared = {
        "network": (card.variant, request.network),
        "seed": (record.seed, request.seed),
        "recipe": (record.recipe, asked_recipe(request, record.recipe)),
        "spec": (run.spec, asked_spec(request, run.spec)),
        "class weights": (record.class_weights, request.class_weights),
        "validation": (record.validation, request.validation),
    }
    for name, (own, asked) in compared.items():
        if own != asked:
            raise UserError(
                f"{run.folder} holds a run whose {name} differs from what is asked for today; "
                "move that folder away to train anew"
            )


def asked_recipe(request: Request, own: Recipe) -> Recipe:
    """What a run's own recipe must be. One by name is made for the images; of it, only the numbers are compared."""
    recipe = request.recipe if isinstance(request.recipe, Recipe) else own
    asked = adjusted(recipe, request.epochs, request.batch_size, request.lr)
    # The epochs of `epochs_of` depend on the number of images.
    return replace(asked, epochs=own.epochs if asked.epochs_of else asked.epochs, epochs_of=None)


def asked_spec(request: Request, own: Spec) -> Spec:
    """What a run's own spec must be. Classes, channels and a resolution that is not asked for come from the images."""
    scale = request.scale
    if request.spec is None and scale.resolution is None:
        scale = replace(scale, resolution=own.resolution)
    asked = scaled_spec(replace(request, scale=scale), atlas.find(request.network), typical_side=None)
    return replace(asked, num_classes=own.num_classes, in_channels=own.in_channels)
