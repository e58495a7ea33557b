"""Batch-norm statistics: those of the trained weights, whatever the number of steps, interruptions and processes."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import convatlas as ca
from convatlas.data import Batches, Split
from convatlas.models.evaluation import evaluation_batches
from convatlas.runs.options import InitFrom, Runtime, Validation
from convatlas.runs.run import Run, read_metrics
from convatlas.spec import Scale
from convatlas.training import Interrupted, Progress
from convatlas.training.batch_norm import estimate_statistics, trained_batch_norms
from convatlas.training.distribution import Processes
from convatlas.training.validation import split_validation

NUM_STEPS = 12
"""Those of an epoch of 1,442 digits: the running averages would keep 0.9 ** 12, 28 %, of where they begin."""
train = partial(
    ca.train,
    "resnet20-cifar",
    epochs=1,
    batch_size=128,
    scale=Scale(width=0.25, depth=0.3, resolution=28),
    runtime=Runtime(autotune=False),
)


def statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if "running_" in name}


def batches_of(run: Run, num_images: int | None = None) -> Batches:
    split = run.load_data().train
    return evaluation_batches(run.card, split.take(torch.arange(num_images or len(split)).numpy()), torch.device("cpu"))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(out=tmp_path_factory.mktemp("short") / "run")


def test_a_short_training_ends_with_the_statistics_of_its_training_images(short: Run) -> None:
    batches = batches_of(short)
    again = copy.deepcopy(short.network)
    update_bn((batches.plain(indices).inputs for indices in batches.order(0).tensor_split(3)), again)
    for name, value in statistics(short.network).items():
        # The images come in another order, hence in other batches.
        torch.testing.assert_close(value, statistics(again)[name], rtol=0.15, atol=0.05, msg=name)


def test_averaged_weights_have_statistics_of_their_own(short: Run, tmp_path: Path) -> None:
    run = train(recipe=replace(short.record.recipe, ema=0.3), out=tmp_path / "run")
    assert run.card.weights_sha256 != short.card.weights_sha256
    assert_estimated(run, run.load_data().train)


def assert_estimated(run: Run, learned: Split) -> None:
    """The run's statistics are those that its weights have on the images that it learned from."""
    network = copy.deepcopy(run.network)
    batches = evaluation_batches(run.card, learned, torch.device("cpu"))
    estimate_statistics(network, names_of(network), batches, Processes())
    for name, value in statistics(run.network).items():
        # Another memory format sums in another order.
        torch.testing.assert_close(value, statistics(network)[name], rtol=1e-3, atol=1e-3, msg=name)


def names_of(network: nn.Module) -> list[str]:
    return trained_batch_norms(copy.deepcopy(network).train())


@pytest.mark.parametrize(
    "step",
    [pytest.param(NUM_STEPS // 2, marks=pytest.mark.slow), NUM_STEPS],
    ids=["half way", "after the last step"],
)
def test_a_run_that_was_stopped_ends_in_the_same_weights_and_statistics(
    step: int, short: Run, stop_at: Callable[[int], Progress], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(out=tmp_path / "run", progress=stop_at(step))
    resumed = ca.resume(tmp_path / "run")
    assert resumed.card.weights_sha256 == short.card.weights_sha256


@pytest.mark.slow
def test_validation_sees_the_statistics_that_are_kept(tmp_path: Path) -> None:
    run = train(epochs=2, validation=Validation(), out=tmp_path / "run")
    assert run.record.validation is not None
    learned, val = split_validation(run.load_data().train, run.record.validation, run.record.seed)
    assert_estimated(run, learned)
    best = run.results.best_epoch
    assert best is not None
    assert run.evaluate(val).accuracy == read_metrics(run)[best - 1]["val_accuracy"]


def test_a_frozen_body_keeps_the_statistics_that_it_came_with(short: Run, tmp_path: Path) -> None:
    start = InitFrom(path=str(short.folder), freeze=True)
    frozen = train(init_from=start, seed=1, out=tmp_path / "run")
    for name, value in statistics(short.network).items():
        assert torch.equal(value, statistics(frozen.network)[name]), name


@pytest.mark.slow
def test_layers_that_were_never_unfrozen_keep_their_statistics_resumed_too(
    short: Run, stop_at: Callable[[int], Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with many images, where those that are unfrozen do not keep them.
    monkeypatch.setattr("convatlas.training.plan.FEW_IMAGES", 100)
    # In a single epoch, the last block and the head are trained. A tenth is held out: that is a step.
    tuned = train(init_from=str(short.folder), seed=1, out=tmp_path / "run")
    assert not tuned.record.keeps_statistics
    with pytest.raises(Interrupted):
        train(init_from=str(short.folder), seed=1, out=tmp_path / "stopped", progress=stop_at(NUM_STEPS - 1))
    for run in (tuned, ca.resume(tmp_path / "stopped")):
        first = "conv1.norm.running_mean"
        assert torch.equal(statistics(run.network)[first], statistics(short.network)[first])
        assert run.card.weights_sha256 == tuned.card.weights_sha256


@dataclass(frozen=True)
class OneOf(Processes):
    """Keeps what it would add to the others' values."""

    sums: list[Tensor] = field(default_factory=list)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        self.sums.append(values.clone())
        return values


@pytest.mark.parametrize("world_size", [2, 5])
def test_any_number_of_processes_estimates_the_same(world_size: int, short: Run) -> None:
    batches, names = batches_of(short), names_of(short.network)
    alone = copy.deepcopy(short.network)
    estimate_statistics(alone, names, batches, Processes())
    shares = [OneOf(rank, world_size) for rank in range(world_size)]
    for share in shares:
        estimate_statistics(copy.deepcopy(short.network), names, batches, share)
    layers = [layer for name, layer in alone.named_modules() if name in names]
    expected = [value for layer in layers for value in (layer.running_mean, layer.running_var)]
    for value, *parts in zip(expected, *(share.sums for share in shares), strict=True):
        torch.testing.assert_close(sum(parts), value)


def test_networks_without_batch_normalization_are_left_as_they_are(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    run = ca.train("lenet1", epochs=1, out=tmp_path / "run")
    estimate_statistics(network, trained_batch_norms(network), batches_of(run, 10), Processes())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
