"""`run.json`: what it says comes back, and whatever else stands in it is refused in one line."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas.data.images import Decoding
from convatlas.errors import UserError
from convatlas.files.sealed_json import unsealed
from convatlas.files.typed_json import parsed_object
from convatlas.recipe import Augmentation, Cosine, Decayed, LinearDecay, Optimizer, Recipe, Staircase, Steps
from convatlas.runs.options import (
    Distillation,
    Execution,
    InitFrom,
    Runtime,
    Validation,
    WeightConstraint,
)
from convatlas.runs.record import FORMAT, Record, TrainingResults
from convatlas.runs.run import RECORD, Run, load_run
from convatlas.spec import Scale

RECIPE = Recipe(
    name="paper",
    optimizer=Optimizer.LEVENBERG_MARQUARDT,
    lr=0.1 + 0.2,
    schedule=Steps(((2, 0.0005), (3, 0.0002))),
    batch_size=7,
    epochs=3,
    weight_decay=1e-5,
    decayed=Decayed.NOT_DEPTHWISE,
    augmentation=Augmentation(shift=0.07, flip=True),
    sources=(("lr, schedule", "section 1"), ("batch_size", "Table 2")),
)
RESULTS = TrainingResults(train_images=40, skipped_images=0, epochs=3, best_epoch=2, seconds=12.345)


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "data": "digits",
        "seed": 2**63 - 1,
        "recipe": RECIPE,
        "scale": Scale(resolution=28),
        "runtime": Runtime(device="cpu"),
        "execution": Execution(threads=2),
        "is_tuned": True,
    }
    return Record(**(values | changes))


def read(content: bytes) -> Record:
    return Record.from_values(parsed_object(content, FORMAT))


def again(before: Record) -> Record:
    return read(before.to_json())


def written(**changes: Any) -> dict[str, Any]:
    """What a finished run leaves in its file."""
    own = record(
        results=RESULTS,
        validation=Validation(val_split=0.2, patience=3),
        init_from=InitFrom(path="/runs/before"),
        distillation=Distillation(teacher="/runs/teacher"),
    )
    return unsealed(json.loads(own.to_json())) | changes


@pytest.fixture(scope="module")
def folder(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a card, in which a record can be tried."""
    place = tmp_path_factory.mktemp("record")
    (place / "model.json").write_bytes(finished.card.to_json())
    (place / RECORD).write_bytes(finished.record.to_json())
    load_run(place)
    return place


def complaint(folder: Path, content: bytes) -> str:
    """The one line, with the file's name in it, that reading says."""
    (folder / RECORD).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_run(folder)
    message = str(caught.value)
    assert message.startswith(str(folder / RECORD))
    assert len(message.splitlines()) == 1
    return message


def complaint_about(folder: Path, **changes: Any) -> str:
    return complaint(folder, json.dumps(written(**changes)).encode())


@pytest.mark.parametrize("results", [None, RESULTS], ids=["training", "finished"])
def test_a_record_survives_its_file(results: TrainingResults | None) -> None:
    before = record(results=results)
    after = again(before)
    assert after == before
    # A list in a tuple's place would not be hashable.
    assert hash(after) == hash(before)
    assert hash(after.recipe) == hash(RECIPE)


def test_lists_of_the_file_are_tuples_again() -> None:
    after = again(record())
    assert after.recipe.schedule == Steps(((2, 0.0005), (3, 0.0002)))
    assert isinstance(after.recipe.schedule, Steps)
    assert isinstance(after.recipe.schedule.rates[0], tuple)
    assert after.recipe.sources == (("lr, schedule", "section 1"), ("batch_size", "Table 2"))


def test_words_of_the_file_are_the_enumerations_again() -> None:
    kept = InitFrom(path="/runs/before", constraint=WeightConstraint.SHARED)
    after = again(record(init_from=kept))
    assert after.recipe.optimizer is Optimizer.LEVENBERG_MARQUARDT
    assert after.recipe.decayed is Decayed.NOT_DEPTHWISE
    assert isinstance(after.recipe.augmentation, Augmentation)
    assert after.init_from is not None
    assert after.init_from.constraint is WeightConstraint.SHARED


@pytest.mark.at_once(
    "schedule",
    [
        Cosine(),
        Cosine(warmup=0.1),
        LinearDecay(),
        Steps(((400, 0.01), (31_600, 0.1))),
        Staircase(factor=0.97, every=2.4, of=350),
        Staircase(factor=0.1, every=30, of=90, warmup=5),
    ],
)
@pytest.mark.at_once("optimizer", Optimizer)
def test_each_schedule_and_optimizer_is_itself_again(
    schedule: Cosine | LinearDecay | Steps | Staircase, optimizer: Optimizer
) -> None:
    recipe = replace(RECIPE, schedule=schedule, optimizer=optimizer)
    after = again(record(recipe=recipe))
    assert after.recipe == recipe
    assert type(after.recipe.schedule) is type(schedule)
    assert after.recipe.lr_at(0, 7) == recipe.lr_at(0, 7)


def test_every_choice_of_a_run_survives_its_file() -> None:
    choices: dict[str, Any] = {
        "data": "/images/größer",
        "seed": 0,
        "scale": Scale(width=0.5, depth=2.0, resolution=64, phi=1.0),
        "class_weights": "balanced",
        "validation": Validation(val_split=0.25, patience=5),
        "stop_at_error": 0.25,
        "init_from": InitFrom(path="/runs/before", freeze=True),
        "fits_head": True,
        "keeps_statistics": True,
        "distillation": Distillation(
            teacher="/runs/teacher.cva", temperature=3.0, distill_weight=0.5, attention_weight=10.0
        ),
        "runtime": Runtime(device="cuda", autotune=False, micro_batch=16, checkpoint_steps=100),
        "execution": Execution(threads=3, channels_last=False, bfloat16=True, compiled=True),
        "is_tuned": False,
        "num_processes": 4,
        "decoding": (Decoding.APPROXIMATE, Decoding.JPEG),
        "metrics_sha256": "ab" * 32,
        "results": RESULTS,
        "machine": "abacus",
        "recipe": replace(
            RECIPE, momentum=0.9, alpha=0.99, eps=0.1, label_smoothing=0.1, ema=0.02, max_norm=1.0,
            augmentation=Augmentation(crop=0.08, aspect=4 / 3, lighting=0.1, mixup=0.25, cutmix=0.5),
        ),
    }  # fmt: skip
    plain, before = record(), record(**choices)
    assert {name for name in choices if getattr(before, name) == getattr(plain, name)} == set()
    assert set(choices) == set(Record.__dataclass_fields__)
    assert again(before) == before


@settings(max_examples=20)
@given(st.floats(0, 1e300), st.integers(0, 2**63 - 1), st.text())
def test_every_bit_of_numbers_and_names_survives(lr: float, seed: int, data: str) -> None:
    before = record(recipe=replace(RECIPE, lr=lr), seed=seed, data=data)
    assert again(before) == before


def test_the_file_says_its_format_and_its_machine() -> None:
    values = written()
    assert values["format"] == FORMAT == 3
    assert values["machine"] == platform.machine()


def test_the_same_record_is_the_same_bytes_and_ends_its_last_line() -> None:
    one, other = (record().to_json() for _ in range(2))
    assert one == other
    assert one.endswith(b"}\n")


def test_a_run_says_what_it_computes_on() -> None:
    assert record().device == "cpu"
    with pytest.raises(UserError, match="the record names no device"):
        _ = record(runtime=Runtime()).device


def test_a_newer_format_asks_for_a_newer_convatlas(folder: Path) -> None:
    assert "newer convatlas" in complaint_about(folder, format=4)
    # Whatever else is in it.
    assert "newer convatlas" in complaint(folder, b'{"format": 99, "unheard": "of"}')


@pytest.mark.parametrize("version", [0, -1, 3.0, "3", True, None], ids=repr)
def test_an_unknown_format_is_one_line(version: Any, folder: Path) -> None:
    assert "format" in complaint_about(folder, format=version)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"null",
        b"{}",
        b'"text"',
        b"\xff\xfe\x00",
        b"not json",
        b"[" * 100_000,
        b'{"format": 1}',
        b'{"format": 2}',
        b'{"format": 3}',
    ],
    ids=[
        "empty",
        "brace",
        "list",
        "number",
        "null",
        "no keys",
        "text",
        "bytes",
        "words",
        "nested",
        "first",
        "second",
        "third",
    ],
)
def test_a_file_that_is_no_record_is_one_line(content: bytes, folder: Path) -> None:
    complaint(folder, content)


@settings(max_examples=40)
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_one_line(folder: Path, part: float) -> None:
    content = record(results=RESULTS).to_json().rstrip()
    complaint(folder, content[: int(part * len(content))])


def test_a_record_from_before_unused_files_were_counted_opens(folder: Path) -> None:
    values = written()
    assert values["results"].pop("unused_files") == 0
    (folder / RECORD).write_text(json.dumps(values))
    assert load_run(folder).results == RESULTS


@pytest.mark.parametrize("key", ["data", "seed", "recipe", "scale", "runtime", "execution", "is_tuned", "machine"])
def test_a_missing_field_is_named(key: str, folder: Path) -> None:
    values = written()
    del values[key]
    assert f"it has no {key}" in complaint(folder, json.dumps(values).encode())


@pytest.mark.parametrize(
    ("part", "key"),
    [
        *(("recipe", key) for key in ("name", "optimizer", "lr", "schedule", "batch_size", "epochs")),
        *(("results", key) for key in ("train_images", "skipped_images", "epochs", "best_epoch", "seconds")),
        ("execution", "threads"),
        ("init_from", "path"),
        ("distillation", "teacher"),
    ],
)
def test_a_missing_field_of_a_part_is_named(part: str, key: str, folder: Path) -> None:
    values = written()
    del values[part][key]
    assert f"{part} has no {key}" in complaint(folder, json.dumps(values).encode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "data is None, not text"),
        ({"seed": "x"}, "seed is 'x', not a whole number from 0"),
        ({"seed": True}, "seed is True, not a whole number from 0"),
        ({"seed": -1}, "seed is -1, not a whole number from 0"),
        ({"seed": 2**63}, f"seed is {2**63}, not a whole number from 0"),
        ({"recipe": []}, "recipe is [], not an object"),
        ({"execution": None}, "execution is None, not an object"),
        ({"execution": {"threads": None}}, "execution.threads is None, not a whole number"),
        ({"results": 5}, "results is 5, not an object"),
        ({"scale": {"width": float("inf")}}, "scale.width is inf, not a number"),
        ({"scale": {"width": "1"}}, "scale.width is '1', not a number"),
        ({"class_weights": "heavy"}, "class_weights is 'heavy', not one of 'balanced'"),
        ({"class_weights": ["balanced"]}, "class_weights is ['balanced'], not one of 'balanced'"),
        ({"init_from": {"path": "x", "constraint": "all"}}, "init_from.constraint is 'all', not one of none, zeros"),
        ({"init_from": {"path": "x", "constraint": ["zeros"]}}, "init_from.constraint is ['zeros'], not one of"),
        ({"is_tuned": 1}, "is_tuned is 1, not true or false"),
        ({"runtime": {"device": 5}}, "runtime.device is 5, not text"),
        ({"machine": None}, "machine is None, not text"),
        ({"color": "blue"}, "it has the unknown field 'color'"),
        ({"spec": {}}, "it has the unknown field 'spec'"),
        # What the groups refuse themselves.
        ({"validation": {"val_split": 2}}, "`val_split` 2 splits nothing"),
        ({"validation": {"patience": 0}}, "`patience` 0 does not work"),
        ({"stop_at_error": 1.5}, "`stop_at_error` 1.5 does not work; it must be 0 to 1"),
        ({"stop_at_error": "0.25"}, "stop_at_error is '0.25', not a number"),
        ({"distillation": {"teacher": "x", "temperature": 0}}, "`temperature` 0 does not work"),
        ({"init_from": {"path": "x", "freeze": True, "constraint": "zeros"}}, "`freeze`"),
    ],
)
def test_a_malformed_field_is_named(changes: dict[str, Any], message: str, folder: Path) -> None:
    assert message in complaint_about(folder, **changes)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epochs", 1.5, "recipe.epochs is 1.5, not a whole number"),
        ("lr", "0.1", "recipe.lr is '0.1', not a number"),
        ("optimizer", "adam", "recipe.optimizer is 'adam', not one of sgd, rmsprop"),
        ("optimizer", {}, "recipe.optimizer is {}, not one of sgd"),
        ("augmentation", {"flip": 1}, "recipe.augmentation.flip is 1, not true or false"),
        ("sources", [["lr"]], "recipe.sources[0] is ['lr'], not a list of 2"),
        ("schedule", None, "recipe.schedule is None, not an object"),
        ("schedule", {}, "recipe.schedule.kind is None, not one of Cosine"),
        ("schedule", {"kind": "Sawtooth"}, "recipe.schedule.kind is 'Sawtooth', not one of Cosine"),
        ("schedule", {"kind": ["Cosine"]}, "recipe.schedule.kind is ['Cosine'], not one of Cosine"),
        ("schedule", {"kind": "Cosine", "rates": []}, "recipe.schedule has the unknown field 'rates'"),
        ("schedule", {"rates": [[1, 0.1]]}, "recipe.schedule.kind is None, not one of Cosine"),
        ("schedule", {"kind": "Steps", "rates": [[1, None]]}, "recipe.schedule.rates[0][1] is None, not a number"),
    ],
)
def test_a_malformed_field_of_the_recipe_is_named(key: str, value: Any, message: str, folder: Path) -> None:
    assert message in complaint_about(folder, recipe=written()["recipe"] | {key: value})


HUGE = st.sampled_from([2**31, 2**63, 10**30, 1e300])


@settings(max_examples=200)
@given(st.data())
def test_whatever_stands_at_a_place_nothing_but_one_line_is_raised(
    folder: Path, put_junk: Callable[..., None], data: st.DataObject
) -> None:
    values = written()
    put_junk(data, values, HUGE)
    (folder / RECORD).write_text(json.dumps(values))
    try:
        found = load_run(folder)
    except UserError as error:
        message = str(error)
    else:
        assert again(found.record) == found.record
        return
    assert message.startswith(str(folder / RECORD))
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"epochs": 4}, "it contradicts itself: 4 of 3 epochs were trained"),
        ({"epochs": 0}, "it contradicts itself: 0 of 3 epochs were trained"),
        ({"best_epoch": 4}, "it contradicts itself: the best of 3 epochs is epoch 4"),
        ({"best_epoch": 0}, "it contradicts itself: the best of 3 epochs is epoch 0"),
        ({"seconds": -1.0}, "`seconds` -1 does not work"),
    ],
)
def test_results_that_cannot_be_are_refused(results: dict[str, Any], message: str, folder: Path) -> None:
    assert message in complaint_about(folder, results=written()["results"] | results)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": written()["recipe"] | {"batch_size": 10**12}}, "`batch_size` 1,000,000,000,000 does not work"),
        ({"execution": {"threads": 10**6}}, "`threads` 1,000,000 does not work; it must be 1 to 512"),
        ({"machine": "x" * 5000}, "machine has 5,000 characters, of 4,096 at most"),
    ],
)
def test_numbers_and_names_are_bounded(changes: dict[str, Any], message: str, folder: Path) -> None:
    assert message in complaint_about(folder, **changes)


def test_a_file_that_no_version_wrote_is_not_read_to_its_end(folder: Path) -> None:
    assert "run.json is larger than 8.0 MiB" in complaint(folder, b" " * (2**23 + 1))
