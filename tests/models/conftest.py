"""Models of every family, without the time that training takes, and what files of version 1 hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convatlas.files.typed_json import encoded
from convatlas.models.card import Card
from convatlas.models.codec.cards import inflated
from convatlas.models.codec.container import read_file
from convatlas.models.model import Model
from convatlas.runs.run import Run

FORMATS = Path(__file__).parents[1] / "formats"


@pytest.fixture(scope="session")
def model_of(finished: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """`model_of("vgg11")` is a model folder of that network, pruned and with few values; no test may change it."""
    made: dict[tuple[str, int, bool], Model] = {}

    def model(name: str, seed: int = 0, compressed: bool = True) -> Model:
        key = name, seed, compressed
        if key not in made:
            made[key] = finished(*key).model.save(tmp_path_factory.mktemp("models") / name)
        return made[key]

    return model


@pytest.fixture(scope="session")
def as_record() -> Callable[[Card], dict[str, Any]]:
    """`as_record(card)` is the record of format 2 that a file of version 1 had in place of the card."""
    contents = read_file(FORMATS / "old.cva").contents
    genuine: dict[str, Any] = json.loads(inflated(contents.card, 1))

    def record(card: Card) -> dict[str, Any]:
        values, score = encoded(card), card.score
        assert score is not None
        results = {
            "test_accuracy": score.accuracy,
            "test_interval": list(score.interval),
            "test_errors": score.num_errors,
            "test_pictures": score.num_images,
            "params": card.params,
            "macs": card.macs,
        }
        low_bits = [
            {"name": layer.name, "weight": layer.weight_bits, "lowest": layer.input_low, "highest": layer.input_high}
            for layer in card.quantization or ()
        ]
        preprocessing = card.preprocessing
        return {
            **genuine,
            **{name: values[name] for name in ("variant", "spec", "classes")},
            "preprocessing": {
                "resolution": preprocessing.crop,
                "channels": preprocessing.channels,
                "mean": list(preprocessing.mean),
                "deviation": list(preprocessing.std),
                "side": preprocessing.native_side,
                "ink": preprocessing.ink,
                "margin": preprocessing.margin,
            },
            "data": card.provenance.data,
            "data_checksum": card.provenance.data_checksum,
            "seed": card.provenance.seed,
            "made": card.provenance.method,
            "versions": card.provenance.versions,
            "low_bits": low_bits or None,
            "results": genuine["results"] | results,
        }

    return record
