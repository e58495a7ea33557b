"""Fine-tuning that keeps zeros and shared values."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.compression.deep.codebook import share_weights
from convatlas.compression.deep.pruning import LAMP
from convatlas.errors import UserError
from convatlas.runs.options import WeightConstraint
from convatlas.runs.record import Record
from convatlas.runs.run import Run, load
from convatlas.training import Interrupted, Progress, Request, plan, train_as
from convatlas.training.constraints import ConstrainedWeights, codes_of
from convatlas.training.distribution import Processes

pytestmark = pytest.mark.usefixtures("one_thread")


def request(start: Path, kept: WeightConstraint, **given: object) -> Request:
    asked = Request(network="lenet5-modern", epochs=2, resolution=28, autotune=False, start=start, kept=kept, seed=1)
    return replace(asked, **given)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A trained network, pruned and with few values of 16 bits."""
    folder = tmp_path_factory.mktemp("start") / "run"
    run = ca.train("lenet5-modern", epochs=3, resolution=28, autotune=False, out=folder)
    network = run.network
    LAMP(0.6).prune(network)
    share_weights(network, 4)
    run.record = replace(run.record, results=replace(run.results, weights_sha256=run.write_weights(network)))
    run.write_record()
    return run


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if name.endswith("weight")}


@pytest.mark.parametrize("kept", [WeightConstraint.ZEROS, WeightConstraint.VALUES])
def test_what_is_kept_stays_and_all_else_learns(kept: WeightConstraint, start: Run, tmp_path: Path) -> None:
    run = train_as(request(start.folder, kept), tmp_path / "run", Progress())
    assert run.test_accuracy > 0.5
    again = load(run.folder)
    assert again.record.kept is kept
    assert again.evaluate().accuracy == run.test_accuracy
    before, after = weights(start.network), weights(again.network)
    for name, old in before.items():
        new = after[name]
        assert torch.equal(new == 0, old == 0)
        assert not torch.equal(new, old)
        if kept is WeightConstraint.VALUES:
            for value in old.unique():
                assert len(new[old == value].unique()) == 1
            assert torch.equal(new.half().float(), new)
        else:
            assert len(new.unique()) > len(old.unique())
    biases = [name for name in again.network.state_dict() if name.endswith("bias")]
    assert all(not torch.equal(again.network.state_dict()[name], start.network.state_dict()[name]) for name in biases)


def test_gradients_are_summed_by_code(start: Run) -> None:
    spec = start.record.spec
    ties = ConstrainedWeights.of(str(start.folder), replace(start.record, spec=spec, kept=WeightConstraint.VALUES))
    network, plain = (start.variant.network(spec) for _ in range(2))
    ties.bind(network)
    plain.load_state_dict(ties.weights)
    inputs = torch.randn(4, 1, 28, 28)
    for each in (network, plain):
        each(inputs).square().sum().backward()
    for name, codes in ties.codes.items():
        own, summed = (dict(each.named_parameters())[name].grad.flatten() for each in (plain, network))
        for code in codes.unique():
            expected = own[codes == code].sum() if code else torch.tensor(0.0)
            torch.testing.assert_close(
                summed[codes == code], expected.expand(int((codes == code).sum())), rtol=1e-4, atol=1e-4
            )


def test_rounding_between_equal_weights_is_taken_away(start: Run) -> None:
    ties = ConstrainedWeights.of(str(start.folder), replace(start.record, kept=WeightConstraint.VALUES))
    network = start.variant.network(start.record.spec)
    network.load_state_dict({name: value + 1e-6 * torch.randn(value.shape) for name, value in ties.weights.items()})
    ties.settle(network)
    for name, old in weights(start.network).items():
        new = weights(network)[name]
        assert torch.equal(new == 0, old == 0)
        assert len(new.unique()) <= len(old.unique())


@pytest.mark.parametrize("kept", [WeightConstraint.ZEROS, WeightConstraint.VALUES])
def test_a_training_goes_on_to_the_same_weights(kept: WeightConstraint, start: Run, tmp_path: Path) -> None:
    class Impatient(Progress):
        def advance(self, num_images: int) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    asked = request(start.folder, kept)
    whole = train_as(asked, tmp_path / "whole", Progress())
    with pytest.raises(Interrupted):
        train_as(asked, tmp_path / "stopped", Impatient())
    assert ca.resume(tmp_path / "stopped").results.weights_sha256 == whole.results.weights_sha256


def test_held_out_images_choose_weights_that_are_kept_too(start: Run, tmp_path: Path) -> None:
    run = train_as(request(start.folder, WeightConstraint.VALUES, hold_out=True), tmp_path / "run", Progress())
    values = weights(run.network)["f6.weight"].unique()
    assert len(values) <= 17


def test_which_values_are_shared() -> None:
    assert codes_of(torch.tensor([[0.0, 2.0], [-1.0, 2.0]]), WeightConstraint.VALUES).tolist() == [0, 2, 1, 2]
    assert codes_of(torch.tensor([[0.0, 2.0], [-1.0, 2.0]]), WeightConstraint.ZEROS).tolist() == [0, 1, 1, 1]
    assert codes_of(torch.arange(4.0), WeightConstraint.VALUES) is None


def test_old_records_keep_nothing(start: Run) -> None:
    assert Record.from_json(start.record.to_json().replace(b'  "kept": null,\n', b""), "run.json") == start.record


def test_weights_of_another_network_are_refused(start: Run) -> None:
    variant = atlas.find("lenet5-modern")
    with pytest.raises(UserError, match="other weights than this network"):
        plan.planned(request(start.folder, WeightConstraint.ZEROS, spec=variant.spec.scaled(width=0.5)), Processes())
    with pytest.raises(UserError, match="needs a run to begin from"):
        Request(network="lenet5", kept=WeightConstraint.ZEROS)
    with pytest.raises(UserError, match="needs a run to begin from"):
        Request(network="lenet5", kept=WeightConstraint.ZEROS, start="run", freeze=True)
