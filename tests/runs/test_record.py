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
from convatlas.images import Preprocessing
from convatlas.models.card import installed_versions
from convatlas.recipe import Augmentation, Cosine, Decayed, LinearDecay, Optimizer, Recipe, Staircase, Steps
from convatlas.runs.options import Execution
from convatlas.runs.record import ADDED, Record, Results
from convatlas.spec import Spec, Variant

every_variant = pytest.mark.parametrize("variant", atlas.variants(), ids=lambda variant: variant.name)

WHERE = "runs/lenet5-digits/run.json"
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
RESULTS = Results(
    test_accuracy=1 / 3,
    test_interval=(0.1, 0.7),
    test_errors=6,
    test_images=9,
    train_images=40,
    skipped_images=0,
    epochs=3,
    best_epoch=2,
    seconds=12.345,
    params=60000,
    macs=416520,
    weights_sha256="ab" * 32,
)


def record(variant: Variant, spec: Spec | None = None, **changes: Any) -> Record:
    classes = changes.get("classes", ("cat", "dög", "猫 & <b>"))
    spec = replace(spec or variant.spec, num_classes=len(classes))  # type: ignore[type-var]
    n = spec.in_channels
    values: dict[str, Any] = {
        "variant": variant.name,
        "spec": spec,
        "classes": classes,
        "preprocessing": Preprocessing(resolution=32, channels=n, mean=(0.1,) * n, deviation=(1 / 3,) * n, ink=0.62),
        "data": "digits",
        "data_checksum": "cd" * 32,
        "skip_bad": False,
        "seed": 2**63,
        "recipe": RECIPE,
        "device": "cpu",
        "execution": Execution(threads=2),
    }
    return Record(**(values | changes))


def written() -> dict[str, Any]:
    """What a finished run of lenet5 leaves in its file."""
    values: dict[str, Any] = json.loads(record(atlas.find("lenet5"), results=RESULTS).to_json())
    return values


def complaint(content: bytes) -> str:
    """The one line, with the file's name in it, that reading says."""
    with pytest.raises(UserError) as caught:
        Record.from_json(content, WHERE)
    message = str(caught.value)
    assert WHERE in message
    assert len(message.splitlines()) == 1
    return message


@every_variant
@pytest.mark.parametrize("results", [None, RESULTS], ids=["training", "finished"])
def test_a_record_survives_its_file(variant: Variant, results: Results | None) -> None:
    for spec in (variant.spec, variant.spec.scaled(width=0.5, depth=2), replace(variant.spec, num_classes=3)):  # type: ignore[type-var]
        before = record(variant, spec, results=results)
        after = Record.from_json(before.to_json(), WHERE)
        assert after == before
        # A list in a tuple's place would not be hashable.
        assert hash(after.spec) == hash(before.spec)
        assert hash(after.recipe) == hash(RECIPE)
        assert type(after.spec) is type(spec)


def test_lists_of_the_file_are_tuples_again() -> None:
    after = Record.from_json(record(atlas.find("lenet5"), results=RESULTS).to_json(), WHERE)
    assert after.spec.c3 == atlas.find("lenet5").spec.c3
    assert isinstance(after.spec.c3[0], tuple)
    assert isinstance(after.classes, tuple)
    assert isinstance(after.preprocessing.mean, tuple)
    assert after.recipe.schedule == Steps(((2, 0.0005), (3, 0.0002)))
    assert after.recipe.sources == (("lr, schedule", "section 1"), ("batch_size", "Table 2"))
    assert after.results is not None
    assert after.results.test_interval == (0.1, 0.7)


def test_words_of_the_file_are_the_enumerations_again() -> None:
    after = Record.from_json(record(atlas.find("lenet5")).to_json(), WHERE)
    assert after.recipe.optimizer is Optimizer.LEVENBERG_MARQUARDT
    assert after.recipe.decayed is Decayed.NOT_DEPTHWISE
    assert isinstance(after.recipe.augmentation, Augmentation)


@pytest.mark.parametrize(
    "schedule",
    [
        Cosine(),
        Cosine(warmup=0.1),
        LinearDecay(),
        Steps(((400, 0.01), (31_600, 0.1))),
        Staircase(factor=0.97, every=2.4, of=350),
        Staircase(factor=0.1, every=30, of=90, warmup=5),
    ],
    ids=str,
)
@pytest.mark.parametrize("optimizer", Optimizer)
def test_each_schedule_and_optimizer_is_itself_again(
    schedule: Cosine | LinearDecay | Steps | Staircase, optimizer: Optimizer
) -> None:
    recipe = replace(RECIPE, schedule=schedule, optimizer=optimizer)
    after = Record.from_json(record(atlas.find("lenet5"), recipe=recipe).to_json(), WHERE)
    assert after.recipe == recipe
    assert type(after.recipe.schedule) is type(schedule)
    assert after.recipe.rate(0, 7) == recipe.rate(0, 7)


def test_every_choice_of_a_run_survives_its_file() -> None:
    choices: dict[str, Any] = {
        "execution": Execution(threads=3, channels_last=False, bfloat16=True, compiled=True),
        "autotuned": False,
        "processes": 4,
        "micro_batch": 16,
        "balance": True,
        "hold_out": True,
        "patience": 5,
        "checkpoint_steps": 100,
        "start": "/runs/before",
        "freeze": True,
        "width": 0.5,
        "depth": 2.0,
        "phi": 1.0,
        "skip_bad": True,
        "preprocessing": Preprocessing(
            resolution=32, channels=1, mean=(0.5,), deviation=(0.25,), side=256, ink=0.9, margin=2
        ),
        "recipe": replace(
            RECIPE, momentum=0.9, alpha=0.99, eps=0.1, label_smoothing=0.1, ema=0.02, max_norm=1.0,
            augmentation=Augmentation(crop=0.08, aspect=4 / 3, lighting=0.1, mixup=0.25, cutmix=0.5),
        ),
    }  # fmt: skip
    plain = record(atlas.find("lenet5"))
    before = record(atlas.find("lenet5"), **choices)
    assert {name for name in choices if getattr(before, name) == getattr(plain, name)} == set()
    assert Record.from_json(before.to_json(), WHERE) == before


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (Execution(threads=1), "float32, channels last, 1 thread"),
        (Execution(threads=2, bfloat16=True, channels_last=False), "bfloat16, contiguous, 2 threads"),
        (Execution(threads=8, compiled=True), "float32, channels last, 8 threads, compiled"),
    ],
)
def test_a_way_of_computing_says_itself(execution: Execution, words: str) -> None:
    assert execution.describe == words


# What convatlas wrote at its commit fe3f228, the last of the first format, but for shorter lines.
FORMAT_1 = """{"format": 1, "variant": "lenet1", "spec": {"num_classes": 10, "in_channels": 1, "resolution": 28,
"field": 28, "c1": 4, "s2": 4, "c3": [[0], [0, 1], [0, 1], [1], [0, 1], [0, 1], [2], [2, 3], [2, 3], [3], [2, 3],
[2, 3]], "same": 0, "c5": 0, "f6": 0, "rbf": false}, "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
"preprocessing": {"resolution": 28, "channels": 1, "mean": [0.0784313725490196], "deviation": [0.784313725490196],
"side": 8, "ink": 0.9997857142857143}, "data": "digits",
"data_checksum": "b5692a8deb965b4480d364ee2b2028c76471040510880ded24d0b2566f5a283c", "skip_bad": false, "seed": 0,
"recipe": {"name": "paper", "optimizer": "levenberg-marquardt", "lr": 0.0005, "batch_size": 1, "epochs": 2,
"epochs_of": null, "weight_decay": 0.0, "warmup": 0.0, "schedule": [[2, 0.0005], [3, 0.0002], [3, 0.0001],
[4, 5e-05], [8, 1e-05]], "augmentation": {"shift": 0.0, "scale": 0.0, "squeeze": 0.0, "shear": 0.0, "rotation": 0.0,
"flip": false}, "source": "1998, section III.B"}, "device": "cpu", "threads": 3, "results":
{"test_accuracy": 0.9352112676056338, "test_interval": [0.904661235715408, 0.9564432781368126], "test_errors": 23,
"test_images": 355, "train_images": 1442, "skipped_images": 0, "seconds": 2.35, "params": 2578, "macs": 91520,
"weights_sha256": "aedcf6e3df98b5ad443f41286c5eebb1808e774bdd2660bfa4bf5675bcab54ed"}, "versions":
{"convatlas": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.4.6", "pillow": "13.0.0"},
"machine": "x86_64"}"""


def test_a_run_of_the_first_format_is_read_as_what_it_was() -> None:
    read = Record.from_json(FORMAT_1.encode(), WHERE)
    assert read.spec == replace(atlas.find("lenet1").spec, num_classes=10)  # type: ignore[type-var]
    assert read.preprocessing.margin == 0
    recipe = read.recipe
    assert recipe.schedule == Steps(((2, 0.0005), (3, 0.0002), (3, 0.0001), (4, 0.00005), (8, 0.00001)))
    assert recipe.optimizer is Optimizer.LEVENBERG_MARQUARDT
    # What that version decayed, and what it had no words for.
    assert recipe.decayed is Decayed.WEIGHTS
    assert (recipe.label_smoothing, recipe.ema, recipe.max_norm, recipe.momentum) == (0.0, 0.0, 0.0, 0.0)
    assert recipe.augmentation == Augmentation()
    assert recipe.sources == (("all", "1998, section III.B"),)
    assert read.execution == Execution(threads=3)
    # Nothing is measured anew where a run was begun in another way.
    assert (read.autotuned, read.processes, read.micro_batch, read.hold_out, read.start) == (True, 1, None, False, None)
    assert read.results is not None
    assert (read.results.epochs, read.results.best_epoch) == (2, None)
    assert read.results.test_errors == 23


def test_a_run_of_the_first_format_is_the_same_after_it_is_written_anew() -> None:
    read = Record.from_json(FORMAT_1.encode(), WHERE)
    assert json.loads(read.to_json())["format"] == 2
    assert Record.from_json(read.to_json(), WHERE) == read


def test_a_default_recipe_of_the_first_format_falls_as_half_a_wave() -> None:
    values = json.loads(FORMAT_1)
    values["recipe"] |= {"name": "default", "optimizer": "adamw", "schedule": [], "warmup": 0.1, "source": ""}
    values["results"] = None
    read = Record.from_json(json.dumps(values).encode(), WHERE)
    assert read.recipe.schedule == Cosine(warmup=0.1)
    assert read.recipe.sources == ()
    assert read.results is None


def test_an_unfinished_run_of_the_first_format_is_told_to_be_trained_again(tmp_path: Path) -> None:
    content = json.dumps(json.loads(FORMAT_1) | {"results": None}).encode()
    (tmp_path / "run.json").write_bytes(content)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"of another layout")
    with pytest.raises(UserError) as told:
        ca.resume(tmp_path)
    assert str(told.value) == f"{tmp_path} was begun by an older convatlas and cannot be resumed; train it again"
    # Nor is it taken for one of today's the next time.
    assert (tmp_path / "run.json").read_bytes() == content
    assert record(atlas.find("lenet1")).resumable


def test_a_finished_run_of_the_first_format_is_resumed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(FORMAT_1)
    assert ca.resume(tmp_path).results.test_errors == 23


@pytest.mark.parametrize("key", sorted(json.loads(FORMAT_1)))
def test_a_missing_key_of_the_first_format_is_a_one_line_error_that_names_the_file(key: str) -> None:
    values = json.loads(FORMAT_1)
    del values[key]
    complaint(json.dumps(values).encode())


@settings(max_examples=20)
@given(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**64), st.lists(st.text(), min_size=1, max_size=5)
)
def test_every_bit_of_numbers_and_names_survives(lr: float, seed: int, classes: list[str]) -> None:
    before = record(atlas.find("lenet1"), recipe=replace(RECIPE, lr=lr), seed=seed, classes=tuple(classes))
    assert Record.from_json(before.to_json(), WHERE) == before


def test_the_file_says_its_format_and_what_made_it() -> None:
    values = written()
    assert values["format"] == 2
    assert values["versions"] == installed_versions()
    assert set(values["versions"]) == {"convatlas", "python", "torch", "numpy", "pillow"}
    assert values["variant"] == "lenet5"


def test_the_same_record_is_the_same_bytes_and_ends_its_last_line() -> None:
    one, other = (record(atlas.find("lenet5")).to_json() for _ in range(2))
    assert one == other
    assert one.endswith(b"}\n")


def test_a_newer_format_asks_for_a_newer_convatlas() -> None:
    assert "newer convatlas" in complaint(json.dumps(written() | {"format": 3}).encode())
    # Whatever else is in it.
    assert "newer convatlas" in complaint(b'{"format": 99, "unheard": "of"}')


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
    ],
    ids=["empty", "brace", "list", "number", "null", "no keys", "text", "bytes", "words", "nested", "first", "second"],
)
def test_a_file_that_is_no_record_is_a_one_line_error_that_names_it(content: bytes) -> None:
    complaint(content)


@settings(max_examples=40)
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_a_one_line_error_that_names_it(part: float) -> None:
    content = record(atlas.find("lenet5"), results=RESULTS).to_json().rstrip()
    complaint(content[: int(part * len(content))])


@pytest.mark.parametrize("key", sorted(written().keys() - ADDED.keys()))
def test_a_missing_key_is_a_one_line_error_that_names_the_file(key: str) -> None:
    values = written()
    del values[key]
    complaint(json.dumps(values).encode())


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("spec", "c1"),
        ("preprocessing", "mean"),
        ("recipe", "optimizer"),
        ("recipe", "lr"),
        ("results", "macs"),
        ("execution", "threads"),
    ],
)
def test_a_missing_part_of_a_part_is_a_one_line_error_that_names_the_file(part: str, key: str) -> None:
    values = written()
    del values[part][key]
    complaint(json.dumps(values).encode())


def test_a_key_that_no_version_wrote_is_a_one_line_error_that_names_the_file() -> None:
    complaint(json.dumps(written() | {"color": "blue"}).encode())


@pytest.mark.parametrize(
    "schedule", [None, {}, {"kind": "Sawtooth"}, {"kind": "Cosine", "rates": []}, {"rates": [[1, 0.1]]}], ids=str
)
def test_a_schedule_that_no_version_knows_is_a_one_line_error_that_names_the_file(schedule: object) -> None:
    values = written()
    values["recipe"]["schedule"] = schedule
    complaint(json.dumps(values).encode())


def test_an_unknown_variant_is_a_one_line_error_that_names_the_file_and_near_variants() -> None:
    message = complaint(json.dumps(written() | {"variant": "lenet6"}).encode())
    assert "lenet6" in message
    assert "lenet5" in message


def test_a_spec_that_cannot_work_is_a_one_line_error_that_names_the_file() -> None:
    values = written()
    values["spec"]["num_classes"] = 0
    complaint(json.dumps(values).encode())


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    values = written()
    change(values)
    return json.dumps(values).encode()


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=100)
@given(st.sampled_from(sorted(written())), junk)
def test_whatever_stands_at_a_key_nothing_but_a_mistake_of_the_user_is_raised(key: str, value: Any) -> None:
    content = changed(lambda values: values.update({key: value}))
    said = WHERE
    try:
        Record.from_json(content, WHERE)
    except UserError as error:
        said = str(error)
    assert WHERE in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", None),
        ("format", "1"),
        ("variant", 5),
        ("variant", None),
        ("spec", None),
        ("recipe", []),
        ("results", 5),
        ("execution", None),
    ],
)
def test_a_value_of_another_kind_is_a_one_line_error_that_names_the_file(key: str, value: Any) -> None:
    complaint(changed(lambda values: values.update({key: value})))
