"""Records of formats 1 and 2 are read as what they were, and refused in one line where they are damaged."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.files.typed_json import encoded
from convatlas.recipe import Augmentation, Cosine, Decayed, LinearDecay, Optimizer, Staircase, Steps
from convatlas.runs.options import Distillation, Execution, InitFrom, Runtime, Validation, WeightConstraint
from convatlas.runs.run import CARD, RECORD, Run, load_run, read_metrics
from convatlas.spec import Scale

FORMATS = Path(__file__).parents[1] / "formats"

# What convatlas wrote at its commit fe3f228, the last of the first format, but for shorter lines.
FORMAT_1 = """{"format": 1, "variant": "lenet1", "spec": {"num_classes": 10, "in_channels": 1, "resolution": 28,
"field": 28, "c1": 4, "s2": 4, "c3": [[0], [0, 1], [0, 1], [1], [0, 1], [0, 1], [2], [2, 3], [2, 3], [3], [2, 3],
[2, 3]], "same": 0, "c5": 0, "f6": 0, "rbf": false}, "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
"preprocessing": {"resolution": 28, "channels": 1, "mean": [0.0784313725490196], "deviation": [0.784313725490196],
"side": 8, "ink": 0.9997857142857143}, "data": "digits",
"data_checksum": "b5692a8deb965b4480d364ee2b2028c76471040510880ded24d0b2566f5a283c", "skip_bad": false, "seed": 0,
"recipe": {"name": "paper", "optimiser": "levenberg-marquardt", "lr": 0.0005, "batch_size": 1, "epochs": 2,
"epochs_of": null, "weight_decay": 0.0, "warm_up": 0.0, "schedule": [[2, 0.0005], [3, 0.0002], [3, 0.0001],
[4, 5e-05], [8, 1e-05]], "augmentation": {"shift": 0.0, "scale": 0.0, "squeeze": 0.0, "shear": 0.0, "rotation": 0.0,
"flip": false}, "source": "1998, section III.B"}, "device": "cpu", "threads": 3, "results":
{"test_accuracy": 0.9352112676056338, "test_interval": [0.904661235715408, 0.9564432781368126], "test_errors": 23,
"test_pictures": 355, "train_pictures": 1442, "left_out_pictures": 0, "seconds": 2.35, "params": 2578, "macs": 91520,
"weights_sha256": "aedcf6e3df98b5ad443f41286c5eebb1808e774bdd2660bfa4bf5675bcab54ed"}, "versions":
{"convatlas": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.4.6", "pillow": "13.0.0"},
"machine": "x86_64"}"""


def second(name: str = "format-2-taught") -> dict[str, Any]:
    """A record of format 2, as it was written."""
    values: dict[str, Any] = json.loads((FORMATS / name / RECORD).read_text())
    return values


def read(folder: Path, values: dict[str, Any]) -> Run:
    (folder / RECORD).write_text(json.dumps(values))
    return load_run(folder)


def complaint(folder: Path, values: dict[str, Any]) -> str:
    """The one line, with the file's name in it, that reading says."""
    with pytest.raises(UserError) as caught:
        read(folder, values)
    message = str(caught.value)
    assert message.startswith(str(folder / RECORD))
    assert len(message.splitlines()) == 1
    return message


# Format 1.


def test_a_run_of_the_first_format_is_read_as_what_it_was(tmp_path: Path) -> None:
    run = read(tmp_path, json.loads(FORMAT_1))
    assert run.format_version == 1
    assert run.spec == replace(atlas.find("lenet1").spec, num_classes=10)  # type: ignore[type-var]
    assert run.card.preprocessing.margin == 0
    assert run.card.provenance.method == "trained"
    assert run.card.provenance.versions["torch"] == "2.13.0+cpu"
    assert (run.card.params, run.card.macs, run.card.quantization) == (2578, 91520, None)
    record, recipe = run.record, run.record.recipe
    assert recipe.schedule == Steps(((2, 0.0005), (3, 0.0002), (3, 0.0001), (4, 0.00005), (8, 0.00001)))
    assert recipe.optimizer is Optimizer.LEVENBERG_MARQUARDT
    # What that version decayed, and what it had no words for.
    assert recipe.decayed is Decayed.WEIGHTS
    assert (recipe.label_smoothing, recipe.ema, recipe.max_norm, recipe.momentum) == (0.0, 0.0, 0.0, 0.0)
    assert recipe.augmentation == Augmentation()
    assert recipe.sources == (("all", "1998, section III.B"),)
    assert record.execution == Execution(threads=3)
    assert record.runtime == Runtime(device="cpu")
    # Nothing is measured anew where a run was begun in another way.
    assert (record.is_tuned, record.num_processes, record.machine) == (True, 1, "x86_64")
    assert (record.scale, record.class_weights, record.validation) == (None, None, None)
    assert (record.init_from, record.distillation) == (None, None)
    assert (run.results.epochs, run.results.best_epoch, run.results.train_images) == (2, None, 1442)
    assert (run.score.num_errors, run.score.num_images, run.test_accuracy) == (23, 355, 0.9352112676056338)


def test_a_run_of_the_first_format_is_the_same_after_it_is_written_anew(tmp_path: Path) -> None:
    before = read(tmp_path, json.loads(FORMAT_1))
    before.write()
    after = load_run(tmp_path)
    assert (json.loads((tmp_path / RECORD).read_text())["format"], after.format_version) == (3, 3)
    assert (after.card, after.record) == (before.card, before.record)


def test_a_default_recipe_of_the_first_format_has_a_cosine_schedule(tmp_path: Path) -> None:
    values = json.loads(FORMAT_1)
    values["recipe"] |= {"name": "default", "optimiser": "adamw", "schedule": [], "warm_up": 0.1, "source": ""}
    values["results"] = None
    run = read(tmp_path, values)
    assert run.record.recipe.schedule == Cosine(warmup=0.1)
    assert run.record.recipe.sources == ()
    assert not run.is_finished
    # Its costs were counted at the end; now they are known from the beginning.
    assert (run.card.params, run.card.macs, run.card.score) == (2578, 91520, None)


def test_an_unfinished_run_of_the_first_format_must_be_trained_again(tmp_path: Path) -> None:
    content = json.dumps(json.loads(FORMAT_1) | {"results": None}).encode()
    (tmp_path / RECORD).write_bytes(content)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"of another layout")
    with pytest.raises(UserError) as caught:
        ca.resume(tmp_path)
    assert str(caught.value) == f"{tmp_path} was started by an older convatlas and cannot be resumed; train it again"
    # Nor is it taken for one of today's the next time.
    assert (tmp_path / RECORD).read_bytes() == content
    assert not (tmp_path / CARD).exists()


def test_a_finished_run_of_the_first_format_is_resumed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(FORMAT_1)
    assert ca.resume(tmp_path).score.num_errors == 23


# Format 2.


def test_choices_of_the_second_format_are_read_as_what_they_were() -> None:
    run = load_run(FORMATS / "format-2-choices")
    record = run.record
    assert (run.format_version, record.is_tuned, record.machine) == (2, True, "x86_64")
    assert record.scale == Scale(width=1.0, depth=1.0, phi=0.0, resolution=28)
    assert record.class_weights == "balanced"
    assert record.validation == Validation(val_split=0.1, patience=8)
    assert (record.init_from, record.distillation) == (None, None)
    assert record.recipe.schedule == Cosine(warmup=0.1)
    assert (run.results.epochs, run.results.best_epoch, run.results.skipped_images) == (12, 11, 0)
    assert (run.score.accuracy, run.score.num_errors) == (0.9014084507042254, 35)
    rows = read_metrics(run)
    assert {"val_loss", "val_accuracy"} <= set(rows[0])
    assert not [name for name in rows[0] if name.startswith("held")]


def test_a_student_of_the_second_format_is_read_as_what_it_was() -> None:
    record = load_run(FORMATS / "format-2-taught").record
    assert record.init_from == InitFrom(path="FORMATS/format-2-choices")
    assert record.distillation == Distillation(
        teacher="FORMATS/format-2", temperature=3.0, distill_weight=0.9, attention_weight=5.0
    )
    assert (record.class_weights, record.validation) == (None, None)


def test_quantized_and_shared_weights_of_the_second_format_are_what_they_were() -> None:
    quantized = load_run(FORMATS / "format-2-int8")
    assert [(layer.name, layer.weight_bits) for layer in quantized.card.quantization or ()] == [
        ("c1", 8), ("c3", 8), ("output", 8),
    ]  # fmt: skip
    assert all(layer.input_low is not None and layer.input_low < 0 for layer in quantized.card.quantization or ())
    assert quantized.record.init_from is not None
    assert quantized.record.init_from.constraint is WeightConstraint.QUANTIZED
    # Its spec was a program's own.
    assert quantized.record.scale is None
    shared = load_run(FORMATS / "format-2-shared").record
    assert shared.init_from is not None
    assert shared.init_from.constraint is WeightConstraint.SHARED


@pytest.mark.parametrize(
    ("kept", "constraint"),
    [
        (None, None),
        ("all", WeightConstraint.NONE),
        ("zeros", WeightConstraint.ZEROS),
        ("steps", WeightConstraint.QUANTIZED),
        ("values", WeightConstraint.SHARED),
    ],
)
def test_what_was_kept_is_the_constraint(kept: str | None, constraint: WeightConstraint | None, tmp_path: Path) -> None:
    init_from = read(tmp_path, second() | {"kept": kept}).record.init_from
    assert init_from is not None
    assert init_from.constraint is constraint


@pytest.mark.parametrize(
    ("schedule", "today"),
    [
        ({"kind": "Cosine", "warm_up": 0.2}, Cosine(warmup=0.2)),
        ({"kind": "Linear"}, LinearDecay()),
        ({"kind": "Steps", "rates": [[1, 0.5], [2, 0.1]]}, Steps(((1, 0.5), (2, 0.1)))),
        (
            {"kind": "Staircase", "factor": 0.9, "every": 2, "of": 30, "climb": 5},
            Staircase(factor=0.9, every=2, of=30, warmup=5),
        ),
    ],
)
def test_schedules_of_the_second_format_have_the_names_of_today(
    schedule: dict[str, Any], today: Cosine | LinearDecay | Steps | Staircase, tmp_path: Path
) -> None:
    values = second()
    values["recipe"] |= {"schedule": schedule, "optimiser": "rmsprop", "smoothing": 0.9}
    recipe = read(tmp_path, values).record.recipe
    assert recipe.schedule == today
    assert (recipe.optimizer, recipe.alpha) == (Optimizer.RMSPROP, 0.9)


@pytest.mark.parametrize(
    "name", [path.parent.name for path in sorted(FORMATS.glob("*/run.json")) if not (path.parent / CARD).exists()]
)
def test_every_earlier_run_is_the_same_after_it_is_written_anew(name: str, tmp_path: Path) -> None:
    before = read(tmp_path, second(name))
    before.write()
    after = load_run(tmp_path)
    assert (after.card, after.record, after.format_version) == (before.card, before.record, 3)


def test_records_from_before_some_fields_were_added_are_read(tmp_path: Path) -> None:
    values = second()
    for name in ("kept", "distillation", "made", "low_bits"):
        del values[name]
    run = read(tmp_path, values)
    assert run.record.distillation is None
    assert run.card.quantization is None


# Damage.

RECORDS = {1: json.loads(FORMAT_1), 2: second()}
ADDED = {"kept", "distillation", "made", "low_bits"}


@pytest.mark.parametrize(
    ("version", "key"),
    [(version, key) for version, values in RECORDS.items() for key in sorted(values.keys() - ADDED)],
)
def test_a_missing_key_is_one_line(version: int, key: str, tmp_path: Path) -> None:
    values = copy.deepcopy(RECORDS[version])
    del values[key]
    assert ("format" if key == "format" else f"it has no {key}") in complaint(tmp_path, values)


@pytest.mark.parametrize("version", RECORDS)
def test_a_key_that_no_version_wrote_is_one_line(version: int, tmp_path: Path) -> None:
    assert "the unknown field 'color'" in complaint(tmp_path, RECORDS[version] | {"color": "blue"})
    assert r"the unknown field 'two\nlines'" in complaint(tmp_path, RECORDS[version] | {"two\nlines": 1})


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("spec", "c1"),
        ("preprocessing", "mean"),
        ("recipe", "optimiser"),
        ("recipe", "lr"),
        ("recipe", "schedule"),
        ("results", "macs"),
        ("results", "test_errors"),
        ("results", "train_pictures"),
        ("execution", "threads"),
        ("distillation", "teacher"),
    ],
)
def test_a_missing_part_of_a_part_is_one_line(part: str, key: str, tmp_path: Path) -> None:
    values = second()
    del values[part][key]
    complaint(tmp_path, values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": "lenet6"}, "there is no network 'lenet6'"),
        ({"spec": None}, "spec"),
        ({"preprocessing": []}, "preprocessing is not an object"),
        ({"recipe": []}, "recipe is not an object"),
        ({"results": 5}, "results is not an object"),
        ({"execution": None}, "execution"),
        ({"distillation": "x"}, "distillation is not an object"),
        ({"low_bits": 5}, "quantization is 5, not a list"),
        ({"low_bits": ["c1"]}, "quantization[0] is 'c1', not an object"),
        ({"kept": "some"}, "kept is not one of all, zeros, steps, values"),
        ({"kept": ["all"]}, "kept is not one of"),
        ({"kept": {}}, "kept is not one of"),
        ({"start": 5}, "init_from.path is 5, not text"),
        ({"width": "wide"}, "scale.width is 'wide', not a number"),
        ({"hold_out": True, "patience": 0}, "`patience` 0 does not work"),
        ({"processes": None}, "num_processes is None, not a whole number"),
        ({"tuned": 1}, "is_tuned is 1, not true or false"),
    ],
)
def test_a_malformed_field_is_one_line(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in complaint(tmp_path, second() | changes)


@pytest.mark.parametrize(
    "schedule", [None, {}, {"kind": "Sawtooth"}, {"kind": "Cosine", "rates": []}, {"rates": [[1, 0.1]]}], ids=str
)
def test_a_schedule_that_no_version_knows_is_one_line(schedule: object, tmp_path: Path) -> None:
    values = second()
    values["recipe"]["schedule"] = schedule
    complaint(tmp_path, values)


def test_a_spec_that_cannot_work_is_one_line(tmp_path: Path) -> None:
    values = second()
    values["spec"]["num_classes"] = 0
    complaint(tmp_path, values)
    values["spec"] |= {"num_classes": 10, "resolution": 3}
    assert "3 px" in complaint(tmp_path, values)


@settings(max_examples=200)
@given(st.data(), st.sampled_from([1, 2]))
def test_whatever_stands_at_a_place_nothing_but_one_line_is_raised(
    tmp_path_factory: pytest.TempPathFactory,
    put_junk: Callable[..., None],
    data: st.DataObject,
    version: int,
) -> None:
    values = copy.deepcopy(RECORDS[version])
    put_junk(data, values)
    folder = tmp_path_factory.getbasetemp() / "earlier"
    folder.mkdir(exist_ok=True)
    try:
        found = read(folder, values)
    except UserError as error:
        message = str(error)
    else:
        assert encoded(found.card)
        assert encoded(found.record)
        return
    assert message.startswith(str(folder / RECORD))
    assert len(message.splitlines()) == 1
