"""EfficientNet: scaling to equal cost, the search, and statistics of known results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convatlas import atlas
from convatlas.experiments import Budget, Verdict
from convatlas.experiments.engine import accuracy
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import run_statement
from convatlas.experiments.topics import compound
from convatlas.experiments.topics.compound import (
    B0,
    COMPOUND,
    PAPER,
    RESNET,
    SINGLE,
    TOPIC,
    BaseNetwork,
    ScaledNetwork,
    Triple,
    bend,
    best,
    gain,
    grown,
    val_loss,
)
from convatlas.experiments.topics.equal_cost import macs
from convatlas.networks.efficientnet import EfficientNetSpec
from convatlas.runs.options import Validation

STATEMENTS = {statement.id: statement for statement in TOPIC.statements}
FEW = ("the paper's", "most depth")
"""Of compound scaling: the sizes of a network of equal cost are searched for a second."""
TINY = BaseNetwork("resnet20-cifar", 0.0625, 28)


@pytest.fixture
def quick(tmp_path: Path) -> Setting:
    return Setting(budget=Budget.QUICK, seeds=(0, 1), folder=tmp_path)


def test_doubling_measures_the_step_of_phi_farthest_from_2(quick: Setting) -> None:
    result = run_statement(STATEMENTS["doubling"], quick)
    assert result.measurement is not None
    spec, variant = atlas.find("efficientnet-b0").spec, atlas.find("efficientnet-b0")
    # From phi 0 to 1 every stage gets a unit more.
    first = macs(variant, spec.compound(1)) / macs(variant, spec)
    assert result.measurement.values == (first,)
    assert first > 2.3
    assert result.verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize("triple", (SINGLE | COMPOUND).values(), ids=(SINGLE | COMPOUND).keys())
def test_a_triple_roughly_doubles_macs(triple: Triple) -> None:
    alpha, beta, gamma = triple
    assert alpha * beta**2 * gamma**2 == pytest.approx(2, rel=0.05)


# --- growth to equal cost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "most", "compounds"),
    [
        pytest.param(B0, 0.02, FEW, id="efficientnet"),
        pytest.param(B0, 0.02, COMPOUND, id="efficientnet, all", marks=pytest.mark.slow),
        pytest.param(RESNET, 0.07, COMPOUND, id="resnet"),
    ],
)
def test_all_ways_to_grow_cost_about_the_same(
    base: BaseNetwork, most: float, compounds: Iterable[str], quick: Setting
) -> None:
    variant, own = atlas.find(base.network), base.spec(quick)
    triples = [*SINGLE.values(), *(COMPOUND[name] for name in compounds)]
    costs = [macs(variant, grown(base.network, own, triple, 2)) for triple in triples]
    assert max(costs) / min(costs) - 1 < most
    assert costs[0] / macs(variant, own) == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("name", SINGLE)
def test_one_dimension_grows_and_the_others_stay(name: str, quick: Setting) -> None:
    own = B0.spec(quick)
    spec = grown(B0.network, own, SINGLE[name], 2)
    assert isinstance(own, EfficientNetSpec)
    assert isinstance(spec, EfficientNetSpec)
    changed = {
        "depth": [len(stage.blocks) for stage in spec.stages] != [len(stage.blocks) for stage in own.stages],
        "width": [stage.out_channels for stage in spec.stages] != [stage.out_channels for stage in own.stages],
        "resolution": spec.resolution != own.resolution,
    }
    assert changed == {dimension: dimension == name for dimension in SINGLE}


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in COMPOUND]
)
def test_all_three_grow_together(name: str, quick: Setting) -> None:
    own = B0.spec(quick)
    spec = grown(B0.network, own, COMPOUND[name], 2)
    assert isinstance(own, EfficientNetSpec)
    assert isinstance(spec, EfficientNetSpec)
    assert sum(len(stage.blocks) for stage in spec.stages) > sum(len(stage.blocks) for stage in own.stages)
    assert sum(stage.out_channels for stage in spec.stages) > sum(stage.out_channels for stage in own.stages)
    assert spec.resolution > own.resolution


def test_the_full_budget_scales_the_paper_s_own_b0(quick: Setting) -> None:
    full = replace(quick, budget=Budget.FULL)
    paper = atlas.find("efficientnet-b0").spec
    assert B0.spec(full) == replace(paper, resolution=B0.side)
    assert RESNET.spec(full) == replace(atlas.find("resnet20-cifar").spec, resolution=RESNET.side)
    request = ScaledNetwork(B0, PAPER["the paper's"], 2).request(full, 1)
    assert (request.data, request.epochs, request.validation, request.seed) == ("cifar10", None, Validation(), 1)


# --- what is trained ---------------------------------------------------------------------------------------------


def test_the_search_takes_the_lowest_loss_among_the_names() -> None:
    losses = {"depth": 0.5, "width": 0.4, "resolution": 0.6, "equal shares": 0.1}
    assert best(losses, ["depth", "width", "resolution"]) == "width"


def test_a_curve_that_bends_down_saturates() -> None:
    assert bend([90.0, 93.0, 94.0]) == pytest.approx(2)
    assert bend([90.0, 91.0, 94.0]) == pytest.approx(-2)


@pytest.mark.parametrize(("ahead", "verdict"), [(1.0, Verdict.REPRODUCED), (-1.0, Verdict.NOT_REPRODUCED)])
def test_what_validation_chose_is_compared_on_the_test_images(
    ahead: float,
    verdict: Verdict,
    quick: Setting,
    known: Callable[[Iterable[float]], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = {"depth": 0.5, "width": 0.4, "resolution": 0.6, "most width": 0.3}
    compared: list[Triple] = []

    def trained(setting: Setting, networks: Iterable[ScaledNetwork]) -> dict[ScaledNetwork, list[Any]]:
        chosen = list(networks)
        compared.extend(network.triple for network in chosen)
        return {
            network: known([95.0 + (ahead if network.triple in COMPOUND.values() else 0)] * 2) for network in chosen
        }

    monkeypatch.setattr(
        compound, "search", lambda setting, networks: {name: losses.get(name, 1.0) for name in networks}
    )
    monkeypatch.setattr(compound, "trained", trained)
    monkeypatch.setattr(accuracy, "training_accuracy", lambda runs: 100.0)
    result = run_statement(STATEMENTS["search-resnet"], quick)
    assert compared == [COMPOUND["most width"], SINGLE["width"]]
    assert result.measurement is not None
    assert result.measurement.values == pytest.approx((ahead, ahead))
    assert result.verdict is verdict


def test_saturation_is_the_mean_bend_of_three_dimensions(
    quick: Setting, known: Callable[[Iterable[float]], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gains = {1: 90.0, 2: 92.0, 4: 92.5}

    def trained(setting: Setting, networks: Iterable[ScaledNetwork]) -> dict[ScaledNetwork, list[Any]]:
        # Compound scaling, which does not level off, is not counted.
        return {
            network: known(
                [gains[network.times] if network.triple in SINGLE.values() else 90 + 2 * math.log2(network.times)] * 2
            )
            for network in networks
        }

    monkeypatch.setattr(compound, "trained", trained)
    monkeypatch.setattr(compound, "B0", TINY)
    found = compound.saturation(quick)
    assert found.values == pytest.approx((1.5, 1.5))
    assert [len(one.y) for one in found.charts[0].series] == [3] * 4  # type: ignore[union-attr]
    assert run_statement(STATEMENTS["saturation"], quick).verdict is Verdict.NOT_TESTABLE


@pytest.mark.slow
def test_a_search_trains_one_seed_and_its_choice_every_seed(quick: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compound, "EPOCHS", 1)
    # In this process, which needs no start.
    monkeypatch.setattr(Setting, "train_all", lambda self, requests: None)
    found = gain(quick, TINY, PAPER, 2)
    assert "the network has hardly learned" in found.inconclusive
    assert len(found.values) == 2
    requests = {name: ScaledNetwork(TINY, triple, 2).request(quick, 0) for name, triple in (SINGLE | PAPER).items()}
    losses = {name: val_loss(quick.train(request)) for name, request in requests.items()}
    assert {name: f"{loss:.3f}" for name, loss in losses.items()} == {
        name: value.split(",")[0].removeprefix("validation loss ") for name, value in found.figures if name in losses
    }
    # Four at the first seed and two of them at the second.
    assert len(list(quick.folder.iterdir())) == len({repr(request.spec) for request in requests.values()}) + 2
