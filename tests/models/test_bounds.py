"""What building a network takes, so that what a file may take can be bounded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from convatlas import atlas
from convatlas.compression.quantization import quantization_for
from convatlas.errors import UserError
from convatlas.files.typed_json import MalformedJsonError, encoded
from convatlas.images.ink import MAX_INK, SMALLEST_INK
from convatlas.measure.table import build_without_memory, cost_of, layer_calls
from convatlas.models.bounds import (
    MAX_CALLS,
    MAX_CLASSES,
    MAX_COUNT,
    MAX_ELEMENTS,
    MAX_ELEMENTS_PER_PIXEL,
    MAX_OPERATIONS,
    MAX_OUTPUTS,
    Bounded,
    Room,
    check_card,
    check_numbers,
    describe,
    work,
)
from convatlas.models.card import Card, Score
from convatlas.models.codec.bytestream import DamagedFileError
from convatlas.models.codec.cards import CALLS, MAX_WEIGHTS, compact, described
from convatlas.models.codec.container import VERSION
from convatlas.models.evaluation import wilson_interval
from convatlas.models.model import Model, open_model
from convatlas.networks.efficientnet import EfficientNetSpec, MBConvStage
from convatlas.spec import Scale

Change = Callable[[dict[str, Any]], object]
ModelOf = Callable[..., Model]


# The last of each family, and larger ones.
LARGE = {family.variants[-1].name for family in atlas.families()}
LARGE |= {"lenet5", "vgg19", "googlenet-naive", "resnet152", "resnet1202-cifar", "mobilenet-conv"}


@pytest.mark.parametrize(
    "name",
    [
        variant.name if variant.name in LARGE else pytest.param(variant.name, marks=pytest.mark.slow)
        for variant in atlas.variants()
    ],
)
def test_no_network_of_the_atlas_takes_more_than_allowed(name: str) -> None:
    variant = atlas.find(name)
    num = len(build_without_memory(variant.network, variant.spec).state_dict())
    room = Room(MAX_WEIGHTS, min(CALLS * (num + 1), MAX_CALLS))
    bounded = Bounded(room, MAX_ELEMENTS_PER_PIXEL * variant.spec.resolution**2)
    with bounded:
        called = layer_calls(build_without_memory(variant.network, variant.spec), variant.spec)
    assert bounded.left > room.calls / 2
    assert sum(work(layer, output) for _, layer, output in called) < MAX_OPERATIONS
    assert sum(math.prod(output.shape[1:]) for _, _, output in called) < MAX_OUTPUTS


def test_numbers_beyond_networks_are_refused() -> None:
    check_numbers({"stages": [[1, 2.5], [MAX_COUNT]], "name": "x", "there": None, "is": True})
    for odd in (MAX_COUNT + 1, -1e9, float("nan"), float("inf")):
        with pytest.raises(MalformedJsonError, match="beyond what any network has"):
            check_numbers({"stages": [[1, odd]]})


def at(*path: str | int, value: Any) -> Change:
    """Puts a value at a place inside the values."""

    def change(values: dict[str, Any]) -> None:
        held: Any = values
        for key in path[:-1]:
            held = held[key]
        held[path[-1]] = value

    return change


OF_BOTH = [
    (at("preprocessing", "ink", value=7.0), "ink 7.0 does not work"),
    (at("preprocessing", "ink", value=0.01), "ink 0.01 does not work; it must be a part of the frame"),
    (at("preprocessing", "mean", value=[-1e300]), "no such values"),
    (at("preprocessing", "mean", value=[float("nan")]), r"preprocessing.mean\[0\] is nan, not a number"),
    (at("preprocessing", "channels", value=2), "channels 2 does not work"),
    (at("preprocessing", "channels", value=3), "mean has 1 values"),
    (lambda values: values.update(classes=values["classes"][1:]), "it names 9 classes, and its network has 10 outputs"),
    (at("classes", value=[1] * 10), r"classes\[0\] is 1, not text"),
    (at("classes", value="0123456789"), "classes is '0123456789', not a list"),
    (at("classes", 3, value="\x1b[2J"), "text that cannot be shown"),
    (at("classes", 3, value="\ud800"), "text that cannot be shown"),
    (at("classes", 3, value="one\ntwo"), "text that cannot be shown"),
    (at("spec", "c1", value=6.0), "spec.c1 is 6.0, not a whole number"),
    (at("spec", "c1", value=0), "cannot be built|c1"),
    (at("spec", "c1", value="6"), "spec.c1 is '6', not a whole number"),
    (at("spec", "c1", value=2**20 + 1), "beyond what any network has"),
    (at("format", value=99), "newer convatlas"),
    (at("format", value=0), "no format 0"),
    (at("format", value="1"), "format is '1', not a whole number"),
    (at("variant", value="lenet6"), "no network 'lenet6'"),
    (at("variant", value="lenet\x1b"), "text that cannot be shown|no network"),
    (lambda values: values.pop("spec"), "spec"),
]
"""Of a card and of a record, which say these in the same words."""


def check_refused(values: dict[str, Any], version: int, change: Change, message: str, model: Model) -> None:
    num = len(model.network.state_dict())
    described(json.dumps(values).encode(), version, num, 10**6)
    change(values)
    with pytest.raises((DamagedFileError, UserError), match=message) as caught:
        described(json.dumps(values).encode(), version, num, 10**6)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *OF_BOTH,
        (at("preprocessing", "native_side", value=10**9), "native_side 1000000000 is not a size|no such images"),
        (at("preprocessing", "native_side", value=0), "native_side 0 is not a size"),
        (at("preprocessing", "resize", value=20), "crop 28 is larger than the resized image of 20 pixels"),
        (at("preprocessing", "resize", value=500), "mostly margin"),
        (at("preprocessing", "resize", value=-3), "preprocessing.resize is -3, not a whole number"),
        (lambda values: values["preprocessing"].update(resize=64, crop=64), "not what its network reads"),
        (at("preprocessing", "std", value=[0.0]), "std .* does not work"),
        (at("preprocessing", "std", value=[1e300]), "no such values"),
        (at("preprocessing", "std", value=[1e-300]), "no such values"),
        (at("preprocessing", "value_range", value=2.0), "value_range 2.0 does not work"),
        (at("preprocessing", "mode", value="stretch"), "preprocessing.mode is 'stretch', not one of crop"),
        (at("preprocessing", "channel_order", value="gbr"), "preprocessing.channel_order is 'gbr', not one of rgb"),
        (at("score", value=None), "not finished"),
        (lambda values: values.pop("score"), "not finished"),
        (at("provenance", "seed", value="x"), "provenance.seed is 'x', not a whole number"),
        (at("provenance", "seed", value=True), "provenance.seed is True, not a whole number"),
        (at("provenance", "seed", value=-1), "provenance.seed is -1, not a whole number"),
        (at("provenance", "seed", value=2**63), f"provenance.seed is {2**63}, not a whole number"),
        (at("provenance", "data", value=5), "provenance.data is 5, not text"),
        (at("provenance", "data", value="digits\n"), "text that cannot be shown"),
        (at("provenance", "method", value="\x1b[31m"), "text that cannot be shown"),
        (at("provenance", "versions", value={"torch": 2}), "provenance.versions.torch is 2, not text"),
        (at("provenance", "color", value="blue"), "provenance has the unknown field 'color'"),
        (at("params", value=None), "params is None, not a whole number"),
        (at("macs", value="x"), "macs is 'x', not a whole number"),
        (at("macs", value=-1), "macs is -1, not a whole number"),
        (at("params", value=60_000), "costs are another network's"),
        (at("macs", value=1), "costs are another network's"),
        (at("score", "accuracy", value=float("nan")), "score.accuracy is nan, not a number"),
        (at("score", "accuracy", value=1.5), "not a fraction of the images"),
        (at("score", "interval", value=[0.5]), r"score.interval is \[0.5\], not a list of 2"),
        (at("score", "interval", value=[-0.5, 1]), "not a fraction of the images"),
        (at("calibration", value=1.5), "calibration is 1.5, not null"),
        (at("recipe", value={}), "the unknown field 'recipe'"),
    ],
)
def test_a_card_that_cannot_be_is_refused(change: Change, message: str, model_of: ModelOf) -> None:
    model = model_of("lenet5-modern")
    check_refused(json.loads(compact(model.card)), VERSION, change, message, model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *OF_BOTH,
        (at("preprocessing", "side", value=10**9), "native_side 1000000000 is not a size|no such images"),
        (at("preprocessing", "side", value=0), "native_side 0 is not a size"),
        (at("preprocessing", "margin", value=-3), "crop 28 is larger than the resized image of 22 pixels"),
        (at("preprocessing", "margin", value=500), "mostly margin"),
        (at("preprocessing", "margin", value="wide"), "preprocessing has other fields"),
        (at("preprocessing", "resolution", value=64), "not what its network reads"),
        (at("preprocessing", "deviation", value=[0.0]), "std .* does not work"),
        (at("preprocessing", "deviation", value=[1e300]), "no such values"),
        (at("results", value=None), "not finished"),
        (at("results", value=5), "results is not an object"),
        (at("seed", value="x"), "seed is 'x', not a whole number"),
        (at("seed", value=True), "seed is True, not a whole number"),
        (at("seed", value=-1), "seed is -1, not a whole number"),
        (at("seed", value=2**63), f"seed is {2**63}, not a whole number"),
        (at("data", value=5), "data is 5, not text"),
        (at("made", value="\x1b[31m"), "text that cannot be shown"),
        (at("versions", value={"torch": 2}), "versions.torch is 2, not text"),
        (at("results", "params", value=None), "params is None, not a whole number"),
        (at("results", "macs", value="x"), "macs is 'x', not a whole number"),
        (at("results", "macs", value=-1), "macs is -1, not a whole number"),
        (at("results", "params", value=60_000), "costs are another network's"),
        (at("results", "macs", value=1), "costs are another network's"),
        (at("results", "test_accuracy", value=float("nan")), "accuracy is nan, not a number"),
        (at("results", "test_accuracy", value=1.5), "not a fraction of the images"),
        (at("results", "test_interval", value=[0.5]), r"interval is \[0.5\], not a list of 2"),
        (at("results", "test_interval", value=[-0.5, 1]), "not a fraction of the images"),
        (at("low_bits", value=True), "quantization is True, not a list"),
        (at("low_bits", value=5), "quantization is 5, not a list"),
        (at("low_bits", value=["c1"]), "not an object"),
        (at("preprocessing", value=None), "preprocessing is not an object"),
        (lambda values: values.pop("seed"), "seed"),
    ],
)
def test_a_record_of_version_1_that_cannot_be_is_refused(
    change: Change, message: str, model_of: ModelOf, as_record: Callable[[Card], dict[str, Any]]
) -> None:
    model = model_of("lenet5-modern")
    check_refused(json.loads(json.dumps(as_record(model.card))), 1, change, message, model)


def test_a_network_must_fit_its_file(model_of: ModelOf) -> None:
    model = model_of("lenet5-modern")
    card, num = compact(model.card), len(model.network.state_dict())
    with pytest.raises(DamagedFileError, match="has 11 tensors and its network 10"):
        described(card, VERSION, num + 1, 10**6)
    with pytest.raises(DamagedFileError, match="more weights than the 60,000 that there is room for"):
        described(card, VERSION, num, 60_000)


def test_limits_hold_however_large_a_file_is(model_of: ModelOf) -> None:
    def complaint(name: str, change: Change) -> str:
        values = json.loads(compact(model_of(name).card))
        change(values)
        with pytest.raises(DamagedFileError) as caught:
            described(json.dumps(values).encode(), VERSION, 1000, 10**15)
        return str(caught.value)

    def of(side: int, **spec: Any) -> Change:
        def change(values: dict[str, Any]) -> None:
            values["spec"] |= {"resolution": side, **spec}
            values["preprocessing"] |= {"resize": side, "crop": side}

        return change

    assert "one image do not fit" in complaint("resnet20-cifar", of(8000))
    assert complaint("lenet5", of(28, field=7000, c5=1))
    framed = of(4096, conv1=1, stages=[[1]] * 5)
    assert "images are too large" in complaint(
        "mobilenet", lambda values: (framed(values), values["preprocessing"].update(resize=3 * 4096))
    )
    assert "more weights" in complaint("lenet5-modern", of(28, c5=100_000, f6=3_000))
    # Small images, of which many are predicted at once.
    assert "one image do not fit" in complaint("vgg11", of(28, stages=[[[1400, 3]]] * 5))
    assert "computes more than any" in complaint("vgg11", of(1024, stages=[[[64, 3]] * 6] * 5))
    assert "more activations than any" in complaint("mobilenet", of(4096, stages=[[4] * 70, [1], [1], [1], [1]]))
    # A window half as large as the feature map.
    modules = [[[1, 0, 0, 0, 0, 0]], [[250, 0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0, 0]]]
    found = complaint("googlenet", of(8000, stem=[1, 1, 1], stages=modules, supervised=False, pooled=False, pool4=250))
    assert "computes more than any" in found


@pytest.mark.parametrize("stages", [(), (MBConvStage(3, 1, 4, ((8, 1), (8, 1))),)], ids=["none", "one"])
def test_a_network_that_halves_the_side_nowhere_opens(stages: tuple[MBConvStage, ...], model_of: ModelOf) -> None:
    model = model_of("efficientnet-b0")
    assert isinstance(model.spec, EfficientNetSpec)
    spec = replace(model.spec, stages=stages)
    costs = cost_of(model.variant.network, spec)
    card = replace(model.card, spec=encoded(spec), params=costs.params, macs=costs.macs)
    num = len(build_without_memory(model.variant.network, spec).state_dict())
    assert described(compact(card), VERSION, num, 10**6)[0].spec == encoded(spec)


@pytest.mark.parametrize("error", [StopIteration, ZeroDivisionError, RecursionError, AssertionError])
def test_whatever_a_network_raises_for_a_spec_is_the_files_fault(
    error: type[Exception], model_of: ModelOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("lenet5-modern")

    def failing(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("convatlas.models.bounds.build_without_memory", failing)
        check_nothing_opens(model)
    with monkeypatch.context() as patch:
        # As the spec itself might, of numbers that no version wrote.
        patch.setattr(type(model.spec), "__post_init__", failing, raising=False)
        check_nothing_opens(model)


def check_nothing_opens(model: Model) -> None:
    assert model.path is not None
    with pytest.raises(UserError, match=r"model\.json is damaged or was not written by convatlas"):
        open_model(model.path)
    with pytest.raises(DamagedFileError, match="its network cannot be built"):
        described(compact(model.card), VERSION, 10, 10**6)


def test_quantization_names_the_networks_own_layers(model_of: ModelOf) -> None:
    model = model_of("lenet5-modern")
    quantization = quantization_for(model.network, 4, {"c1": (0.0, 1.0)})
    num = len(model.network.state_dict()) + len(quantization)

    def card(*layers: Any) -> bytes:
        return compact(replace(model.card, quantization=layers))

    described(card(*quantization), VERSION, num, 10**6)
    first, *others = quantization
    for layers in (others, (*quantization, first), reversed(quantization)):
        with pytest.raises(DamagedFileError, match="its layers are not those of its quantization"):
            described(card(*layers), VERSION, num, 10**6)
    changes: tuple[dict[str, Any], ...] = (
        {"weight_bits": 1}, {"weight_bits": 9}, {"input_low": 0.5}, {"input_high": None},
    )  # fmt: skip
    for odd in changes:
        with pytest.raises(DamagedFileError, match="bits that none can have"):
            described(card(replace(first, **odd), *others), VERSION, num, 10**6)
    half: Any = 4.0
    with pytest.raises(DamagedFileError, match=r"quantization\[0\].weight_bits is 4.0, not a whole number"):
        described(card(replace(first, weight_bits=half), *others), VERSION, num, 10**6)


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("vgg19", Scale(resolution=512)),
        ("vgg16", Scale(resolution=600)),
        ("resnet152", Scale(width=2)),
        ("resnet152", Scale(resolution=600)),
        pytest.param("efficientnet-b7", Scale(resolution=800), marks=pytest.mark.slow),
        ("efficientnet-b0", Scale(phi=8)),
        ("mobilenet", Scale(width=2, resolution=1024)),
    ],
    ids=str,
)
def test_what_people_train_is_admitted(name: str, scale: Scale) -> None:
    variant = atlas.find(name)
    assert describe(variant.network, variant.spec.at(scale)).cost.params


def test_a_score_follows_from_its_counts(model_of: ModelOf) -> None:
    card = model_of("lenet5-modern").card
    score = Score(accuracy=0.75, interval=wilson_interval(3, 4), num_errors=1, num_images=4)
    check_card(replace(card, score=score))
    for changes, words in (
        ({"accuracy": 0.7500001}, "is not that of 3 correct of 4 images"),
        ({"interval": (0.0, 1.0)}, "is not that of 3 correct of 4 images"),
        ({"num_errors": 2}, "is not that of 2 correct of 4 images"),
        ({"num_errors": 5}, "wrong of 5 of 4 test images"),
        ({"num_images": 0, "num_errors": 0}, "wrong of 0 of 0 test images"),
    ):
        with pytest.raises(MalformedJsonError, match=words):
            check_card(replace(card, score=replace(score, **changes)))


def test_more_classes_than_any_data_set_has_are_refused(model_of: ModelOf) -> None:
    card = model_of("lenet5-modern").card
    names = tuple(map(str, range(MAX_CLASSES + 1)))
    with pytest.raises(MalformedJsonError, match="65,537 classes, and 65,536 is the limit"):
        check_card(replace(card, classes=names, spec=card.spec | {"num_classes": len(names)}))


def test_the_largest_frame_of_ink_is_the_largest_image() -> None:
    assert (MAX_INK / SMALLEST_INK) ** 2 == MAX_ELEMENTS
