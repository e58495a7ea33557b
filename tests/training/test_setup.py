"""What is trained: the first weights, the part that is trained, its batches, and whether timing steps pays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convatlas as ca
from convatlas.data import Batches
from convatlas.networks.blocks import weighted_layers
from convatlas.runs.options import Distillation, InitFrom, Runtime, WeightConstraint
from convatlas.runs.run import Run, load_model
from convatlas.spec import Scale
from convatlas.training import Request
from convatlas.training.batch_norm import trained_batch_norms
from convatlas.training.distribution import Processes
from convatlas.training.fine_tuning import FIT_DECAY, FeatureBatches, FrozenBackbone, batch_to_fit
from convatlas.training.plan import plan, training_batches
from convatlas.training.setup import TrainingSetup

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
FORMATS = Path(__file__).parents[1] / "formats"
NETWORK = "resnet20-cifar"
SMALL = Scale(width=0.25, depth=0.3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("trained") / "run"
    return ca.train(NETWORK, scale=SMALL, epochs=1, batch_size=500, runtime=Runtime(autotune=False), out=out)


def setup_of(network: str = NETWORK, **arguments: object) -> tuple[TrainingSetup, Batches]:
    """The setup of a request, and the training batches of its run; nothing is written."""
    asked = Request(network=network, batch_size=50, **({"scale": SMALL} | arguments))  # type: ignore[arg-type]
    planned = plan(asked, Processes())
    run = Run(Path("nowhere"), planned.card, planned.record)
    split = planned.dataset.train.take(np.arange(100))
    batches = training_batches(run.card, run.record, split, CPU, Processes().shard)
    return TrainingSetup.of(run), batches


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """The names of the tensors that are the same in both."""
    assert one.keys() == other.keys()
    return {name for name, value in one.items() if torch.equal(value, other[name])}


def trained_by(optimizer: torch.optim.Optimizer, network: nn.Module) -> set[str]:
    names = {value: name for name, value in network.named_parameters()}
    return {names[value] for group in optimizer.param_groups for value in group["params"]}


# Without weights to start from


def test_the_seed_draws_the_first_weights() -> None:
    states = [state_of(setup_of(seed=seed)[0].build(CPU)[0]) for seed in (3, 4, 3)]
    assert equal(states[0], states[2]) == states[0].keys()
    assert "fc.weight" not in equal(states[0], states[1])


def test_a_build_is_the_networks_own_initialization_whatever_was_drawn_before() -> None:
    setup, _ = setup_of(seed=3)
    _ = torch.rand(7)
    network, optimizer = setup.build(CPU)
    torch.manual_seed(3)
    expected = setup.run.variant.network(setup.run.spec)
    assert equal(state_of(network), state_of(expected)) == network.state_dict().keys()
    assert network.training
    assert trained_by(optimizer, network) == {name for name, _ in network.named_parameters()}


def test_two_builds_share_nothing() -> None:
    # The autotuner trains one of them, and the other must not notice.
    setup, batches = setup_of()
    (one, optimizer), (other, _) = setup.build(CPU), setup.build(CPU)
    before = state_of(other)
    setup.step(one, batches, Processes()).gradient(next(batches.epoch(0)))
    optimizer.step()
    assert "fc.weight" not in equal(state_of(one), before)
    assert equal(state_of(other), before) == before.keys()


def test_the_whole_network_is_trained_on_the_images() -> None:
    setup, batches = setup_of()
    network, _ = setup.build(CPU)
    assert setup.trained_part(network, batches) is network
    assert setup.features(network, batches) is None
    assert not setup.freezes
    assert setup.teacher(network) is None
    assert not setup.unfreeze(network, 0.0)
    assert all(value.requires_grad for value in network.parameters())


# From trained weights, under a new head


def test_the_body_is_taken_and_the_head_is_new(trained: Run) -> None:
    setup, batches = setup_of(init_from=InitFrom(path=str(trained.folder)), seed=5)
    network, optimizer = setup.build(CPU)
    assert equal(state_of(network), state_of(trained.network)) == network.state_dict().keys() - {"fc.weight", "fc.bias"}
    assert trained_by(optimizer, network) == {name for name, _ in network.named_parameters()}
    assert setup.trained_part(network, batches) is network
    assert setup.features(network, batches) is None


def test_layers_are_unfrozen_as_training_goes_on_and_statistics_are_kept(trained: Run) -> None:
    setup, batches = setup_of(init_from=InitFrom(path=str(trained.folder)))
    network, _ = setup.build(CPU)
    setup.fit_head(network, batches, Processes())
    # The head was fitted, so that the last block learns with it from the start.
    network.train()
    assert setup.unfreeze(network, 0.0)
    learning = {name.rsplit(".", 4)[0] for name, value in network.named_parameters() if value.requires_grad}
    assert learning == {"fc", "stages.2.0"}
    assert not setup.unfreeze(network, 0.04)
    assert setup.unfreeze(network, 0.2)
    assert all(value.requires_grad for value in network.parameters())
    assert trained_batch_norms(network) == []


def test_earlier_versions_began_with_a_new_head_alone(trained: Run) -> None:
    setup, batches = setup_of(init_from=InitFrom(path=str(trained.folder)))
    setup.run.record = replace(setup.run.record, fits_head=False, keeps_statistics=False)
    network, _ = setup.build(CPU)
    before = state_of(network)
    setup.fit_head(network, batches, Processes())
    assert equal(state_of(network), before) == before.keys()
    assert setup.unfreeze(network, 0.0)
    assert {name for name, value in network.named_parameters() if value.requires_grad} == {"fc.weight", "fc.bias"}
    assert setup.unfreeze(network, 0.5)
    assert trained_batch_norms(network.train()) != []


def test_the_fitted_head_is_where_the_loss_has_no_slope(trained: Run) -> None:
    setup, batches = setup_of(init_from=InitFrom(path=str(trained.folder)))
    network, _ = setup.build(CPU)
    before = state_of(network)
    setup.fit_head(network, batches, Processes())
    assert equal(state_of(network), before) == before.keys() - {"fc.weight", "fc.bias"}
    batch = batch_to_fit(batches, network, "fc")
    weight, bias = (value.detach().requires_grad_() for value in (network.fc.weight, network.fc.bias))
    loss = nn.functional.cross_entropy(batch.inputs @ weight.T + bias, batch.targets)
    loss = loss + FIT_DECAY / 2 * batch.inputs.square().mean() * weight.square().sum()
    slopes = torch.autograd.grad(loss, (weight, bias))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-3
    # It is one minimum, wherever the search begins.
    other, _ = setup_of(init_from=InitFrom(path=str(trained.folder)), seed=7)
    another, _ = other.build(CPU)
    assert not torch.equal(another.fc.weight, before["fc.weight"])
    other.fit_head(another, batches, Processes())
    assert torch.allclose(another.fc.weight, network.fc.weight, atol=0.02)


def test_frozen_the_head_is_trained_on_features(trained: Run) -> None:
    setup, batches = setup_of(init_from=InitFrom(path=str(trained.folder), freeze=True))
    network, optimizer = setup.build(CPU)
    assert trained_by(optimizer, network) == {"fc.weight", "fc.bias"}
    shown = setup.features(network, batches)
    assert isinstance(shown, FeatureBatches)
    assert shown.features.shape == (100, network.fc.in_features)
    # The head is fitted to them as to those that it would compute.
    again, _ = setup.build(CPU)
    setup.fit_head(network, batches, Processes(), shown)
    setup.fit_head(again, batches, Processes())
    assert torch.allclose(network.fc.weight, again.fc.weight, atol=1e-3)
    part = setup.trained_part(network, batches)
    assert isinstance(part, FrozenBackbone)
    # Its layers stay frozen to the end.
    assert setup.freezes
    assert not setup.unfreeze(network, 0.9)
    before = state_of(network)
    setup.step(part.train(), batches, Processes()).gradient(next(shown.epoch(0)))
    optimizer.step()
    assert equal(state_of(network), before) == before.keys() - {"fc.weight", "fc.bias"}


# From the weights of a whole network


def test_constrained_weights_keep_their_head(trained: Run) -> None:
    setup, batches = setup_of(
        spec=trained.spec,
        scale=Scale(),
        init_from=InitFrom(path=str(trained.folder), constraint=WeightConstraint.NONE),
        seed=5,
    )
    network, optimizer = setup.build(CPU)
    assert equal(state_of(network), state_of(trained.network)) == network.state_dict().keys()
    assert trained_by(optimizer, network) == {name for name, _ in network.named_parameters()}
    assert setup.trained_part(network, batches) is network
    # All layers are trained from the start.
    assert not setup.unfreeze(network, 0.0)
    assert all(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize("name", ["format-2-int8", "int8.cva"])
def test_step_sizes_of_quantized_weights_are_trained_too(name: str) -> None:
    source = load_model(FORMATS / name)
    setup, _ = setup_of(
        "lenet1",
        spec=source.spec,
        scale=Scale(),
        init_from=InitFrom(path=str(source.path), constraint=WeightConstraint.QUANTIZED),
    )
    assert setup.run.card.quantization == source.card.quantization != ()
    network, optimizer = setup.build(CPU)
    # What the layers compute with is what they had.
    for layer, weights in weighted_layers(source.network):
        assert torch.equal(network.get_submodule(layer).weight, weights.weight), layer
    names = trained_by(optimizer, network)
    assert names == {name for name, _ in network.named_parameters()}
    assert len([name for name in names if name.endswith(".steps")]) == len(source.card.quantization)


# The step


def test_class_weights_and_micro_batches_are_the_records() -> None:
    setup, batches = setup_of(class_weights="balanced", runtime=Runtime(micro_batch=7))
    step = setup.step(setup.build(CPU)[0], batches, Processes())
    counts = np.bincount(batches.split.labels, minlength=10)
    assert (step.class_weights * torch.from_numpy(counts)).tolist() == pytest.approx([10.0] * 10)
    assert (step.batch_size, step.micro_batch, step.execution) == (50, 7, setup.run.record.execution)
    plain, batches = setup_of()
    step = plain.step(plain.build(CPU)[0], batches, Processes())
    assert step.class_weights.tolist() == [1.0] * 10
    assert step.micro_batch is None
    assert step.auxiliary is None


def test_a_teacher_is_part_of_the_loss(trained: Run) -> None:
    asked = Distillation(teacher=str(trained.folder))
    setup, batches = setup_of("lenet5-modern", scale=Scale(), distillation=asked)
    network, _ = setup.build(CPU)
    teacher = setup.teacher(network)
    assert teacher is not None
    assert teacher.distillation == replace(asked, teacher=str(trained.folder.resolve()))
    batch = next(batches.epoch(0))
    taught = setup.step(network, batches, Processes(), teacher).gradient(batch)
    alone = setup.step(network, batches, Processes()).gradient(batch)
    assert taught.loss != pytest.approx(alone.loss, rel=1e-3)


# Whether timing steps pays


@pytest.mark.parametrize(
    ("network", "recipe", "freeze", "expected"),
    [
        (NETWORK, "default", None, True),
        (NETWORK, "default", False, True),
        (NETWORK, "default", True, False),
        ("lenet1", "default", None, True),
        # Levenberg-Marquardt's.
        ("lenet1", "paper", None, False),
        (NETWORK, "paper", None, True),
    ],
)
def test_a_head_alone_and_curvatures_are_not_worth_tuning(
    network: str, recipe: str, freeze: bool | None, expected: bool, trained: Run
) -> None:
    init_from = None if freeze is None else InitFrom(path=str(trained.folder), freeze=freeze)
    scale = SMALL if network == NETWORK else Scale()
    setup, _ = setup_of(network, recipe=recipe, init_from=init_from, scale=scale)
    assert setup.is_worth_autotuning == expected
