import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.pictures import Preprocessing
from convatlas.runs import Record, Results
from convatlas.runs.record import installed_versions
from convatlas.spec import Augmentation, Optimiser, Recipe, Spec, Variant

every_variant = pytest.mark.parametrize("variant", atlas.variants(), ids=lambda variant: variant.name)

WHERE = "runs/lenet5-digits/run.json"
RECIPE = Recipe(
    name="paper",
    optimiser=Optimiser.LEVENBERG_MARQUARDT,
    lr=0.1 + 0.2,
    batch_size=7,
    epochs=3,
    weight_decay=1e-5,
    schedule=((2, 0.0005), (3, 0.0002)),
    augmentation=Augmentation(shift=0.07, flip=True),
    source="section 1",
)
RESULTS = Results(
    test_accuracy=1 / 3,
    test_interval=(0.1, 0.7),
    test_errors=6,
    test_pictures=9,
    train_pictures=40,
    left_out_pictures=0,
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
        "threads": 2,
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
    assert after.recipe.schedule == ((2, 0.0005), (3, 0.0002))
    assert after.results is not None
    assert after.results.test_interval == (0.1, 0.7)


def test_words_of_the_file_are_the_enumerations_again() -> None:
    after = Record.from_json(record(atlas.find("lenet5")).to_json(), WHERE)
    assert after.recipe.optimiser is Optimiser.LEVENBERG_MARQUARDT
    assert isinstance(after.recipe.augmentation, Augmentation)


@settings(max_examples=20)
@given(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**64), st.lists(st.text(), min_size=1, max_size=5)
)
def test_every_bit_of_numbers_and_names_survives(lr: float, seed: int, classes: list[str]) -> None:
    before = record(atlas.find("lenet1"), recipe=replace(RECIPE, lr=lr), seed=seed, classes=tuple(classes))
    assert Record.from_json(before.to_json(), WHERE) == before


def test_the_file_says_its_format_and_what_made_it() -> None:
    values = written()
    assert values["format"] == 1
    assert values["versions"] == installed_versions()
    assert set(values["versions"]) == {"convatlas", "python", "torch", "numpy", "pillow"}
    assert values["variant"] == "lenet5"


def test_the_same_record_is_the_same_bytes_and_ends_its_last_line() -> None:
    one, other = (record(atlas.find("lenet5")).to_json() for _ in range(2))
    assert one == other
    assert one.endswith(b"}\n")


def test_a_newer_format_asks_for_a_newer_convatlas() -> None:
    assert "newer convatlas" in complaint(json.dumps(written() | {"format": 2}).encode())
    # Whatever else is in it.
    assert "newer convatlas" in complaint(b'{"format": 99, "unheard": "of"}')


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b"null", b"{}", b'"text"', b"\xff\xfe\x00", b"not json", b"[" * 100_000, b'{"format": 1}'],
    ids=["empty", "brace", "list", "number", "null", "no keys", "text", "bytes", "words", "nested", "format only"],
)
def test_a_file_that_is_no_record_is_a_one_line_error_that_names_it(content: bytes) -> None:
    complaint(content)


@settings(max_examples=40)
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_a_one_line_error_that_names_it(part: float) -> None:
    content = record(atlas.find("lenet5"), results=RESULTS).to_json().rstrip()
    complaint(content[: int(part * len(content))])


@pytest.mark.parametrize("key", sorted(written()))
def test_a_missing_key_is_a_one_line_error_that_names_the_file(key: str) -> None:
    values = written()
    del values[key]
    complaint(json.dumps(values).encode())


@pytest.mark.parametrize(
    ("part", "key"),
    [("spec", "c1"), ("preprocessing", "mean"), ("recipe", "optimiser"), ("recipe", "lr"), ("results", "macs")],
)
def test_a_missing_part_of_a_part_is_a_one_line_error_that_names_the_file(part: str, key: str) -> None:
    values = written()
    del values[part][key]
    complaint(json.dumps(values).encode())


def test_a_key_that_no_version_wrote_is_a_one_line_error_that_names_the_file() -> None:
    complaint(json.dumps(written() | {"colour": "blue"}).encode())


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
    ],
)
def test_a_value_of_another_kind_is_a_one_line_error_that_names_the_file(key: str, value: Any) -> None:
    complaint(changed(lambda values: values.update({key: value})))
