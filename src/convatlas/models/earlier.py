"""Cards of what earlier versions wrote: records of runs, formats 1 and 2, which held the model's part too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from convatlas.files.typed_json import MalformedJsonError
from convatlas.models.card import Card
from convatlas.models.network import checked

FORMAT = 2
"""The last one."""


def card_from_record(values: Mapping[str, Any]) -> Card:
    """The card of a network that such a record describes; without results, its network is built to count its costs.

    Raises:
        MalformedJsonError, UserError: it describes none.
    """
    results = part(values, "results") if values.get("results") else None
    card = Card.from_values(
        {
            "variant": values.get("variant"),
            "spec": values.get("spec"),
            "classes": values.get("classes"),
            "preprocessing": part(values, "preprocessing"),
            "provenance": {
                "method": values.get("made") or "trained",
                "data": values.get("data"),
                "data_checksum": values.get("data_checksum"),
                "seed": values.get("seed"),
                "skip_bad": values.get("skip_bad"),
                "versions": values.get("versions"),
            },
            "params": results.get("params") if results else 0,
            "macs": results.get("macs") if results else 0,
            "quantization": [layer(one) for one in values["low_bits"]] if values.get("low_bits") else None,
            "score": score(results) if results else None,
            "weights_sha256": results.get("weights_sha256") if results else None,
        }
    )
    return card if results else replace(card, **checked(card)._asdict())


def part(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object inside another.

    Raises:
        MalformedJsonError: it is none.
    """
    found = values.get(name)
    if not isinstance(found, dict):
        raise MalformedJsonError(f"{name} is no object")
    return found


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
