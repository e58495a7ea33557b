"""The figures of the moving drawings: those that papers print and formulas give."""

from __future__ import annotations

from itertools import product

import pytest

import convatlas as ca
from convatlas.museum import ideas
from convatlas.museum.exhibits import EXHIBITS


def test_three_filters_of_3x3_see_as_much_as_one_of_7x7() -> None:
    told = ideas.filters()
    assert told["sees"] == [3, 5, 7]
    for channels, one, three in zip(told["channels"], told["one"], told["three"], strict=True):
        # 1409.1556, section 2.3.
        assert (one, three[2]) == (49 * channels**2, 27 * channels**2)


def test_a_separable_convolution_costs_what_the_paper_says() -> None:
    told = ideas.separable()
    for (_, many, kernel), (full, depthwise, pointwise) in zip(
        product(told["in"], told["out"], told["kernel"]), told["costs"], strict=True
    ):
        assert (depthwise + pointwise) / full == pytest.approx(1 / many + 1 / kernel**2)


def test_inception_modules_give_the_channels_of_table_1() -> None:
    modules = {one["name"]: one for one in ideas.inception()["modules"]}
    # 1409.4842, Table 1: 1x1, 3x3, 5x5 and pooling, and the reductions before them.
    assert [one[1] for one in modules["3a"]["branches"]] == [64, 128, 32, 32]
    assert [one[0] for one in modules["3a"]["branches"]] == [0, 96, 16, 0]
    assert [one[1] for one in modules["5b"]["branches"]] == [384, 384, 128, 128]
    assert sum(one[2] for one in modules["3a"]["branches"]) == pytest.approx(128e6, rel=0.01)
    assert [modules["4a"]["in"], modules["4a"]["side"]] == [480, 14]
    for module in modules.values():
        assert sum(one[3] for one in module["branches"]) > sum(one[2] for one in module["branches"])


def test_a_fire_module_weighs_what_squeezenets_does() -> None:
    told = ideas.fire()
    table = ca.measure.layers_of(ca.find("squeezenet").network, ca.find("squeezenet").spec)
    # fire5 has 256 channels in and out, and squeezes to 32.
    fire5 = [row for row in table.part("stages.1.fire5") if row.macs]
    biases = sum(row.output_shape[0] for row in fire5)
    assert sum(told["costs"][told["squeezed"].index(32)]) == sum(row.params for row in fire5) - biases


def test_chains_are_those_of_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ideas, "DEPTHS", (5,))
    told = ideas.gradient_data()
    assert len(told["norms"]) == len(told["activation"]) * len(told["init"]) * 4
    assert {len(norms) for norms in told["norms"]} == {5}
    # Sigmoid with small weights, without anything: the gradient shrinks.
    first = told["norms"][0]
    assert first[0] < first[-1] - 3


def test_what_sentences_say_is_counted() -> None:
    params = {one.name: ca.measure.layers_of(one.variant.network, one.variant.spec).params for one in EXHIBITS}
    # "about a ninth of AlexNet's parameters", "about fifty times fewer"
    assert round(params["alexnet"] / params["googlenet"]) == 9
    assert params["alexnet"] / params["squeezenet"] == pytest.approx(50, abs=2)
    vgg = ca.measure.layers_of(ca.find("vgg16").network, ca.find("vgg16").spec)
    assert vgg["fc6"].params > vgg.params / 2
    assert [len(one.idea) for one in EXHIBITS] == [5] * 8
