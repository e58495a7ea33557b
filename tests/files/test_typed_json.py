"""Frozen data through JSON and back; what does not fit its type is refused, and the message names the field."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.files.typed_json import (
    KIND,
    MAX_INTEGER,
    MalformedJsonError,
    NewerFormatError,
    as_file_error,
    decoded,
    encoded,
    field_types,
    parsed_object,
)
from convatlas.images import ChannelOrder, Interpolation, Preprocessing, ResizeMode
from convatlas.models.card import Card, Provenance, Score
from convatlas.recipe import Augmentation, Cosine, LinearDecay, Recipe, Staircase, Steps
from convatlas.runs.options import Distillation, Execution, InitFrom, Runtime, Validation
from convatlas.runs.record import Record, TrainingResults
from convatlas.spec import Scale
from convatlas.spec.quantization import LayerQuantization

PREPROCESSING = (
    Preprocessing(resize=28, crop=28, channels=1, mean=(0.1,), std=(0.3,)),
    Preprocessing(
        resize=256,
        crop=224,
        channels=3,
        mean=(104.0, 117.0, 124.0),
        std=(1.0, 2.0, 1 / 3),
        value_range=255.0,
        mode=ResizeMode.LETTERBOX,
        interpolation=Interpolation.BICUBIC,
        channel_order=ChannelOrder.BGR,
    ),
    Preprocessing(resize=32, crop=32, channels=1, mean=(0.0,), std=(1.0,), native_side=8, ink=0.62),
)
SPECS = tuple(type(family.variants[0].spec) for family in atlas.families())
PARTS = (
    Provenance, Score, LayerQuantization, Augmentation, Cosine, LinearDecay, Steps, Staircase, Recipe, Scale,
    Validation, InitFrom, Distillation, Runtime, Execution, TrainingResults,
)  # fmt: skip
"""Of the files that a run leaves, each that can be drawn field by field."""


class Color(enum.StrEnum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Size(NamedTuple):
    width: int
    name: str


@dataclass(frozen=True)
class Circle:
    radius: float


@dataclass(frozen=True)
class Square:
    side: float
    color: Color = Color.RED


@dataclass(frozen=True, kw_only=True)
class Everything:
    """A field of every type that a file may have."""

    count: int
    ratio: float
    text: str
    on: bool
    color: Color
    choice: Literal["a", "b"]
    size: Size
    pair: tuple[int, str]
    many: tuple[tuple[float, ...], ...]
    named: dict[str, float]
    shape: Circle | Square
    maybe_shape: Circle | Square | None
    shapes: tuple[Square, ...]
    maybe: int | None
    number_or_text: int | str
    nothing: None
    anything: Any
    default: int = 5
    here: str = field(default_factory=lambda: "this machine")


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type, as `decoded` gives them."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return st.one_of(*map(values_of, parts))
    if origin is tuple:
        if parts[1:] == (...,):
            return st.lists(values_of(parts[0]), max_size=3).map(tuple)
        return st.tuples(*map(values_of, parts))
    if origin is dict:
        return st.dictionaries(values_of(parts[0]), values_of(parts[1]), max_size=3)
    if origin is Literal:
        return st.sampled_from(parts)
    if hint is Preprocessing:
        return st.sampled_from(PREPROCESSING)
    if dataclasses.is_dataclass(hint):
        return instances(hint)
    if hint is Any:
        return JSON
    if issubclass(hint, tuple):
        return st.tuples(*map(values_of, get_type_hints(hint).values())).map(lambda parts: hint(*parts))
    if issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        NoneType: st.none(),
        bool: st.booleans(),
        int: st.integers(0, MAX_INTEGER),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=5),
    }
    return simple[hint]


PART = st.floats(0, 1)
RANGES: dict[tuple[type, str], st.SearchStrategy[Any]] = {
    (Validation, "val_split"): st.floats(0.01, 0.99),
    (Validation, "patience"): st.none() | st.integers(1, 9),
    (Distillation, "temperature"): st.floats(0.01, 100),
    (Distillation, "distill_weight"): st.floats(0.01, 1),
    (Distillation, "attention_weight"): st.floats(0, 100),
    (Runtime, "micro_batch"): st.none() | st.integers(1, MAX_INTEGER),
    (Runtime, "checkpoint_steps"): st.none() | st.integers(1, MAX_INTEGER),
    (Execution, "threads"): st.integers(1, 512),
    **{(Augmentation, name): PART for name, hint in field_types(Augmentation).items() if hint is float},
    (Augmentation, "aspect"): st.floats(1, 100),
    (Augmentation, "side"): st.floats(0.1, 1),
    (Cosine, "warmup"): PART,
    (Steps, "rates"): st.lists(st.tuples(st.integers(1, 9), st.floats(0.1, 1)), min_size=1, max_size=3).map(tuple),
    (Staircase, "factor"): PART,
    **{(Staircase, name): st.floats(0.01, 100) for name in ("every", "of", "warmup")},
    **{(Recipe, name): PART for name, hint in field_types(Recipe).items() if hint is float},
    (Recipe, "batch_size"): st.integers(1, 2**20),
    (Recipe, "epochs"): st.integers(10, 100_000),
    (Recipe, "epochs_of"): st.none() | st.integers(1, 2**40),
    (Record, "stop_at_error"): st.none() | PART,
    (TrainingResults, "epochs"): st.integers(9, 10),
    (TrainingResults, "best_epoch"): st.none() | st.integers(1, 9),
    (TrainingResults, "seconds"): st.floats(0, 1e12),
}
"""Of fields whose class refuses other values of the type."""


def instances(kind: Any) -> st.SearchStrategy[Any]:
    """Instances of a dataclass."""
    drawn = {name: RANGES.get((kind, name), values_of(hint)) for name, hint in field_types(kind).items()}
    return st.fixed_dictionaries(drawn).map(lambda fields: made(kind, fields))


def made(kind: Any, fields: dict[str, Any]) -> Any:
    try:
        return kind(**fields)
    except UserError:
        reject()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([2**63, -(2**63), 10**30])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
"""Whatever `json.loads` may give."""


@st.composite
def cards(draw: st.DrawFn) -> Card:
    """Cards whose classes and images fit their spec."""
    preprocessing = draw(st.sampled_from(PREPROCESSING))
    classes = draw(st.lists(st.text(max_size=5), max_size=4))
    others = {"num_classes": len(classes), "in_channels": preprocessing.channels}
    finite = st.floats(allow_nan=False)
    drawn = {
        name: draw(values_of(hint))
        for name, hint in field_types(Card).items()
        if name not in ("spec", "classes", "preprocessing")
    }
    return Card(
        spec=draw(st.dictionaries(st.text(max_size=3), finite | st.lists(finite, max_size=2), max_size=2)) | others,
        classes=tuple(classes),
        preprocessing=preprocessing,
        **drawn,
    )


def through_a_file(value: Any) -> Any:
    return json.loads(json.dumps(encoded(value)))


def same_types(one: Any, other: Any) -> bool:
    """Whether two equal values have the same types, down to the last part."""
    if type(one) is not type(other):
        return False
    if dataclasses.is_dataclass(one):
        return all(same_types(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, tuple):
        return all(map(same_types, one, other))
    return True


# There and back.


@pytest.mark.parametrize("kind", [*PARTS, *SPECS], ids=lambda kind: kind.__name__)
@settings(max_examples=20)
@given(data=st.data())
def test_every_part_of_a_file_comes_back(kind: Any, data: st.DataObject) -> None:
    if kind in SPECS:
        # Their numbers must fit each other; the atlas has enough of them.
        variant = data.draw(st.sampled_from([one for one in atlas.variants() if type(one.spec) is kind]))
        width = data.draw(st.floats(0.25, 2))
        before: Any = variant.spec.scaled(width=width)
    else:
        before = data.draw(instances(kind))
    after = decoded(kind, through_a_file(before))
    assert after == before
    assert same_types(after, before)
    assert through_a_file(after) == through_a_file(before)


@given(cards())
def test_every_card_comes_back(before: Card) -> None:
    after = Card.from_json(before.to_json(), "model.json")
    assert after == before
    assert same_types(after, before)


@settings(max_examples=20)
@given(instances(Record))
def test_every_record_comes_back(before: Record) -> None:
    after = Record.from_values(parsed_object(before.to_json(), 3))
    assert after == before
    assert same_types(after, before)


@given(instances(Everything))
def test_every_type_comes_back(before: Everything) -> None:
    after = decoded(Everything, encoded(before))
    assert {f: getattr(after, f) for f in field_types(Everything) if f != "anything"} == {
        f: getattr(before, f) for f in field_types(Everything) if f != "anything"
    }


PLAIN = Everything(
    count=3, ratio=0.5, text="t", on=True, color=Color.DARK_BLUE, choice="b", size=Size(1, "s"), pair=(2, "p"),
    many=((1.5,), ()), named={"n": 2.0}, shape=Square(3.0), maybe_shape=Circle(1.0), shapes=(Square(1.0, Color.RED),),
    maybe=None, number_or_text="text", nothing=None, anything=[1, {"x": None}],
)  # fmt: skip


def test_the_json_is_what_a_person_would_write() -> None:
    assert through_a_file(PLAIN) == {
        "count": 3, "ratio": 0.5, "text": "t", "on": True, "color": "dark blue", "choice": "b", "size": [1, "s"],
        "pair": [2, "p"], "many": [[1.5], []], "named": {"n": 2.0},
        "shape": {"side": 3.0, "color": "red", "kind": "Square"}, "maybe_shape": {"radius": 1.0, "kind": "Circle"},
        "shapes": [{"side": 1.0, "color": "red"}], "maybe": None, "number_or_text": "text", "nothing": None,
        "anything": [1, {"x": None}], "default": 5, "here": "this machine",
    }  # fmt: skip


def test_a_whole_number_does_for_a_float_and_becomes_one() -> None:
    found = decoded(float, 3)
    assert (found, type(found)) == (3.0, float)
    assert decoded(float, -MAX_INTEGER) == -float(MAX_INTEGER)


def test_what_has_a_default_may_be_missing_but_not_what_is_of_the_writers_machine() -> None:
    values = through_a_file(PLAIN)
    del values["default"]
    assert decoded(Everything, values).default == 5
    del values["here"]
    with pytest.raises(MalformedJsonError, match=r"^it has no here$"):
        decoded(Everything, values)


# What does not fit.


def wrong(hint: Any) -> list[Any]:
    """Values that are not of a type."""
    origin, parts = get_origin(hint), get_args(hint)
    no_numbers = ["x", True, [], {}, float("nan"), float("inf"), -float("inf")]
    if origin in (Union, UnionType):
        others = [part for part in parts if part is not NoneType]
        found = [value for value in wrong(others[0]) if all(not fits(value, part) for part in others[1:])]
        return [value for value in found if value is not None or NoneType not in parts]
    if origin is tuple:
        return [None, 5, "ab", {}, True, *([[object()] * len(parts)] if parts[1:] != (...,) else [])]
    if origin is dict:
        return [None, 5, "ab", [], True]
    if origin is Literal or (isinstance(hint, type) and issubclass(hint, enum.Enum)):
        return [None, 5, "purple", [], {}, ["a"]]
    if dataclasses.is_dataclass(hint):
        return [None, 5, "ab", [], True]
    if hint is Any:
        return []
    if issubclass(hint, tuple):
        return [None, 5, "ab", {}, [], [1]]
    simple: dict[Any, list[Any]] = {
        NoneType: [0, False, "", [], {}],
        bool: [None, 0, 1, "true", [], {}],
        int: [None, *no_numbers, 1.0, -1, 2**63, 10**30],
        float: [None, *no_numbers, 2**63, -(2**63), 10**400],
        str: [None, 5, True, [], {}, ["x"]],
    }
    return simple[hint]


def fits(value: Any, hint: Any) -> bool:
    try:
        decoded(hint, value)
    except MalformedJsonError:
        return False
    return True


def of_wrong_types() -> list[tuple[Any, str]]:
    kinds = (Everything, *PARTS, *SPECS)
    return [(kind, name) for kind in kinds for name in field_types(kind)]


@pytest.fixture(scope="module")
def examples() -> dict[Any, Any]:
    """The JSON of an instance of each class."""
    recipe = paper_recipe()
    parts: tuple[Any, ...] = (
        PLAIN,
        Provenance(method="m", data="d", data_checksum="c", seed=0),
        Score(accuracy=0.5, interval=(0.4, 0.6), num_errors=1, num_images=2),
        LayerQuantization(name="c1", weight_bits=4, input_low=0.0, input_high=1.0),
        Augmentation(),
        Cosine(),
        LinearDecay(),
        Steps(((1, 0.5),)),
        Staircase(factor=0.5, every=1, of=2),
        recipe,
        Scale(),
        Validation(),
        InitFrom(path="p"),
        Distillation(teacher="t"),
        Runtime(),
        Execution(threads=1),
        TrainingResults(train_images=1, skipped_images=0, epochs=1, best_epoch=None, seconds=1.0),
        *(family.variants[0].spec for family in atlas.families()),
    )
    return {type(part): through_a_file(part) for part in parts}


def paper_recipe() -> Recipe:
    recipe = atlas.find("lenet5").recipe
    assert recipe is not None
    return recipe


@pytest.mark.at_once(("kind", "name"), of_wrong_types())
def test_a_value_of_another_type_is_refused_and_its_field_named(kind: Any, name: str, examples: dict[Any, Any]) -> None:
    own = examples[kind]
    assert fits(own, kind)
    for value in wrong(field_types(kind)[name]):
        for where in ("", "part[3]"):
            with pytest.raises(MalformedJsonError) as caught:
                decoded(kind, own | {name: value}, where)
            message = str(caught.value)
            # Or a part of it, as name[0] or name.kind.
            assert message.startswith(f"{where}.{name}" if where else name)
            assert len(message) < 400
            assert len(message.splitlines()) == 1


@pytest.mark.at_once("kind", [Everything, *PARTS, *SPECS])
def test_missing_and_unknown_fields_are_named(kind: Any, examples: dict[Any, Any]) -> None:
    own = examples[kind]
    for part in dataclasses.fields(kind):
        values = {name: value for name, value in own.items() if name != part.name}
        if part.default is dataclasses.MISSING:
            with pytest.raises(MalformedJsonError, match=rf"^part has no {part.name}$"):
                decoded(kind, values, "part")
        else:
            assert getattr(decoded(kind, values), part.name) == part.default
    for unknown in ("color of all", "two\nlines", "\x1b[2J", "x" * 10_000):
        with pytest.raises(MalformedJsonError, match=r"^it has the unknown field ") as caught:
            decoded(kind, own | {unknown: 1})
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 100


@pytest.mark.at_once(
    ("hint", "value", "message"),
    [
        (int, 2**63, f"it is {2**63}, not a whole number from 0"),
        (int, True, "it is True, not a whole number from 0"),
        (float, 10**400, "it is 1000"),
        (float, math.nan, "it is nan, not a number"),
        (tuple[int, ...], [0, 1, -1], "[2] is -1, not a whole number from 0"),
        (tuple[int, str], [0], "it is [0], not a list of 2"),
        (tuple[tuple[float, ...], ...], [[0.5], [1, "x"]], "[1][1] is 'x', not a number"),
        (dict[str, int], {"a b": 1, "c": "x"}, ".c is 'x', not a whole number from 0"),
        (dict[str, int], {"two\nlines": "x"}, r".two\nlines is 'x', not a whole number from 0"),
        (Size, [1, 2], "[1] is 2, not text"),
        (Size, [1], "it is [1], not a list of 2"),
        (Color, "dark", "it is 'dark', not one of red, dark blue"),
        (Literal["a", "b"], "c", "it is 'c', not one of 'a', 'b'"),
        (Circle | Square, {"radius": 1.0}, ".kind is None, not one of Circle, Square"),
        (Circle | Square, {"kind": "Triangle"}, ".kind is 'Triangle', not one of Circle, Square"),
        (Circle | Square, {"kind": {}}, ".kind is {}, not one of Circle, Square"),
        (Circle | Square, {"kind": "Circle", "side": 1.0}, "it has the unknown field 'side'"),
        (Circle | Square, None, "it is None, not an object"),
        (Circle | None, 5, "it is 5, not an object"),
        (int | str, 0.5, "it is 0.5, not text"),
        (str, b"x", "it is b'x', not text"),
    ],
)
def test_the_message_says_what_is_expected(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(MalformedJsonError) as caught:
        decoded(hint, value)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 120


@pytest.mark.at_once("depth", [10, 900, 950, 990, 5_000])
@pytest.mark.at_once("hint", [int, str, Circle, dict[str, int], Color, Circle | Square])
def test_values_of_any_depth_are_refused(hint: Any, depth: int) -> None:
    lists: Any = []
    objects: Any = {}
    for _ in range(depth):
        lists, objects = [lists], {"radius": objects}
    for value in (lists, objects):
        with pytest.raises(MalformedJsonError) as caught:
            decoded(hint, value)
        assert len(str(caught.value)) < 120


@pytest.mark.parametrize("kind", [Card, Record, Everything], ids=lambda kind: kind.__name__)
@given(value=JSON)
def test_of_any_json_nothing_else_is_raised(kind: Any, value: Any) -> None:
    with pytest.raises((MalformedJsonError, UserError)):
        decoded(kind, value)


@settings(max_examples=100)
@given(st.sampled_from(sorted(field_types(Everything))), JSON)
def test_what_fits_is_of_its_type(name: str, value: Any) -> None:
    hint = field_types(Everything)[name]
    try:
        found = decoded(hint, value)
    except MalformedJsonError:
        return
    assert hint is Any or decoded(hint, through_a_file_as(hint, found)) == found


def through_a_file_as(hint: Any, value: Any) -> Any:
    """As a field of that type: a class of a union says its kind."""
    holder = dataclasses.make_dataclass("Holder", [("value", hint)], frozen=True)
    return through_a_file(holder(value))["value"]


def test_what_a_class_refuses_is_a_mistake_of_the_person() -> None:
    with pytest.raises(UserError, match="`val_split` 2 splits nothing"):
        decoded(Validation, {"val_split": 2})


# Whole files.


@pytest.mark.at_once(
    "content",
    [b"", b"{", b"[]", b"5", b"null", b'"x"', b"\xff", b"[" * 100_000, b'{"a": ' * 100_000, b"{}", b'{"format": null}'],
)
def test_what_is_no_json_object_with_a_format_is_malformed(content: bytes) -> None:
    with pytest.raises(MalformedJsonError):
        parsed_object(content, 3)


@pytest.mark.at_once("version", ["0", "-1", "1.0", '"1"', "true", "[1]", "NaN", "9" * 30])
def test_a_format_that_none_is_is_malformed(version: str) -> None:
    with pytest.raises(MalformedJsonError, match="format"):
        parsed_object(f'{{"format": {version}}}'.encode(), 3)


@given(st.integers(1, 5), st.integers(1, 5))
def test_formats_up_to_the_newest_are_read(written: int, newest: int) -> None:
    content = f'{{"format": {written}, "x": 1}}'.encode()
    if written <= newest:
        assert parsed_object(content, newest) == {"format": written, "x": 1}
    else:
        with pytest.raises(NewerFormatError, match="newer convatlas; update this one"):
            parsed_object(content, newest)


def raising(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_errors_of_a_file_name_it_and_bugs_stay_bugs() -> None:
    for error, message in (
        (MalformedJsonError("x is 5"), "a/run.json is damaged or was not written by convatlas (x is 5)"),
        (UserError("there is no network"), "a/run.json: there is no network"),
        (NewerFormatError("newer"), "a/run.json: newer"),
    ):
        with pytest.raises(UserError) as caught, as_file_error("a/run.json"):
            raising(error)()
        assert str(caught.value) == message
    for bug in (KeyError("x"), TypeError("x"), ZeroDivisionError(), ValueError("x")):
        with pytest.raises(type(bug)) as raised, as_file_error("a/run.json"):
            raising(bug)()
        assert raised.value is bug


def test_the_key_of_a_union_is_no_field_of_its_classes() -> None:
    for kind in (Cosine, LinearDecay, Steps, Staircase):
        assert KIND not in field_types(kind)
