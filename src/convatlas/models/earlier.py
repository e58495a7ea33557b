"""Cards of what earlier versions wrote: records of runs, formats 1 and 2, which held the model's part too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from convatlas.data import portable_name
from convatlas.files.typed_json import MalformedJsonError
from convatlas.images.preprocessing import from_format_2 as preprocessing_from_format_2
from convatlas.models.bounds import describe_card
from convatlas.models.card import Card

FORMAT = 2
"""The last one."""
OF_BOTH = frozenset(
    (
        *("variant", "spec", "classes", "preprocessing", "data", "data_checksum", "skip_bad", "seed", "recipe"),
        *("device", "results", "versions", "machine"),
    )
)
FIELDS = {
    1: OF_BOTH | {"threads"},
    2: OF_BOTH
    | {"execution", "tuned", "processes", "micro_batch", "balance", "hold_out", "patience", "checkpoint_steps"}
    | {"start", "freeze", "width", "depth", "phi"},
}
"""What records of each format have."""
ADDED = {"kept", "distillation", "made", "low_bits"}
"""What later records of format 2 have too."""


def card_from_record(values: Mapping[str, Any]) -> Card:
    """The card of a network that such a record describes; without results, its network is built to count its costs.

    Raises:
        MalformedJsonError, UserError: it describes none.
    """
    check_fields(values)
    results = part(values, "results") if values.get("results") else None
    card = Card.from_values(
        {
            "variant": values.get("variant"),
            "spec": values.get("spec"),
            "classes": values.get("classes"),
            "preprocessing": preprocessing(part(values, "preprocessing")),
            "provenance": {
                "method": values.get("made") or "trained",
                "data": portable_name(name) if isinstance(name := values.get("data"), str) else name,
                "data_checksum": values.get("data_checksum"),
                "seed": values.get("seed"),
                "skip_bad": values.get("skip_bad"),
                "versions": values.get("versions"),
            },
            "params": results.get("params") if results else 0,
            "macs": results.get("macs") if results else 0,
            "quantization": layers(values.get("low_bits")),
            "score": score(results) if results else None,
            "weights_sha256": results.get("weights_sha256") if results else None,
        }
    )
    return card if results else replace(card, **describe_card(card).cost._asdict())


def check_fields(values: Mapping[str, Any]) -> None:
    """
    Raises:
        MalformedJsonError: a field is missing, or no version wrote it.
    """
    fields = FIELDS[values["format"]]
    if missing := sorted(fields - values.keys()):
        raise MalformedJsonError(f"it has no {missing[0]}")
    if unknown := sorted(values.keys() - fields - ADDED - {"format"}):
        raise MalformedJsonError(f"it has the unknown field {unknown[0][:40]!r}")


def part(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside another.

    Raises:
        MalformedJsonError: it is not valid.
    """
    found = values.get(name)
    if not isinstance(found, dict):
        raise MalformedJsonError(f"{name} is not an object")
    return found


def preprocessing(values: Mapping[str, Any]) -> dict[str, Any]:
    """The preprocessing's fields.

    Raises:
        MalformedJsonError: some are missing or no numbers.
    """
    try:
        return preprocessing_from_format_2(values)
    except (KeyError, TypeError) as error:
        raise MalformedJsonError(f"preprocessing has other fields ({error})") from error


def layers(values: Any) -> Any:
    """The bits of all layers; what is not a list stays as it is, to be refused."""
    return [layer(one) for one in values] if values and isinstance(values, list) else values or None


def layer(values: Any) -> Any:
    """One layer's bits."""
    if not isinstance(values, dict):
        return values
    names = {"weight": "weight_bits", "lowest": "input_low", "highest": "input_high"}
    return {names.get(name, name): value for name, value in values.items()}


def score(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "accuracy": results.get("test_accuracy"),
        "interval": results.get("test_interval"),
        "num_errors": results.get("test_errors"),
        "num_images": results.get("test_pictures"),
    }
