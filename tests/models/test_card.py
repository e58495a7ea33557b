"""`model.json`: what it says comes back, and whatever else stands in it is refused in one line."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas import atlas, measure
from convatlas.errors import UserError
from convatlas.files.sealed_json import unsealed
from convatlas.files.typed_json import MalformedJsonError, encoded
from convatlas.images import ChannelOrder, Interpolation, Preprocessing, ResizeMode
from convatlas.models.bounds import describe_card
from convatlas.models.card import CARD, FORMAT, Card, Provenance, Score, StartedFrom, installed_versions
from convatlas.models.evaluation import wilson_interval
from convatlas.models.folder import read_card
from convatlas.models.model import Model, open_model
from convatlas.models.network import build, spec_of
from convatlas.spec import Spec, Variant
from convatlas.spec.quantization import LayerQuantization

WHERE = "models/lenet5/model.json"
CLASSES = ("cat", "dög", "猫 & <b>")
SCORE = Score(accuracy=1 / 3, interval=wilson_interval(3, 9), num_errors=6, num_images=9)
QUANTIZATION = (
    LayerQuantization(name="c1", weight_bits=4, input_low=-0.1, input_high=1.5),
    LayerQuantization(name="c3.conv", weight_bits=8),
)


def card_of(variant: Variant, spec: Spec | None = None, **changes: Any) -> Card:
    """An untrained card of three classes."""
    spec = replace(spec or variant.spec, num_classes=len(CLASSES))  # type: ignore[type-var]
    n = spec.in_channels
    values: dict[str, Any] = {
        "variant": variant.name,
        "spec": encoded(spec),
        "classes": CLASSES,
        "preprocessing": Preprocessing(resize=32, crop=32, channels=n, mean=(0.1,) * n, std=(1 / 3,) * n, ink=0.62),
        "provenance": Provenance(method="trained", data="digits", data_checksum="cd" * 32, seed=2**63 - 1),
        "params": 60_000,
        "macs": 416_520,
    }
    return Card(**(values | changes))


def written(**changes: Any) -> dict[str, Any]:
    """The JSON of an evaluated lenet5."""
    own = card_of(atlas.find("lenet5"), score=SCORE, quantization=QUANTIZATION, weights_sha256="ab" * 32)
    return unsealed(json.loads(own.to_json())) | changes


def complaint(content: bytes) -> str:
    """The one line, with the file's name in it, that reading says."""
    with pytest.raises(UserError) as caught:
        Card.from_json(content, WHERE)
    message = str(caught.value)
    assert message.startswith(WHERE)
    assert len(message.splitlines()) == 1
    return message


def complaint_about(**changes: Any) -> str:
    return complaint(json.dumps(written(**changes)).encode())


def test_a_card_survives_its_file(structure: Variant) -> None:
    for spec in (structure.spec, structure.spec.scaled(width=0.5, depth=2), structure.spec.scaled(resolution=64)):
        before = card_of(structure, spec)
        after = Card.from_json(before.to_json(), WHERE)
        assert after == before
        # A list in a tuple's place would not be hashable.
        assert hash(spec_of(after)) == hash(replace(spec, num_classes=len(CLASSES)))  # type: ignore[type-var]
        assert spec_of(after) == replace(spec, num_classes=len(CLASSES))  # type: ignore[type-var]
        assert type(spec_of(after)) is type(spec)


@pytest.mark.few_structures
def test_the_network_of_a_card_is_built_from_its_file_alone(structure: Variant) -> None:
    spec = structure.spec.scaled(width=0.25, resolution=64)
    after = Card.from_json(card_of(structure, spec).to_json(), WHERE)
    expected = measure.cost_of(structure.network, replace(spec, num_classes=len(CLASSES)))  # type: ignore[type-var]
    assert describe_card(after).cost == expected
    assert build(after).spec == spec_of(after)


def test_everything_that_a_card_can_say_survives_its_file() -> None:
    plain = card_of(atlas.find("lenet5"))
    changes: dict[str, Any] = {
        "preprocessing": Preprocessing(
            resize=36,
            crop=32,
            channels=1,
            mean=(127.5,),
            std=(64.0,),
            value_range=255.0,
            mode=ResizeMode.LETTERBOX,
            interpolation=Interpolation.BICUBIC,
            channel_order=ChannelOrder.BGR,
            native_side=256,
            ink=0.9,
        ),
        "provenance": Provenance(
            method="pruned by LAMP",
            data="hf:owner/name",
            data_checksum="12" * 32,
            seed=3,
            skip_bad=True,
            parent_sha256="34" * 32,
            started_from=StartedFrom(weights="torchvision:resnet18", sha256="56" * 32, license="BSD-3-Clause"),
            versions={"torch": "3.0"},
        ),
        "quantization": QUANTIZATION,
        "score": SCORE,
        "weights_sha256": "ef" * 32,
    }
    before = replace(plain, **changes)
    assert {name for name in changes if getattr(before, name) == getattr(plain, name)} == set()
    after = Card.from_json(before.to_json(), WHERE)
    assert after == before
    assert isinstance(after.classes, tuple)
    assert isinstance(after.preprocessing.mean, tuple)
    assert after.score is not None
    assert isinstance(after.score.interval, tuple)


@settings(max_examples=20)
@given(
    st.lists(st.text(), min_size=3, max_size=3),
    st.integers(0, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_every_bit_of_names_and_numbers_survives(classes: list[str], seed: int, accuracy: float) -> None:
    plain = card_of(atlas.find("lenet1"), score=replace(SCORE, accuracy=accuracy))
    before = replace(plain, classes=tuple(classes), provenance=replace(plain.provenance, seed=seed))
    assert Card.from_json(before.to_json(), WHERE) == before


def test_the_file_says_its_format_and_the_versions_that_made_it() -> None:
    values = written()
    assert values["format"] == FORMAT == 1
    assert values["provenance"]["versions"] == installed_versions()
    assert set(installed_versions()) == {"convatlas", "python", "torch", "numpy", "pillow"}
    assert values["calibration"] is None


def test_the_same_card_is_the_same_bytes_and_ends_its_last_line() -> None:
    one, other = (card_of(atlas.find("lenet5")).to_json() for _ in range(2))
    assert one == other
    assert one.endswith(b"}\n")


def test_a_newer_format_asks_for_a_newer_convatlas() -> None:
    assert "newer convatlas" in complaint_about(format=2)
    # Whatever else is in it.
    assert "newer convatlas" in complaint(b'{"format": 99, "unheard": "of"}')


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", True, None, [1], 2**70], ids=repr)
def test_an_unknown_format_is_one_line(version: Any) -> None:
    assert "format" in complaint_about(format=version)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b"null", b"{}", b'"text"', b"\xff\xfe\x00", b"not json", b"[" * 100_000, b'{"format": 1}'],
    ids=["empty", "brace", "list", "number", "null", "no keys", "text", "bytes", "words", "nested", "first"],
)
def test_a_file_that_is_no_card_is_one_line(content: bytes) -> None:
    complaint(content)


@settings(max_examples=40)
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_one_line(part: float) -> None:
    content = json.dumps(written()).encode()
    complaint(content[: int(part * len(content))])


@pytest.mark.parametrize("num", [0, 2, 4])
def test_classes_that_do_not_fit_the_network_are_one_line(num: int) -> None:
    message = complaint_about(classes=[f"class {i}" for i in range(num)])
    assert f"it names {num} classes, and its network has 3 outputs" in message


@pytest.mark.parametrize("key", ["num_classes", "in_channels"])
def test_a_long_value_that_does_not_fit_is_not_printed_whole(key: str) -> None:
    assert len(complaint_about(spec=written()["spec"] | {key: "x" * 100_000})) < 200


def test_images_that_do_not_fit_the_network_are_one_line() -> None:
    color = {"channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
    message = complaint_about(preprocessing=written()["preprocessing"] | color)
    assert "its images have 3 channels, and its network reads 1" in message
    for name in ("mean", "std"):
        assert f"{name} has 2 values" in complaint_about(preprocessing=written()["preprocessing"] | {name: [0.5, 0.5]})


def test_a_card_that_does_not_say_what_training_started_from_is_read() -> None:
    values = written()
    assert values["provenance"].pop("started_from") is None
    assert Card.from_values(values).to_json() == Card.from_values(written()).to_json()


REQUIRED = ("variant", "spec", "classes", "preprocessing", "provenance", "params", "macs")


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_field_is_named(key: str) -> None:
    values = written()
    del values[key]
    assert f"it has no {key}" in complaint(json.dumps(values).encode())


@pytest.mark.parametrize(
    ("part", "key"),
    [
        *(("preprocessing", key) for key in ("resize", "crop", "channels", "mean", "std")),
        *(("provenance", key) for key in ("method", "data", "versions")),
        *(("score", key) for key in ("accuracy", "interval", "num_errors", "num_images")),
    ],
)
def test_a_missing_field_of_a_part_is_named(part: str, key: str) -> None:
    values = written()
    del values[part][key]
    assert f"{part} has no {key}" in complaint(json.dumps(values).encode())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": 5}, "variant is 5, not text"),
        ({"spec": None}, "spec is None, not an object"),
        ({"classes": "abc"}, "classes is 'abc', not a list"),
        ({"classes": ["a", "b", 3]}, "classes[2] is 3, not text"),
        ({"params": -1}, "params is -1, not a whole number from 0"),
        ({"params": True}, "params is True, not a whole number from 0"),
        ({"macs": 1.0}, "macs is 1.0, not a whole number from 0"),
        ({"macs": 2**63}, f"macs is {2**63}, not a whole number from 0"),
        ({"score": {}}, "score has no accuracy"),
        ({"score": [1]}, "score is [1], not an object"),
        ({"quantization": 5}, "quantization is 5, not a list"),
        ({"quantization": [{"name": "c1"}]}, "quantization[0] has no weight_bits"),
        ({"weights_sha256": 5}, "weights_sha256 is 5, not text"),
        ({"calibration": {"temperature": 2}}, "calibration is {'temperature': 2}, not null"),
        ({"color": "blue"}, "it has the unknown field 'color'"),
        ({"two\nlines": 1}, r"it has the unknown field 'two\nlines'"),
        ({"\x1b[2J" + "long" * 100: 1}, r"it has the unknown field '\x1b[2J"),
    ],
)
def test_a_malformed_field_is_named(changes: dict[str, Any], message: str) -> None:
    found = complaint_about(**changes)
    assert message in found
    assert len(found) < 200
    assert found.isprintable()


def test_a_malformed_field_of_a_part_is_named() -> None:
    odd = written()["provenance"] | {"versions": {"to\nrch": 2}}
    assert r"provenance.versions.to\nrch is 2, not text" in complaint_about(provenance=odd)
    odd = written()["score"] | {"interval": [0.1, "x"]}
    assert "score.interval[1] is 'x', not a number" in complaint_about(score=odd)
    odd = written()["score"] | {"accuracy": float("nan")}
    assert "score.accuracy is nan, not a number" in complaint_about(score=odd)


@pytest.mark.parametrize("depth", [100, *range(900, 1000, 7), 100_000])
@pytest.mark.parametrize("key", ["variant", "classes", "score", "unknown"])
def test_values_of_any_depth_are_one_line(key: str, depth: int) -> None:
    values = written()
    values.pop(key, None)
    content = json.dumps(values)[:-1] + f', "{key}": ' + "[" * depth + "]" * depth + "}"
    complaint(content.encode())


# Small networks of every family.
VARIANTS = ("lenet5", "alexnet", "vgg11", "googlenet", "resnet20-cifar", "squeezenet", "mobilenet", "efficientnet-b0")


@cache
def finished_card(name: str) -> bytes:
    """Of three classes, with what its network really costs."""
    variant = atlas.find(name)
    spec = replace(variant.spec.scaled(resolution=32), num_classes=len(CLASSES))  # type: ignore[type-var]
    costs = measure.cost_of(variant.network, spec)._asdict()
    return card_of(variant, spec, score=SCORE, **costs).to_json()


@settings(max_examples=200)
@given(st.data(), st.sampled_from(VARIANTS))
def test_whatever_stands_at_a_place_nothing_but_one_line_is_raised(
    tmp_path_factory: pytest.TempPathFactory,
    put_junk: Callable[..., None],
    data: st.DataObject,
    name: str,
) -> None:
    values = unsealed(json.loads(finished_card(name)))
    put_junk(data, values)
    folder = tmp_path_factory.getbasetemp() / "junk"
    folder.mkdir(exist_ok=True)
    (folder / CARD).write_text(json.dumps(values))
    try:
        found = read_card(folder)
    except UserError as error:
        message = str(error)
    else:
        # What opens is written as it was read.
        assert Card.from_json(found.to_json(), WHERE) == found
        return
    assert message.startswith(str(folder / CARD))
    assert len(message.splitlines()) == 1


def test_a_network_that_cannot_be_is_one_line(model_of: Callable[..., Model], tmp_path: Path) -> None:
    own = unsealed(json.loads(model_of("lenet5").card.to_json()))

    def complaint_of(change: Callable[[dict[str, Any]], object]) -> str:
        values = copy.deepcopy(own)
        change(values)
        (tmp_path / CARD).write_text(json.dumps(values))
        with pytest.raises(UserError) as caught:
            open_model(tmp_path)
        assert str(caught.value).startswith(str(tmp_path / CARD))
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert "lenet6" in (message := complaint_of(lambda values: values.update(variant="lenet6")))
    assert "lenet5" in message
    assert "3 px" in complaint_of(lambda values: values["spec"].update(resolution=3))
    assert "spec.c1 is 1.5, not a whole number" in complaint_of(lambda values: values["spec"].update(c1=1.5))
    assert "spec has no c1" in complaint_of(lambda values: values["spec"].pop("c1"))
    assert "spec has the unknown field 'c2'" in complaint_of(lambda values: values["spec"].update(c2=1))
    complaint_of(lambda values: values["spec"].update(c1=0))
    complaint_of(lambda values: values.update(variant="alexnet"))


def test_the_spec_of_another_family_is_malformed() -> None:
    own = card_of(atlas.find("lenet5"))
    with pytest.raises(MalformedJsonError, match="spec has"):
        spec_of(replace(own, variant="alexnet"))


WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "safetensors"):
            raise RuntimeError(f"{name} is imported")

sys.meta_path.insert(0, Blocked())
try:
    import torch
except RuntimeError:
    pass
else:
    sys.exit("torch is not blocked")

from pathlib import Path
from convatlas.models.card import Card

path = Path(sys.argv[1])
card = Card.from_json(path.read_bytes(), str(path))
print(card.variant, card.classes, card.preprocessing, card.score, card.provenance.method, sep="\\n")
"""


def test_a_card_is_read_without_torch(model_of: Callable[..., Model]) -> None:
    model = model_of("lenet5")
    assert model.path is not None
    command = [sys.executable, "-c", WITHOUT_TORCH, str(model.path / CARD)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    own = model.card
    expected = (own.variant, own.classes, own.preprocessing, own.score, own.provenance.method)
    assert done.stdout.splitlines() == [str(value) for value in expected]
