"""The pages on file formats name every field of what is written there, and no other."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import convatlas as ca
from convatlas.compression.destination import Stage, StagesRecord
from convatlas.files.typed_json import KIND
from convatlas.images import Preprocessing
from convatlas.models.card import Card, Imported, Provenance, Score, StartedFrom
from convatlas.recipe import Augmentation, Cosine, LinearDecay, Recipe, Staircase, Steps
from convatlas.runs.options import Distillation, Execution, InitFrom, Runtime, Validation
from convatlas.runs.record import Record, TrainingResults
from convatlas.spec import Scale, Spec
from convatlas.spec.quantization import LayerQuantization
from convatlas.training.progress import EpochMetrics

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SPECS = {type(variant.spec): family.name for family in ca.families() for variant in family.variants}
HEADINGS = {"FullyConnectedSpec": "Fully connected networks", "FourLayerSpec": "Four-layer networks"}
"""Of specs that are not their family's only one."""
TABLES: dict[tuple[str, str, int], list[type]] = {
    ("model", "model.json", 1): [Card],
    ("model", "preprocessing", 0): [Preprocessing],
    ("model", "provenance", 0): [Provenance],
    ("model", "imported", 0): [Imported],
    ("model", "started_from", 0): [StartedFrom],
    ("model", "quantization", 0): [LayerQuantization],
    ("model", "score", 0): [Score],
    ("model", "spec", 0): [Spec],
    **{("model", HEADINGS.get(spec.__name__, family), 0): [spec] for spec, family in SPECS.items()},
    ("run", "run.json", 0): [Record],
    ("run", "results", 0): [TrainingResults],
    ("run", "scale", 0): [Scale],
    ("run", "validation", 0): [Validation],
    ("run", "init_from", 0): [InitFrom],
    ("run", "distillation", 0): [Distillation],
    ("run", "runtime", 0): [Runtime],
    ("run", "execution", 0): [Execution],
    ("run", "recipe", 0): [Recipe],
    ("run", "schedule", 0): [Cosine, LinearDecay, Steps, Staircase],
    ("run", "augmentation", 0): [Augmentation],
    ("run", "metrics.jsonl", 0): [EpochMetrics],
    ("run", "stages.json", 0): [StagesRecord],
    ("run", "stages.json", 1): [Stage],
}
"""Page, heading, and which table below it: the classes whose fields it names."""


def named(page: str, heading: str, number: int) -> list[str]:
    """The fields that a table names."""
    content = (REFERENCE / f"{page}.md").read_text()
    (section,) = re.findall(
        rf"^#+ {re.escape(heading)}(?: \([^\n]*\))?\n(.*?)(?=^#|\Z)", content, re.MULTILINE | re.DOTALL
    )
    tables = re.findall(r"^\| field \|.*\n\|[-|]*\n((?:\|.*\n)+)", section, re.MULTILINE)
    return re.findall(r"^\| `(\w+)` \|", tables[number], re.MULTILINE)


def fields(kind: Any) -> list[str]:
    return list(EpochMetrics.__annotations__ if kind is EpochMetrics else (f.name for f in dataclasses.fields(kind)))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table[1]} {table[2]}" if table[2] else table[1])
def test_a_table_names_the_fields_and_no_others(table: tuple[str, str, int]) -> None:
    kinds = TABLES[table]
    expected = {name for kind in kinds for name in fields(kind)} | ({KIND} if len(kinds) > 1 else set())
    if kinds[0] in SPECS:
        expected -= set(fields(Spec))
    found = named(*table)
    assert len(found) == len(set(found))
    assert set(found) == expected


def written(hint: Any) -> Iterator[type]:
    """The dataclasses that are written as part of a type."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
        for part in get_type_hints(hint).values():
            yield from written(part)
    for part in get_args(hint):
        yield from written(part)


def test_all_that_is_written_has_a_table() -> None:
    files = (Card, Record, StagesRecord)
    reached = {kind for file in files for kind in written(file)} | set(SPECS)
    assert reached <= {kind for kinds in TABLES.values() for kind in kinds}
