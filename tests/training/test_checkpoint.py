"""Checkpoints: all that training changes comes back bit for bit; damage is noticed and costs one checkpoint."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.recipe import Decayed, Optimizer, Recipe
from convatlas.runs.run import CHECKPOINT, METRICS
from convatlas.training import checkpoint, optimizers
from convatlas.training.checkpoint import PREVIOUS, CheckpointWriter, LoopState, TrainState, make_ema
from convatlas.training.recipes import DEFAULT

ADAMW = replace(DEFAULT, ema=0.1)
RECIPES = {
    "adamw": ADAMW,
    "sgd": replace(ADAMW, optimizer=Optimizer.SGD, momentum=0.9, weight_decay=1e-4, decayed=Decayed.ALL),
    "sgd without momentum": replace(ADAMW, optimizer=Optimizer.SGD),
    "rmsprop": replace(ADAMW, optimizer=Optimizer.RMSPROP, momentum=0.9, alpha=0.9, eps=1e-3),
    "rmsprop without momentum": replace(ADAMW, optimizer=Optimizer.RMSPROP, alpha=0.9, eps=1e-3),
    "levenberg-marquardt": replace(ADAMW, optimizer=Optimizer.LEVENBERG_MARQUARDT),
    "no average": replace(ADAMW, ema=0.0),
}


class Mixed(nn.Module):
    """Weights and buffers of several types and orders in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.ones(()))
        self.fc = nn.Linear(4, 3)
        self.register_buffer("halves", torch.randn(5).bfloat16())
        self.register_buffer("flags", torch.rand(7) > 0.5)
        self.register_buffer("count", torch.randint(2**40, ()))
        self.register_buffer("nothing", torch.empty(0))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.fc(self.norm(self.conv(x)).mean((2, 3)) * self.scale)
        return outputs


def trained(steps: int, recipe: Recipe = ADAMW, seed: int = 0) -> TrainState:
    torch.manual_seed(seed)
    network = Mixed()
    train_state = TrainState(network, optimizers.build(recipe, network), make_ema(network, recipe, num_steps=100))
    train(train_state, steps, seed)
    return train_state


def train(train_state: TrainState, steps: int, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        inputs = torch.rand(4, 2, 6, 6, generator=generator)
        if isinstance(train_state.optimizer, optimizers.DiagonalLevenbergMarquardt):
            for value in train_state.network.parameters():
                train_state.optimizer.state[value].setdefault("curvature", torch.rand_like(value))
        train_state.optimizer.zero_grad()
        (train_state.network(inputs) - inputs.mean()).square().sum().backward()
        train_state.optimizer.step()
        if train_state.average is not None:
            train_state.average.update_parameters(train_state.network)
        train_state.state.step += 1
        if train_state.state.step == 2:
            train_state.keep_best()


def same(one: TrainState, other: TrainState) -> bool:
    ours, theirs = one.snapshot(), other.snapshot()
    return ours.keys() == theirs.keys() and all(
        value.dtype == theirs[name].dtype and value.shape == theirs[name].shape and torch.equal(value, theirs[name])
        for name, value in ours.items()
    )


def save(folder: Path, train_state: TrainState) -> None:
    checkpoint.save(folder, train_state.snapshot(), checkpoint.lines(train_state.state))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_everything_comes_back_bit_for_bit_and_trains_on_alike(recipe: Recipe, tmp_path: Path) -> None:
    train_state = trained(3, recipe)
    train_state.state = LoopState(
        step=3, seconds=0.1 + 0.2, epoch_loss=1 / 3, epoch_correct=2, epoch_images=12, best_epoch=1
    )
    train_state.state.close_epoch(lr=1e-3 / 3, seconds=0.3)
    save(tmp_path, train_state)

    other = trained(1, recipe, seed=9)
    assert not same(train_state, other)
    assert checkpoint.load(tmp_path, other) == ""
    assert same(train_state, other)
    assert other.state == train_state.state
    assert other.best.keys() == train_state.best.keys() != set()
    assert (other.average is None) == (recipe.ema == 0)
    for one in (train_state, other):
        train(one, 2, seed=5)
    assert same(train_state, other)


def test_optimizer_state_has_the_memory_format_of_its_parameter(tmp_path: Path) -> None:
    save(tmp_path, trained(3))
    other = trained(1)
    checkpoint.load(tmp_path, other)
    weight = other.network.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert other.optimizer.state[weight]["exp_avg"].stride() == weight.stride()


@pytest.mark.parametrize("state", ["[]", "5", '{"metrics": [5]}', '{"metrics": 5}', '{"metrics": [], "more": 1}', "{"])
def test_a_state_that_says_something_else_is_damage(state: str, tmp_path: Path) -> None:
    """Whoever writes a checksum may write anything under it."""
    tensors = trained(3).snapshot() | {"state": torch.frombuffer(bytearray(state.encode()), dtype=torch.uint8)}
    checkpoint.save(tmp_path, tensors, b"")
    with pytest.raises(UserError, match=r"checkpoint.safetensors is damaged; delete it"):
        checkpoint.load(tmp_path, trained(1))


def test_without_a_checkpoint_a_learner_stays_as_it_is(tmp_path: Path) -> None:
    train_state = trained(2)
    assert checkpoint.load(tmp_path, train_state) == ""
    assert same(train_state, trained(2))
    assert not checkpoint.exists(tmp_path)


@given(
    steps=st.integers(0, 2**40),
    seconds=st.floats(0, allow_nan=False, allow_infinity=False),
    loss=st.floats(allow_nan=False, allow_infinity=False),
    correct=st.integers(0, 10**9),
)
def test_every_bit_of_the_training_state_survives(steps: int, seconds: float, loss: float, correct: int) -> None:
    train_state, other = LEARNERS
    train_state.state = LoopState(
        step=steps, seconds=seconds, epoch_loss=loss, epoch_correct=correct, epoch_images=correct + 1
    )
    other.restore(train_state.snapshot())
    assert other.state == train_state.state


LEARNERS = trained(1), trained(1)


def test_an_epoch_closes_with_its_means_and_the_next_starts_from_zero() -> None:
    state = LoopState()
    state.add_batch(6.0, 2, 4)
    state.add_batch(2.0, 3, 4)
    assert state.close_epoch(lr=0.1, seconds=1.23456) == {
        "epoch": 1, "loss": 1.0, "accuracy": 5 / 8, "lr": 0.1, "seconds": 1.235,
    }  # fmt: skip
    state.add_batch(1.0, 1, 1)
    assert state.close_epoch(lr=0.1, seconds=2.0)["loss"] == 1.0
    assert [json.loads(line)["epoch"] for line in checkpoint.lines(state).splitlines()] == [1, 2]


def test_there_is_no_average_over_less_than_two_steps() -> None:
    network = nn.Linear(1, 1)
    assert make_ema(network, replace(DEFAULT, ema=0.0), 10**6) is None
    assert make_ema(network, replace(DEFAULT, ema=0.02), 99) is None
    assert make_ema(network, replace(DEFAULT, ema=0.02), 100) is not None


@pytest.mark.parametrize("name", ["lenet1989", "lenet5", "resnet20-cifar"])
def test_the_average_of_an_unchanged_network_is_that_network(name: str) -> None:
    # LeNets keep their connection tables as whole numbers, which cannot be averaged.
    variant = atlas.find(name)
    network = variant.network(replace(variant.spec, num_classes=10)).eval()
    # How far a whole number is rounded down depends on the length of the training.
    average = make_ema(network, replace(DEFAULT, ema=0.02), 840)
    assert average is not None
    for _ in range(100):
        average.update_parameters(network)
    for (name, value), own in zip(network.named_buffers(), average.module.buffers(), strict=True):
        assert torch.equal(value, own), name
    images = torch.randn(2, variant.spec.in_channels, variant.spec.resolution, variant.spec.resolution)
    assert torch.equal(network(images), average.module(images))


def test_running_statistics_are_averaged_as_weights_are() -> None:
    network = nn.BatchNorm1d(1)
    average = make_ema(network, replace(DEFAULT, ema=0.1), 100)
    assert average is not None
    assert network.running_mean is not None
    for mean in (0.0, 1.0, 2.0):
        network.running_mean.fill_(mean)
        average.update_parameters(network)
    # Over ten steps.
    assert average.module.running_mean.item() == pytest.approx(0.1 * 0.9 + 0.2)


def test_the_average_is_evaluated_where_there_is_one() -> None:
    train_state = trained(5)
    assert train_state.average is not None
    assert train_state.evaluated is train_state.average.module
    plain = trained(5, RECIPES["no average"])
    assert plain.evaluated is plain.network
    plain.keep_best()
    assert all(torch.equal(plain.best[name], value) for name, value in plain.network.state_dict().items())
    train(plain, 1)
    # A copy, which is not trained further.
    assert not torch.equal(plain.best["fc.weight"], plain.network.fc.weight)


# Damage


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainState, TrainState]:
    """A folder with the checkpoints of two steps in turn, and the learners as they were."""
    folder = tmp_path_factory.mktemp("two")
    save(folder, trained(2))
    save(folder, trained(3))
    return folder, trained(2), trained(3)


def test_the_newest_checkpoint_is_used_and_the_one_before_is_kept(two: tuple[Path, TrainState, TrainState]) -> None:
    folder, _, after = two
    assert {path.name for path in folder.iterdir()} == {CHECKPOINT, PREVIOUS, METRICS}
    train_state = trained(1)
    assert checkpoint.load(folder, train_state) == ""
    assert same(train_state, after)


def damaged(path: Path, where: float, cut: bool) -> None:
    content = bytearray(path.read_bytes())
    place = int(where * len(content))
    if cut:
        content = content[:place]
    else:
        content[place] ^= 0x55
    path.write_bytes(content)


places = st.floats(0, 1, exclude_max=True)


@given(where=places, cut=st.booleans())
def test_damage_anywhere_in_the_newest_is_reported_and_the_one_before_is_used(
    where: float, cut: bool, two: tuple[Path, TrainState, TrainState], tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = two[1]
    folder = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(two[0], folder)
    damaged(folder / CHECKPOINT, where, cut)
    train_state = trained(1)
    note = checkpoint.load(folder, train_state)
    assert note == f"{folder / CHECKPOINT} is damaged; using the previous checkpoint"
    assert same(train_state, before)


def test_a_flipped_bit_of_the_header_is_noticed(two: tuple[Path, TrainState, TrainState], tmp_path: Path) -> None:
    # Headers are where formats have weak spots; every thirteenth byte is tried.
    content = (two[0] / CHECKPOINT).read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    shutil.copy(two[0] / CHECKPOINT, tmp_path / PREVIOUS)
    train_state = trained(1)
    for place in range(0, length, 13):
        flipped = bytearray(content)
        flipped[place] ^= 0x01
        (tmp_path / CHECKPOINT).write_bytes(flipped)
        assert "is damaged" in checkpoint.load(tmp_path, train_state), (place, content[place - 20 : place + 20])


@given(newest=places, before=places, cut=st.booleans())
def test_damage_in_both_is_a_one_line_error(
    newest: float,
    before: float,
    cut: bool,
    two: tuple[Path, TrainState, TrainState],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(two[0], folder)
    damaged(folder / CHECKPOINT, newest, cut)
    damaged(folder / PREVIOUS, before, not cut)
    with pytest.raises(UserError, match="is damaged; delete it, and resume restarts this run from scratch") as error:
        checkpoint.load(folder, trained(1))
    assert len(str(error.value).splitlines()) == 1


def test_following_the_message_of_two_damaged_checkpoints_starts_again(
    two: tuple[Path, TrainState, TrainState], tmp_path: Path
) -> None:
    shutil.copytree(two[0], tmp_path, dirs_exist_ok=True)
    for name in (CHECKPOINT, PREVIOUS):
        damaged(tmp_path / name, 0.9, cut=True)
    # Each time it names the file to delete.
    for _ in range(2):
        with pytest.raises(UserError) as error:
            checkpoint.load(tmp_path, trained(1))
        Path(str(error.value).split(" is damaged")[0]).unlink()
    assert checkpoint.load(tmp_path, trained(1)) == ""


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    save(tmp_path, trained(1))
    network = atlas.create("lenet5")
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.load(tmp_path, TrainState(network, optimizers.build(DEFAULT, network), None))


@pytest.fixture
def no_space(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """After `no_space()`, every new checkpoint in `tmp_path` fails while its content is written."""

    def block() -> None:
        (tmp_path / f".{CHECKPOINT}.part").mkdir()

    yield block
    shutil.rmtree(tmp_path / f".{CHECKPOINT}.part", ignore_errors=True)


def test_a_kill_between_the_two_renames_leaves_the_one_before(tmp_path: Path, no_space: Callable[[], None]) -> None:
    save(tmp_path, trained(2))
    no_space()
    with pytest.raises(OSError, match=CHECKPOINT):
        save(tmp_path, trained(3))
    assert not (tmp_path / CHECKPOINT).exists()
    assert checkpoint.exists(tmp_path)
    train_state = trained(1)
    # Nothing is damaged, so there is nothing to report.
    assert checkpoint.load(tmp_path, train_state) == ""
    assert same(train_state, trained(2))


def test_after_a_kill_between_the_two_renames_the_next_one_keeps_it_too(
    tmp_path: Path, no_space: Callable[[], None]
) -> None:
    test_a_kill_between_the_two_renames_leaves_the_one_before(tmp_path, no_space)
    shutil.rmtree(tmp_path / f".{CHECKPOINT}.part")
    save(tmp_path, trained(4))
    damaged(tmp_path / CHECKPOINT, 0.5, cut=False)
    train_state = trained(1)
    assert "is damaged" in checkpoint.load(tmp_path, train_state)
    assert same(train_state, trained(2))


def test_a_damaged_checkpoint_never_replaces_the_whole_one_before(tmp_path: Path, no_space: Callable[[], None]) -> None:
    save(tmp_path, trained(2))
    save(tmp_path, trained(3))
    damaged(tmp_path / CHECKPOINT, 0.5, cut=False)
    train_state = trained(1)
    assert "is damaged" in checkpoint.load(tmp_path, train_state)
    # Training continues, and is killed while it writes the next.
    train(train_state, 1)
    no_space()
    with pytest.raises(OSError, match=CHECKPOINT):
        save(tmp_path, train_state)
    again = trained(1)
    checkpoint.load(tmp_path, again)
    assert same(again, trained(2))


def test_remove_leaves_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, trained(1))
    save(tmp_path, trained(2))
    checkpoint.remove(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {METRICS}
    checkpoint.remove(tmp_path)


# The thread that writes while training continues


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[CheckpointWriter]:
    made = CheckpointWriter(tmp_path, steps=None)
    yield made
    made.close()


def test_a_snapshot_is_of_the_moment_when_writing_began(writer: CheckpointWriter, tmp_path: Path) -> None:
    train_state = trained(2)
    train_state.state.add_batch(1.0, 1, 4)
    train_state.state.close_epoch(lr=0.1, seconds=1.0)
    expected = trained(2)
    expected.restore(train_state.snapshot())
    writer.begin(train_state)
    # While it is written, everything changes.
    train(train_state, 3)
    train_state.keep_best()
    train_state.state.metrics.clear()
    with torch.no_grad():
        for value in train_state.network.state_dict().values():
            value.zero_()
    writer.finish()
    read = trained(1)
    checkpoint.load(tmp_path, read)
    assert same(read, expected)
    assert len((tmp_path / METRICS).read_bytes().splitlines()) == 1


def test_snapshots_follow_each_other_and_the_last_one_wins(writer: CheckpointWriter, tmp_path: Path) -> None:
    train_state = trained(1)
    for _ in range(4):
        train(train_state, 1)
        writer.begin(train_state)
    writer.finish()
    assert load_file(tmp_path / CHECKPOINT).keys() == load_file(tmp_path / PREVIOUS).keys()
    read = trained(1)
    checkpoint.load(tmp_path, read)
    assert read.state.step == 5


def removed(folder: Path) -> None:
    shutil.rmtree(folder)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def blocked(folder: Path) -> None:
    (folder / f".{CHECKPOINT}.part").mkdir()


@pytest.mark.parametrize("fail", [removed, a_file, blocked])
@pytest.mark.parametrize("then", ["finish", "due", "begin"])
def test_a_disk_that_fails_is_an_error_on_the_training_thread(
    fail: Callable[[Path], None], then: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    train_state = trained(1)
    writer = CheckpointWriter(folder, steps=None)
    fail(folder)
    # The failure is on the other thread.
    writer.begin(train_state)
    acts: dict[str, Callable[[], object]] = {
        "finish": writer.finish,
        "due": lambda: until_written(writer),
        "begin": lambda: writer.begin(train_state),
    }
    with pytest.raises(OSError) as failure:  # noqa: PT011  # its kind depends on what failed; the file's name does not
        acts[then]()
    assert str(failure.value.filename).startswith(str(folder))
    # Raised once; cleaning up does not raise it again.
    writer.finish()
    writer.close()


def until_written(writer: CheckpointWriter) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        writer.due(1)


def test_with_checkpoint_steps_one_is_due_every_so_many_steps(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, steps=3)
    assert [step for step in range(1, 11) if writer.due(step)] == [3, 6, 9]
    writer.begin(trained(1))
    # Even while another is still being written.
    assert writer.due(3)
    writer.close()


def test_by_time_no_checkpoint_is_due_at_once(writer: CheckpointWriter) -> None:
    assert not any(writer.due(step) for step in range(100))


def test_by_time_one_is_due_after_the_interval_and_then_not_again(tmp_path: Path) -> None:
    class Hasty(CheckpointWriter):
        INTERVAL_S = 0.05

    begun = time.monotonic()
    writer = Hasty(tmp_path, steps=None)
    while not writer.due(1):
        assert time.monotonic() - begun < 60
    assert time.monotonic() - begun >= Hasty.INTERVAL_S
    train_state = trained(1)
    begun = time.monotonic()
    writer.begin(train_state)
    while not writer.due(2):
        assert time.monotonic() - begun < 60
    assert time.monotonic() - begun >= Hasty.INTERVAL_S
    writer.close()


def test_writing_takes_a_small_part_of_the_time(tmp_path: Path) -> None:
    class Greedy(CheckpointWriter):
        INTERVAL_S = 0.0

    writer = Greedy(tmp_path, steps=None)
    train_state = trained(1)
    train_state.network.register_buffer("much", torch.zeros(10**6))
    begun = time.monotonic()
    writer.begin(train_state)
    writer.finish()
    took = time.monotonic() - begun
    while not writer.due(1):
        assert time.monotonic() - begun < 60 + 100 * took
    # A twentieth, and room for a machine that was busy with other things meanwhile.
    assert time.monotonic() - begun > 4 * took
    writer.close()


def test_weights_that_no_checkpoint_has_room_for_are_noticed_before_they_are_allocated(tmp_path: Path) -> None:
    checkpoint.check_room(tmp_path, 2**40)
    train_state = trained(3)
    num = sum(value.nbytes for value in train_state.network.state_dict().values())
    checkpoint.save(tmp_path, train_state.snapshot(), b"")
    checkpoint.check_room(tmp_path, num)
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is damaged; delete it, and resume restarts"):
        checkpoint.check_room(tmp_path, 2**40)
