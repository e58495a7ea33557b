"""Records and metrics of earlier versions, in the words of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convatlas.files.typed_json import MalformedJsonError
from convatlas.models.earlier import part
from convatlas.recipe import Cosine, Decayed, LinearDecay, Steps
from convatlas.runs.options import WeightConstraint

CONSTRAINTS = {
    "all": WeightConstraint.NONE,
    "zeros": WeightConstraint.ZEROS,
    "steps": WeightConstraint.QUANTIZED,
    "values": WeightConstraint.SHARED,
}
METRICS = {"held_out_loss": "val_loss", "held_out_accuracy": "val_accuracy"}
VAL_SPLIT = 0.1


def record_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The training's part of a record of format 1 or 2, as format 3 has it.

    Raises:
        MalformedJsonError: it is not such a record.
    """
    first = values.get("format") == 1
    names = ("data", "seed", "machine")
    return {name: values[name] for name in names if name in values} | {
        "recipe": recipe_values(part(values, "recipe"), first=first),
        "scale": scale_values(values),
        "class_weights": "balanced" if values.get("balance") else None,
        "validation": validation_values(values),
        "init_from": init_from_values(values),
        "distillation": distillation_values(values),
        "runtime": {
            "device": values.get("device"),
            "micro_batch": values.get("micro_batch"),
            "checkpoint_steps": values.get("checkpoint_steps"),
        },
        "execution": {"threads": values.get("threads")} if first else values.get("execution"),
        "is_tuned": values.get("tuned", True),
        "num_processes": values.get("processes", 1),
        "results": results_values(values),
    }


def recipe_values(values: Mapping[str, Any], *, first: bool) -> dict[str, Any]:
    recipe = renamed(values, {"optimiser": "optimizer", "smoothing": "alpha"})
    if first:
        steps, warm_up = recipe.pop("schedule", None), recipe.pop("warm_up", 0.0)
        recipe["schedule"] = (
            {"kind": Steps.__name__, "rates": steps} if steps else {"kind": Cosine.__name__, "warmup": warm_up}
        )
        source = recipe.pop("source", "")
        recipe["sources"] = [["all", source]] if source else []
        recipe["decayed"] = Decayed.WEIGHTS.value
        return recipe
    schedule = renamed(part(recipe, "schedule"), {"warm_up": "warmup", "climb": "warmup"})
    if schedule.get("kind") == "Linear":
        schedule["kind"] = LinearDecay.__name__
    recipe["schedule"] = schedule
    return recipe


def scale_values(values: Mapping[str, Any]) -> dict[str, Any] | None:
    if any(values.get(name) is None for name in ("width", "depth", "phi")):
        return None
    resolution = part(values, "spec").get("resolution")
    return {name: values[name] for name in ("width", "depth", "phi")} | {"resolution": resolution}


def validation_values(values: Mapping[str, Any]) -> dict[str, Any] | None:
    return {"val_split": VAL_SPLIT, "patience": values.get("patience")} if values.get("hold_out") else None


def init_from_values(values: Mapping[str, Any]) -> dict[str, Any] | None:
    if values.get("start") is None:
        return None
    kept = values.get("kept")
    if kept is not None and not (isinstance(kept, str) and kept in CONSTRAINTS):
        raise MalformedJsonError(f"kept is not one of {', '.join(CONSTRAINTS)}")
    return {
        "path": values["start"],
        "freeze": values.get("freeze", False),
        "constraint": None if kept is None else CONSTRAINTS[kept].value,
    }


def distillation_values(values: Mapping[str, Any]) -> dict[str, Any] | None:
    if not values.get("distillation"):
        return None
    return renamed(part(values, "distillation"), {"soft": "distill_weight", "hints": "attention_weight"})


def results_values(values: Mapping[str, Any]) -> dict[str, Any] | None:
    if not values.get("results"):
        return None
    results = part(values, "results")
    return {
        "train_images": results.get("train_pictures"),
        "skipped_images": results.get("left_out_pictures"),
        "epochs": results.get("epochs", part(values, "recipe").get("epochs")),
        "best_epoch": results.get("best_epoch"),
        "seconds": results.get("seconds"),
    }


def metrics_row(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `metrics.jsonl`."""
    return renamed(values, METRICS)


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
