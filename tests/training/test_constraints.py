"""Fine-tuning under a constraint: zeros stay 0, and shared weights stay shared."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import convatlas as ca
from convatlas import atlas
from convatlas.compression.deep.codebook import share_weights
from convatlas.compression.deep.pruning import LAMP
from convatlas.errors import UserError
from convatlas.models.folder import write_weights
from convatlas.runs.options import InitFrom, Runtime, Validation, WeightConstraint
from convatlas.runs.run import Run, load_run
from convatlas.spec import Scale
from convatlas.training import Interrupted, Progress, Request, train_request
from convatlas.training.constraints import ConstrainedWeights, codes_of
from convatlas.training.distribution import Processes
from convatlas.training.plan import plan
from convatlas.training.start import open_weights

pytestmark = pytest.mark.usefixtures("one_thread")

FORMATS = Path(__file__).parents[1] / "formats"
SCALE = Scale(resolution=28)
UNTUNED = Runtime(autotune=False)


def constrained(start: Path, constraint: WeightConstraint) -> InitFrom:
    return InitFrom(path=str(start), constraint=constraint)


def request(start: Path, constraint: WeightConstraint, **changes: object) -> Request:
    asked = Request(
        network="lenet5-modern",
        epochs=2,
        seed=1,
        scale=SCALE,
        init_from=constrained(start, constraint),
        runtime=UNTUNED,
    )
    return replace(asked, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A trained network, pruned and with few 16-bit values."""
    folder = tmp_path_factory.mktemp("start") / "run"
    run = ca.train("lenet5-modern", epochs=3, scale=SCALE, runtime=UNTUNED, out=folder)
    network = run.network
    LAMP(0.6).prune(network)
    share_weights(network, 4)
    run.card = replace(run.card, weights_sha256=write_weights(run.folder, network))
    run.write()
    return load_run(run.folder)


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if name.endswith("weight")}


@pytest.mark.parametrize("constraint", [WeightConstraint.ZEROS, WeightConstraint.SHARED])
def test_the_constraint_holds_and_all_else_is_trained(constraint: WeightConstraint, start: Run, tmp_path: Path) -> None:
    run = train_request(request(start.folder, constraint), tmp_path / "run", Progress())
    assert run.test_accuracy > 0.5
    again = load_run(run.folder)
    assert again.record.init_from == constrained(start.folder.resolve(), constraint)
    assert again.evaluate().accuracy == run.test_accuracy
    before, after = weights(start.network), weights(again.network)
    for name, old in before.items():
        new = after[name]
        assert torch.equal(new == 0, old == 0)
        assert not torch.equal(new, old)
        if constraint is WeightConstraint.SHARED:
            for value in old.unique():
                assert len(new[old == value].unique()) == 1
            assert torch.equal(new.half().float(), new)
        else:
            assert len(new.unique()) > len(old.unique())
    biases = [name for name in again.network.state_dict() if name.endswith("bias")]
    assert all(not torch.equal(again.network.state_dict()[name], start.network.state_dict()[name]) for name in biases)


def test_gradients_are_summed_by_code(start: Run) -> None:
    shared = ConstrainedWeights.of(constrained(start.folder, WeightConstraint.SHARED), start.card)
    network, plain = (start.variant.network(start.spec) for _ in range(2))
    shared.attach(network)
    plain.load_state_dict(shared.weights)
    inputs = torch.randn(4, 1, 28, 28)
    for each in (network, plain):
        each(inputs).square().sum().backward()
    for name, codes in shared.codes.items():
        own, summed = (dict(each.named_parameters())[name].grad.flatten() for each in (plain, network))
        for code in codes.unique():
            expected = own[codes == code].sum() if code else torch.tensor(0.0)
            torch.testing.assert_close(
                summed[codes == code], expected.expand(int((codes == code).sum())), rtol=1e-4, atol=1e-4
            )


def test_rounding_between_equal_weights_is_undone_at_the_end(start: Run) -> None:
    shared = ConstrainedWeights.of(constrained(start.folder, WeightConstraint.SHARED), start.card)
    network = start.variant.network(start.spec)
    network.load_state_dict({name: value + 1e-6 * torch.randn(value.shape) for name, value in shared.weights.items()})
    shared.detach(network)
    for name, old in weights(start.network).items():
        new = weights(network)[name]
        assert torch.equal(new == 0, old == 0)
        assert len(new.unique()) <= len(old.unique())


@pytest.mark.parametrize(
    "constraint", [pytest.param(WeightConstraint.ZEROS, marks=pytest.mark.slow), WeightConstraint.SHARED]
)
def test_a_training_that_was_stopped_ends_in_the_same_weights(
    constraint: WeightConstraint, start: Run, tmp_path: Path
) -> None:
    class StopAtOnce(Progress):
        def advance(self, num_images: int) -> None:
            signal.raise_signal(signal.SIGTERM)

    asked = request(start.folder, constraint)
    whole = train_request(asked, tmp_path / "whole", Progress())
    with pytest.raises(Interrupted):
        train_request(asked, tmp_path / "stopped", StopAtOnce())
    assert ca.resume(tmp_path / "stopped").card.weights_sha256 == whole.card.weights_sha256


def test_the_weights_of_the_best_epoch_obey_the_constraint_too(start: Run, tmp_path: Path) -> None:
    asked = request(start.folder, WeightConstraint.SHARED, validation=Validation())
    run = train_request(asked, tmp_path / "run", Progress())
    assert run.results.best_epoch is not None
    values = weights(run.network)["f6.weight"].unique()
    assert len(values) <= 17


def test_equal_weights_have_the_same_code() -> None:
    weights = torch.tensor([[0.0, 2.0], [-1.0, 2.0]])
    assert codes_of(weights, WeightConstraint.SHARED).tolist() == [0, 2, 1, 2]
    assert codes_of(weights, WeightConstraint.ZEROS).tolist() == [0, 1, 1, 1]
    assert codes_of(torch.arange(4.0), WeightConstraint.SHARED) is None
    for free in (WeightConstraint.NONE, WeightConstraint.QUANTIZED):
        assert codes_of(weights, free) is None


def test_records_from_before_there_were_constraints_have_none(tmp_path: Path) -> None:
    record = FORMATS / "format-2-taught" / "run.json"
    content = record.read_text()
    assert '  "kept": null,\n' in content
    (tmp_path / "run.json").write_text(content.replace('  "kept": null,\n', ""))
    found = load_run(tmp_path).record
    assert found == load_run(record.parent).record
    assert found.init_from is not None
    assert found.init_from.constraint is None


# Where the weights may lie


def as_model_folder(run: Run, folder: Path) -> Path:
    return run.model.save(folder / "model").path or folder


def as_compressed_file(run: Run, folder: Path) -> Path:
    return run.model.save(folder / "model.cva").path or folder


def as_weights(run: Run, folder: Path) -> Path:
    save_file(run.network.state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("save_as", [as_model_folder, as_compressed_file, as_weights])
def test_a_model_a_compressed_file_or_bare_weights_hold_the_same_constraint(
    save_as: Callable[[Run, Path], Path], start: Run, tmp_path: Path
) -> None:
    path = save_as(start, tmp_path)
    expected = start.network.state_dict()
    found = open_weights(str(path), start.variant).tensors
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    own, other = (
        ConstrainedWeights.of(constrained(where, WeightConstraint.SHARED), start.card) for where in (start.folder, path)
    )
    assert own.codes.keys() == other.codes.keys() != set()
    assert all(torch.equal(codes, other.codes[name]) for name, codes in own.codes.items())


# What cannot work


def test_weights_of_another_network_are_refused(start: Run) -> None:
    half = atlas.find("lenet5-modern").spec.scaled(width=0.5)
    with pytest.raises(UserError, match="other weights than this network"):
        plan(request(start.folder, WeightConstraint.ZEROS, spec=half), Processes())


@pytest.mark.parametrize("save_as", [as_model_folder, as_compressed_file, as_weights])
def test_32_bit_weights_have_no_quantization_to_keep(
    save_as: Callable[[Run, Path], Path], start: Run, tmp_path: Path
) -> None:
    asked = request(save_as(start, tmp_path), WeightConstraint.QUANTIZED)
    with pytest.raises(UserError, match="32-bit weights; there is no quantization to keep"):
        plan(asked, Processes())


def test_a_constraint_and_a_new_head_exclude_each_other() -> None:
    with pytest.raises(UserError, match="`freeze` trains a new head and a constraint keeps the old one"):
        InitFrom(path="run", freeze=True, constraint=WeightConstraint.ZEROS)
