"""The training loop: what a run folder holds, exact repetition and resumption, and what is said of mistakes."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

import convatlas as ca
from convatlas.data import find as find_data
from convatlas.data.batches import Shard
from convatlas.errors import UserError
from convatlas.files.typed_json import encoded
from convatlas.images import Preprocessing
from convatlas.models.card import Card
from convatlas.models.network import spec_of
from convatlas.networks.resnet import ResNet
from convatlas.runs.options import Execution, Runtime, Validation
from convatlas.runs.record import Record
from convatlas.runs.run import CHECKPOINT, Run, load_run
from convatlas.spec import Scale, Variant
from convatlas.training import Interrupted, Progress, optimizers
from convatlas.training.plan import training_batches

UNTUNED = Runtime(autotune=False)


def slow(*values: object) -> Any:
    """Cases more of a kind that takes long."""
    return pytest.param(*values, marks=pytest.mark.slow)


class StopAt(Progress):
    """Sends this process a signal after a number of steps, as Ctrl-C does."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGINT) -> None:
        self.left, self.number = step, number

    def advance(self, num_images: int) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.number)


class Notes(Progress):
    """Keeps the lines that are said, and the threads and images of each step."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.threads: list[int] = []
        self.images: list[int] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def advance(self, num_images: int) -> None:
        self.threads.append(torch.get_num_threads())
        self.images.append(num_images)


def weights(run: Run) -> bytes:
    return (run.folder / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ca.train("lenet1", epochs=3, out=tmp_path_factory.mktemp("undisturbed") / "run")


def test_a_run_folder_holds_what_the_readme_says(undisturbed: Run) -> None:
    names = {path.name for path in undisturbed.folder.iterdir()}
    assert names == {
        "model.json", "weights.safetensors", "run.json", "metrics.jsonl", "curves.svg", "confusion.svg",
    }  # fmt: skip
    rows = [json.loads(line) for line in (undisturbed.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["loss"] < rows[0]["loss"]
    record = json.loads((undisturbed.folder / "run.json").read_text())
    assert record["seed"] == 0
    assert record["recipe"]["epochs"] == 3
    assert record["results"]["train_images"] == 1442
    card = json.loads((undisturbed.folder / "model.json").read_text())
    assert card["variant"] == "lenet1"
    assert card["provenance"]["versions"]["torch"] == torch.__version__
    assert card["provenance"]["seed"] == 0
    assert card["score"]["num_images"] == 355


def test_the_model_of_a_run_needs_its_card_and_weights_alone(undisturbed: Run, tmp_path: Path) -> None:
    for name in ("model.json", "weights.safetensors"):
        shutil.copy(undisturbed.folder / name, tmp_path / name)
    model = ca.load(tmp_path)
    assert isinstance(model, ca.Model)
    assert model.card == undisturbed.card
    assert model.evaluate().score == undisturbed.score


FAST = ("lenet5-modern",)


@pytest.mark.parametrize(
    "name",
    [variant.name if variant.name in FAST else slow(variant.name) for variant in ca.families()[0].variants],
)
def test_every_variant_of_the_smallest_family_learns(name: str, tmp_path: Path) -> None:
    # A tenth would be chance.
    assert ca.train(name, epochs=12, out=tmp_path / "run").test_accuracy > 0.6


def test_a_seed_repeats_a_run_bit_for_bit(undisturbed: Run, tmp_path: Path) -> None:
    again = ca.train("lenet1", epochs=3, out=tmp_path / "again")
    other = ca.train("lenet1", epochs=3, seed=1, out=tmp_path / "other")
    assert weights(again) == weights(undisturbed)
    assert weights(other) != weights(undisturbed)


@pytest.mark.parametrize(("name", "num_stops"), [slow("lenet1", 8), slow("lenet5-modern", 8)])
def test_a_run_interrupted_at_any_step_ends_in_the_same_weights(
    name: str, num_stops: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = ca.train(name, epochs=3, out=tmp_path_factory.mktemp("whole") / "run")

    @settings(max_examples=num_stops)
    @given(step=st.integers(1, 35), number=st.sampled_from([signal.SIGINT, signal.SIGTERM]))
    def holds(step: int, number: signal.Signals) -> None:
        folder = tmp_path_factory.mktemp("interrupted") / "run"
        with pytest.raises(Interrupted) as stopped:
            ca.train(name, epochs=3, out=folder, progress=StopAt(step, number))
        assert stopped.value.signal == number
        with pytest.raises(UserError, match=r"is not finished; convatlas resume"):
            _ = ca.load(folder).network
        resumed = ca.resume(folder)
        assert weights(resumed) == weights(whole)
        for ours, theirs in zip(metrics(resumed), metrics(whole), strict=True):
            assert ours | {"seconds": 0} == theirs | {"seconds": 0}

    holds()


def metrics(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def test_signal_handlers_are_restored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        ca.train("lenet1", epochs=1, out=tmp_path / "run", progress=StopAt(2))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_finished_run_is_not_trained_again(undisturbed: Run) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in undisturbed.folder.iterdir()}
    ca.resume(undisturbed.folder)
    assert {path.name: path.stat().st_mtime_ns for path in undisturbed.folder.iterdir()} == before


def test_training_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    ca.train("lenet1", epochs=1, out=tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "lr", "what", "step"),
    [
        ("lenet5-modern", 1e6, "gradient", 2),
        ("lenet5-modern", 1e30, "loss", 2),
        ("lenet5-modern", 1800.0, "gradient", 3),
    ],
)
def test_a_step_that_is_not_finite_stops_before_the_update_and_keeps_the_last_good_state(
    name: str, lr: float, what: str, step: int, tmp_path: Path
) -> None:
    notes = Notes()
    with pytest.raises(UserError) as stopped:
        ca.train(name, epochs=2, lr=lr, runtime=UNTUNED, out=tmp_path / "run", progress=notes)
    message = re.fullmatch(
        rf"the {what} is not a finite number at step {step} in epoch 1, with (?P<names>.*) and (?P<others>\d+) others; "
        rf"{tmp_path / 'run'} keeps the last good state, and a new run with a lower learning rate than (?P<lr>\S+) may "
        "help",
        str(stopped.value),
    )
    assert message is not None, str(stopped.value)
    assert float(message["lr"]) == lr
    # The steps before it are done, and nothing after them is in the checkpoint.
    assert len(notes.images) == step - 1
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert json.loads(bytes(kept["state"].numpy()))["step"] == step - 1
    assert all(value.isfinite().all() for key, value in kept.items() if key.startswith("network."))
    # Images of that step, and all of them if it is the gradient.
    run = load_run(tmp_path / "run")
    source = training_batches(run.card, run.record, run.load_data().train, torch.device("cpu"), Shard())
    shown = [f"image {index}" for index in source.order(0)[128 * (step - 1) : 128 * step].tolist()]
    names = message["names"].split(", ")
    assert len(names) == 5
    assert set(names) <= set(shown)
    assert int(message["others"]) + 5 <= 128
    if what == "gradient":
        assert names == shown[:5]
        assert int(message["others"]) + 5 == 128


def test_a_run_that_was_not_finite_says_the_same_when_it_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(UserError) as stopped:
        ca.train("lenet5-modern", epochs=2, lr=1e30, runtime=UNTUNED, out=tmp_path / "run")
    with pytest.raises(UserError) as again:
        ca.resume(tmp_path / "run")
    assert str(again.value) == str(stopped.value)


@pytest.mark.parametrize(("batch_size", "epochs"), [slow(128, 2), (2000, 1)], ids=["in the middle", "at the last step"])
def test_no_checkpoint_holds_weights_that_are_not_finite(batch_size: int, epochs: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"keeps the last good state|has no checkpoint yet"):
        ca.train(
            "lenet5",
            epochs=epochs,
            batch_size=batch_size,
            lr=3e38,
            runtime=Runtime(checkpoint_steps=1),
            out=tmp_path / "run",
        )
    for path in (tmp_path / "run").glob("*checkpoint.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


def test_images_of_a_folder_are_named_where_the_loss_is_not_finite(shades: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"with .*(dark|light)\S*\.png"):
        ca.train("lenet5-modern", data=shades, epochs=3, batch_size=4, lr=1e30, out=tmp_path / "run")


@pytest.mark.slow
def test_the_recipe_of_the_paper_trains(tmp_path: Path) -> None:
    run = ca.train("lenet1", recipe="paper", epochs=2, out=tmp_path / "run")
    assert run.record.recipe.batch_size == 1
    assert metrics(run)[1]["loss"] < metrics(run)[0]["loss"]


def test_a_scaled_network_trains_and_is_loaded(tmp_path: Path) -> None:
    scale = Scale(width=0.5, depth=2, resolution=40)
    run = ca.train("lenet5", epochs=1, scale=scale, out=tmp_path / "run")
    again = load_run(run.folder)
    assert again.network.spec == again.spec == run.spec
    assert (run.spec.resolution, run.spec.same) == (40, 1)
    assert again.record.scale == scale


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` 0 trains nothing; it must be at least 1"),
        ({"epochs": -1}, "`epochs` -1 trains nothing"),
        ({"batch_size": 0}, "`batch_size` 0 trains nothing"),
        ({"lr": 0.0}, "`lr` 0 trains nothing"),
        ({"lr": float("nan")}, "`lr` nan trains nothing"),
        ({"scale": Scale(width=0)}, "the smallest width that works"),
        ({"scale": Scale(depth=0)}, "depth 0 leaves no layer"),
        ({"scale": Scale(resolution=20)}, "the smallest that works is 28 px"),
        ({"stop_at_error": 25}, "`stop_at_error` 25 does not work; it must be 0 to 1"),
        ({"class_weights": "even"}, "`class_weights` 'even' is unknown; the only choice is 'balanced'"),
        ({"seed": -1}, "`seed` -1 is out of range"),
        ({"seed": 2**70}, "is out of range"),
        ({"data": "~nobody-of-that-name/x"}, "there is no folder"),
        ({"runtime": Runtime(device="tpu")}, "there is no device 'tpu'"),
        ({"recipe": "secret"}, "there is no recipe 'secret'"),
        ({"data": "mnits"}, "did you mean mnist"),
        ({"data": "no/such/folder"}, "there is no folder no/such/folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as mistake:
        ca.train("lenet5", out=tmp_path / "run", **arguments)
    assert message in str(mistake.value)
    assert "\n" not in str(mistake.value)
    # The command adds its dashes.
    assert "--" not in str(mistake.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_never_overwritten(undisturbed: Run) -> None:
    before = weights(undisturbed)
    with pytest.raises(UserError, match="holds a run already"):
        ca.train("lenet1", epochs=1, seed=5, out=undisturbed.folder)
    assert weights(undisturbed) == before


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"mine")
    with pytest.raises(UserError, match="has other files in it"):
        ca.train("lenet1", epochs=1, out=tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == b"mine"


def test_a_new_run_never_resumes_an_old_checkpoint(undisturbed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        ca.train("lenet1", epochs=3, seed=5, out=folder, progress=StopAt(20))
    (folder / "run.json").unlink()
    with pytest.raises(UserError, match="has other files in it"):
        ca.train("lenet1", epochs=3, out=folder)


def test_a_process_killed_between_the_card_and_the_record_leaves_a_folder_to_train_in(
    undisturbed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    class Killed(BaseException):
        """Stands for the kill: nothing after it runs."""

    def kill(record: Record) -> bytes:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Record, "to_json", kill)
        with pytest.raises(Killed):
            ca.train("lenet1", epochs=3, seed=7, out=folder)
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["model.json"]
    with pytest.raises(UserError, match="is not finished"):
        _ = ca.load(folder).network
    # The same command again, or any other.
    assert weights(ca.train("lenet1", epochs=3, out=folder)) == weights(undisturbed)


def test_resuming_a_finished_run_clears_what_a_kill_at_its_very_end_left(undisturbed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.folder, folder)
    (folder / "checkpoint.safetensors").write_bytes(b"")
    (folder / ".lock").touch()
    ca.resume(folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in undisturbed.folder.iterdir()}


def test_resume_leaves_the_callers_threads_alone(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        ca.train("lenet1", epochs=1, out=tmp_path / "run", progress=StopAt(2))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        ca.resume(tmp_path / "run")
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_run_whose_last_update_is_not_finite_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the weights are not finite after the last step; .* lower learning rate"):
        ca.train("lenet5", epochs=1, batch_size=2000, lr=3e38, out=tmp_path / "run")
    assert load_run(tmp_path / "run").record.results is None


def test_predict_sees_the_data_sets_own_images_as_evaluate_does(undisturbed: Run) -> None:
    images = find_data("digits").load(8).test
    predicted = [undisturbed.predict(Image.fromarray(image[0])).classes[0] for image in images.images]
    num_correct = sum(name == str(label) for name, label in zip(predicted, images.labels, strict=True))
    assert num_correct / len(images) == undisturbed.test_accuracy


def test_a_long_thin_stroke_is_framed_in_little_memory(undisturbed: Run, tmp_path: Path) -> None:
    strip = np.full((20, 80000), 255, np.uint8)
    strip[8:12, 100:-100] = 0
    Image.fromarray(strip).save(tmp_path / "strip.png")
    assert len(undisturbed.predict(tmp_path / "strip.png").classes) == 5


def test_runs_without_a_name_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [ca.train("lenet1", epochs=1).folder for _ in range(3)]
    assert [str(folder) for folder in folders] == ["runs/lenet1-digits", "runs/lenet1-digits-2", "runs/lenet1-digits-3"]


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Vertical and horizontal stripes, in color."""
    generator = np.random.default_rng(0)
    for name, axis in (("level", 0), ("upright", 1)):
        (tmp_path / "stripes" / name).mkdir(parents=True)
        for i in range(30):
            wave = np.sin(np.arange(48) / generator.uniform(1.5, 3) + generator.uniform(0, 6)) * 100 + 128
            image = np.broadcast_to(np.expand_dims(wave, 1 - axis), (48, 48))
            color = np.stack([image, generator.uniform(0, 1) * image, image], 2).astype(np.uint8)
            Image.fromarray(color).save(tmp_path / "stripes" / name / f"{i}.png")
    return tmp_path / "stripes"


def test_a_folder_of_images_is_learned(stripes: Path, tmp_path: Path) -> None:
    run = ca.train("lenet5-modern", data=stripes, epochs=25, batch_size=16, out=tmp_path / "run")
    assert run.test_accuracy == 1.0
    assert run.card.classes == ("level", "upright")
    assert run.spec.in_channels == 3
    assert run.predict(stripes / "level" / "3.png").classes == ("level", "upright")
    assert run.evaluate().accuracy == 1.0


def test_images_that_changed_since_are_noticed(stripes: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        ca.train("lenet1", data=stripes, epochs=2, out=tmp_path / "run", progress=StopAt(1))
    Image.new("RGB", (48, 48)).save(stripes / "level" / "0.png")
    with pytest.raises(UserError, match="are not, or no longer, those that"):
        ca.resume(tmp_path / "run")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny networks, where threads would do little but wait for each other; the other tests keep theirs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "name",
    [
        family.variants[-1].name if family.name in ("LeNet", "ResNet") else slow(family.variants[-1].name)
        for family in ca.families()
    ],
)
def test_a_network_of_each_family_trains_on_small_images_in_color_and_is_loaded(
    name: str, shades: Path, tmp_path: Path
) -> None:
    # The last variant of each family: with batch normalization where the family has that.
    scale = Scale(width=0.25, depth=0.1, resolution=28)
    run = ca.train(name, data=shades, epochs=1, batch_size=4, scale=scale, out=tmp_path / "run")
    assert (run.spec.in_channels, run.spec.num_classes) == (3, 2)
    opened = load_run(run.folder)
    assert opened.network.spec == opened.spec == run.spec
    assert not opened.network.training
    assert opened.evaluate().accuracy == run.test_accuracy
    prediction = opened.predict(shades / "test" / "dark" / "0.png")
    assert set(prediction.classes) == {"dark", "light"}
    assert sum(prediction.probabilities) == pytest.approx(1)
    layers = ca.measure.layers(opened.network)
    assert (run.card.params, run.card.macs) == (layers.params, layers.macs)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("efficientnet-b0", (3, 4)),
        # Four steps an epoch: at the first, in the middle, between the epochs, after the last.
        *(slow(name, (1, 3, 4, 8)) for name in ("resnet20-cifar", "googlenet", "googlenet-bn", "efficientnet-b0")),
    ],
)
def test_a_run_stopped_at_a_step_ends_in_the_same_weights_and_buffers(
    name: str, steps: tuple[int, ...], shades: Path, tmp_path: Path, any_device: torch.device
) -> None:
    # What depends on more than weights: running statistics, auxiliary heads, dropout, blocks left out at random.
    scale, runtime = Scale(width=0.25, depth=0.5, resolution=28), Runtime(device=any_device.type)
    job = {"data": shades, "epochs": 2, "batch_size": 2, "scale": scale, "runtime": runtime}
    whole = ca.train(name, out=tmp_path / "whole", **job)
    expected = whole.network.state_dict()
    for step in steps:
        folder = tmp_path / f"stopped{step}"
        with pytest.raises(Interrupted):
            ca.train(name, out=folder, progress=StopAt(step), **job)
        resumed = ca.resume(folder)
        state = resumed.network.state_dict()
        assert [key for key, value in expected.items() if not torch.equal(state[key], value)] == []
        assert weights(resumed) == weights(whole)
        for one, other in zip(metrics(resumed), metrics(whole), strict=True):
            assert one | {"seconds": 0} == other | {"seconds": 0}


@pytest.mark.slow
def test_a_resumed_training_of_usual_size_ends_in_the_same_bits(tmp_path: Path, any_device: torch.device) -> None:
    # Where a library sums in whatever order its threads come, as some do for large batches only, the bits differ.
    runtime = Runtime(device=any_device.type)
    whole = ca.train("resnet20-cifar", epochs=1, runtime=runtime, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        ca.train("resnet20-cifar", epochs=1, runtime=runtime, out=tmp_path / "stopped", progress=StopAt(7))
    assert weights(ca.resume(tmp_path / "stopped")) == weights(whole)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of stripes in color, 64 pixels, unevenly many: photographs by their size."""
    root = tmp_path_factory.mktemp("photographs") / "photographs"
    generator = np.random.default_rng(1)
    for split, numbers in (("train", (12, 5, 3)), ("test", (3, 3, 3))):
        for label, num in enumerate(numbers):
            (root / split / "abc"[label]).mkdir(parents=True)
            for i in range(num):
                wave = np.sin(np.arange(64) * (label + 1) / 5 + generator.uniform(0, 6))
                noise = generator.normal(128 + 60 * wave[:, None], 40, (64, 64, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).save(root / split / "abc"[label] / f"{i}.png")
    return root


HALF = Scale(width=0.5, resolution=64)
NARROW = Scale(width=0.25, depth=0.3, resolution=28)
OPTIONS: dict[str, dict[str, object]] = {
    # 2 % of 100 steps are two: an average. Half of the batches are mixed.
    "average and mixing": {"network": "lenet5-modern", "epochs": 20, "batch_size": 4, "scale": HALF},
    "micro-batches": {
        "network": "lenet5-modern", "epochs": 4, "batch_size": 7, "scale": HALF,
        "runtime": Runtime(autotune=False, micro_batch=3),
    },
    "validation with patience": {
        "network": "lenet5-modern", "epochs": 20, "batch_size": 5, "scale": HALF,
        "validation": Validation(patience=2),
    },
    "validation with an average": {
        "network": "resnet20-cifar", "epochs": 26, "batch_size": 4, "scale": NARROW, "validation": Validation(),
    },
    "validation on a third": {
        "network": "lenet5-modern", "epochs": 8, "batch_size": 4, "scale": HALF,
        "validation": Validation(val_split=1 / 3),
    },
    "class weights": {
        "network": "lenet5-modern", "epochs": 4, "batch_size": 5, "scale": HALF, "class_weights": "balanced",
    },
    "SGD": {
        "network": "resnet20-cifar", "recipe": "paper", "epochs": 4, "batch_size": 4, "scale": Scale(width=0.25),
    },
    "SGD with lighting": {
        "network": "resnet18", "recipe": "paper", "epochs": 3, "batch_size": 5,
        "scale": Scale(width=0.125, resolution=64),
    },
    "RMSprop": {
        "network": "efficientnet-b0", "recipe": "paper", "epochs": 3, "batch_size": 5, "scale": NARROW,
    },
    "Levenberg-Marquardt": {"network": "lenet1", "recipe": "paper", "epochs": 4, "batch_size": 3},
}  # fmt: skip

USUAL = ("validation with patience", "micro-batches", "SGD with lighting", "Levenberg-Marquardt")
"""The others in slow tests: what they keep, these keep too."""


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("num_stops", [1, slow(10)])
@pytest.mark.parametrize(
    "options", [values if name in USUAL else slow(values) for name, values in OPTIONS.items()], ids=OPTIONS
)
def test_a_run_with_any_option_stopped_again_and_again_ends_in_the_same_weights(
    options: dict[str, object], num_stops: int, photographs: Path, tmp_path: Path
) -> None:
    notes = Notes()
    job = {"data": photographs, "runtime": UNTUNED, **options}
    whole = ca.train(**job, out=tmp_path / "whole", progress=notes)
    num_steps = len(notes.images)
    # After the first step, at others whatever they are, and after the last.
    others = np.random.default_rng(0).choice(np.arange(2, num_steps), min(num_stops, num_steps // 4), replace=False)
    folder, done = tmp_path / "stopped", 0
    for step in (1, *sorted(others.tolist()), num_steps):
        stop = StopAt(step - done)
        proceed = partial(ca.resume, folder) if done else partial(ca.train, **job, out=folder)
        with pytest.raises(Interrupted):
            proceed(progress=stop)
        done = step
    resumed = ca.resume(folder)
    assert weights(resumed) == weights(whole)
    assert [row | {"seconds": 0} for row in metrics(resumed)] == [row | {"seconds": 0} for row in metrics(whole)]
    ours, theirs = resumed.results, whole.results
    assert replace(ours, seconds=0) == replace(theirs, seconds=0)
    assert resumed.card == whole.card


@pytest.fixture(scope="module")
def six_epochs(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Each better than those before."""
    run = ca.train(**TO_AN_ERROR, out=tmp_path_factory.mktemp("six") / "run")
    errors = [1 - row["accuracy"] for row in metrics(run)]
    assert errors == sorted(set(errors), reverse=True)
    return run


TO_AN_ERROR = {"network": "lenet5-modern", "epochs": 6, "batch_size": 300, "runtime": UNTUNED}
STEPS_AN_EPOCH = 5


def without_time(run: Run) -> list[dict[str, float]]:
    return [row | {"seconds": 0} for row in metrics(run)]


@pytest.mark.usefixtures("one_thread")
def test_training_stops_with_the_first_epoch_at_its_error(six_epochs: Run, tmp_path: Path) -> None:
    # Between the third and the fourth epoch's errors, so that the fourth is the first.
    stop_at_error = 1 - sum(row["accuracy"] for row in metrics(six_epochs)[2:4]) / 2
    job = {**TO_AN_ERROR, "stop_at_error": stop_at_error}
    whole = ca.train(**job, out=tmp_path / "whole")
    # The learning rate, too, is that of six epochs.
    assert without_time(whole) == without_time(six_epochs)[:4]
    assert (whole.results.epochs, whole.record.recipe.epochs, whole.record.stop_at_error) == (4, 6, stop_at_error)
    assert whole.is_finished
    # One step before the end, and at the end, where nothing is left to train.
    for step in (4 * STEPS_AN_EPOCH - 1, 4 * STEPS_AN_EPOCH):
        folder = tmp_path / f"stopped at {step}"
        with pytest.raises(Interrupted):
            ca.train(**job, out=folder, progress=StopAt(step))
        notes = Notes()
        resumed = ca.resume(folder, progress=notes)
        assert len(notes.images) == 4 * STEPS_AN_EPOCH - step
        assert without_time(resumed) == without_time(whole)
        assert weights(resumed) == weights(whole)
        assert replace(resumed.results, seconds=0) == replace(whole.results, seconds=0)


@pytest.mark.usefixtures("one_thread")
def test_an_error_that_is_not_reached_costs_nothing(six_epochs: Run, tmp_path: Path) -> None:
    run = ca.train(**TO_AN_ERROR, stop_at_error=0.0, out=tmp_path / "run")
    assert run.results.epochs == 6
    assert without_time(run) == without_time(six_epochs)
    assert weights(run) == weights(six_epochs)


def test_the_options_above_are_what_they_are_called(photographs: Path, tmp_path: Path) -> None:
    """Otherwise a test of them would be of something else."""
    records = {}
    for name, options in OPTIONS.items():
        job = {"data": photographs, "runtime": UNTUNED, **options}
        with pytest.raises(Interrupted) as stopped:
            ca.train(**job, out=tmp_path / name, progress=StopAt(1))
        records[name] = stopped.value.run.record
    mixed = records["average and mixing"].recipe
    assert min(mixed.augmentation.mixup, mixed.augmentation.cutmix, mixed.augmentation.crop) > 0
    for name in ("average and mixing", "validation with an average"):
        assert any(key.startswith("average.") for key in load_file(tmp_path / name / CHECKPOINT))
    assert records["micro-batches"].runtime.micro_batch == 3
    assert records["validation with patience"].validation == Validation(val_split=0.1, patience=2)
    assert records["validation on a third"].validation == Validation(val_split=1 / 3)
    assert records["class weights"].class_weights == "balanced"
    assert records["SGD with lighting"].recipe.augmentation.lighting
    kinds = [records[name].recipe.optimizer for name in ("SGD", "RMSprop", "Levenberg-Marquardt")]
    assert kinds == ["sgd", "rmsprop", "levenberg-marquardt"]


@pytest.mark.usefixtures("one_thread")
def test_what_an_optimizer_does_before_an_epoch_is_done_once_for_each(
    shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run that is resumed within an epoch has the curvature of its checkpoint.
    job = {"network": "lenet1", "recipe": "paper", "data": shades, "epochs": 3, "batch_size": 3}
    estimated: list[bool] = []
    estimate = optimizers.DiagonalLevenbergMarquardt.estimate_curvature

    def note(optimizer: optimizers.DiagonalLevenbergMarquardt, network: torch.nn.Module, *arguments: object) -> None:
        estimated.append(True)
        estimate(optimizer, network, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(optimizers.DiagonalLevenbergMarquardt, "estimate_curvature", note)
    whole = ca.train(**job, out=tmp_path / "whole")
    assert len(estimated) == 3
    # Three steps an epoch: stopped in the middle of the second, and at its end.
    with pytest.raises(Interrupted):
        ca.train(**job, out=tmp_path / "stopped", progress=StopAt(4))
    assert len(estimated) == 3 + 2
    with pytest.raises(Interrupted):
        ca.resume(tmp_path / "stopped", progress=StopAt(2))
    assert len(estimated) == 3 + 2
    assert weights(ca.resume(tmp_path / "stopped")) == weights(whole)
    assert len(estimated) == 3 + 3


@pytest.mark.usefixtures("one_thread")
def test_a_damaged_checkpoint_costs_a_few_steps_and_nothing_else(shades: Path, tmp_path: Path) -> None:
    scale = Scale(width=0.25, depth=0.3)
    job = {"network": "resnet20-cifar", "data": shades, "epochs": 4, "batch_size": 4, "scale": scale}
    whole = ca.train(**job, out=tmp_path / "whole")
    folder = tmp_path / "damaged"
    with pytest.raises(Interrupted):
        ca.train(**job, out=folder, runtime=Runtime(checkpoint_steps=2), progress=StopAt(7))
    content = bytearray((folder / CHECKPOINT).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / CHECKPOINT).write_bytes(content)
    notes = Notes()
    resumed = ca.resume(folder, progress=notes)
    assert notes.lines == [f"{folder / CHECKPOINT} is damaged; using the previous checkpoint"]
    # Steps 7 and 8, after the checkpoint of step 6; an epoch has two.
    assert len(notes.images) == 2
    assert weights(resumed) == weights(whole)


@pytest.mark.usefixtures("one_thread")
def test_a_folder_that_disappears_stops_training_with_an_error_that_names_it(shades: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    class Removes(Notes):
        def advance(self, num_images: int) -> None:
            super().advance(num_images)
            if len(self.images) == 3:
                # At once: a checkpoint may be being written.
                folder.rename(tmp_path / "elsewhere")

    notes = Removes()
    with pytest.raises(OSError) as failure:  # noqa: PT011  # what it says is the system's; its file is ours
        ca.train(
            "lenet5-modern",
            data=shades,
            epochs=50,
            batch_size=4,
            runtime=Runtime(checkpoint_steps=1),
            out=folder,
            progress=notes,
        )
    assert str(failure.value.filename).startswith(str(folder))
    # Not at the end of all steps, which are 100.
    assert len(notes.images) <= 6


# Execution and autotuning


@pytest.mark.usefixtures("one_thread")
def test_without_autotuning_the_plain_execution_is_used(shades: Path, tmp_path: Path) -> None:
    notes = Notes()
    run = ca.train("lenet5-modern", data=shades, epochs=1, runtime=UNTUNED, out=tmp_path / "run", progress=notes)
    assert run.record.execution == Execution(threads=1)
    assert run.record.is_tuned
    assert notes.lines == []


@pytest.mark.usefixtures("one_thread")
def test_a_short_training_is_not_tuned_and_computes_the_same(shades: Path, tmp_path: Path) -> None:
    notes = Notes()
    job = {"network": "lenet5-modern", "data": shades, "epochs": 2}
    measured = ca.train(**job, out=tmp_path / "measured", progress=notes)
    assert measured.record.execution == Execution(threads=1)
    assert measured.record.is_tuned
    assert notes.lines == []
    assert weights(measured) == weights(ca.train(**job, runtime=UNTUNED, out=tmp_path / "plain"))


@pytest.mark.usefixtures("one_thread")
def test_a_run_is_resumed_with_the_execution_of_its_record(shades: Path, tmp_path: Path) -> None:
    scale = Scale(width=0.25, depth=0.3)
    job = {"network": "resnet20-cifar", "data": shades, "epochs": 2, "batch_size": 4, "scale": scale}
    job["runtime"] = UNTUNED
    plain = ca.train(**job, out=tmp_path / "plain")
    runs = []
    for name in ("whole", "stopped"):
        with pytest.raises(Interrupted) as stopped:
            ca.train(**job, out=tmp_path / name, progress=StopAt(1))
        run = stopped.value.run
        # Started again with another execution, as if that had been measured to be the fastest.
        (run.folder / CHECKPOINT).unlink()
        run.record = replace(run.record, execution=Execution(threads=3, channels_last=False, bfloat16=True))
        run.write()
        runs.append(run.folder)
    whole = ca.resume(runs[0])
    with pytest.raises(Interrupted):
        ca.resume(runs[1], progress=StopAt(3))
    notes = Notes()
    resumed = ca.resume(runs[1], progress=notes)
    assert set(notes.threads) == {3}
    assert torch.get_num_threads() == 1
    assert resumed.record.execution == whole.record.execution
    assert weights(resumed) == weights(whole)
    assert weights(resumed) != weights(plain)


# Gradients


@pytest.mark.usefixtures("one_thread")
def test_a_batch_in_micro_batches_changes_the_weights_as_the_whole_does(shades: Path, tmp_path: Path) -> None:
    # One step of all 9 images, by an optimizer that is linear in the gradient.
    job = {"network": "lenet1", "recipe": "paper", "data": shades, "epochs": 1, "batch_size": 9}
    run = ca.train(**job, runtime=UNTUNED, out=tmp_path / "whole")
    whole = run.network.state_dict()
    torch.manual_seed(0)
    before = ca.find("lenet1").network(run.spec).state_dict()
    for micro_batch in (1, 2, 4, 8, 9, 100):
        notes = Notes()
        runtime = Runtime(autotune=False, micro_batch=micro_batch)
        parts = ca.train(**job, runtime=runtime, out=tmp_path / f"{micro_batch}", progress=notes).network.state_dict()
        assert notes.images == [9]
        for name, value in whole.items():
            change = (value - before[name]).abs().max()
            assert change > 0
            assert (parts[name] - value).abs().max() < 1e-4 * change + 1e-7, (micro_batch, name)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", [slow("googlenet-bn"), "efficientnet-b0"])
def test_no_micro_batch_is_a_single_image_that_cannot_be_normalized(name: str, shades: Path, tmp_path: Path) -> None:
    # 9 images in batches of 4 and 5; micro-batches of 2 would leave a single one of the last.
    run = ca.train(
        name,
        data=shades,
        epochs=1,
        batch_size=4,
        scale=Scale(width=0.25, resolution=28),
        runtime=Runtime(autotune=False, micro_batch=2),
        out=tmp_path / "run",
    )
    assert all(value.isfinite().all() for value in run.network.state_dict().values())


@pytest.mark.usefixtures("one_thread")
def test_balanced_class_weights_let_each_class_count_the_same(photographs: Path, tmp_path: Path) -> None:
    # The loss of the first step is that of the initial weights, without augmentation.
    job = {
        "network": "lenet1",
        "recipe": "paper",
        "data": photographs,
        "epochs": 1,
        "batch_size": 20,
        "runtime": UNTUNED,
    }
    plain = ca.train(**job, out=tmp_path / "plain")
    balanced = ca.train(**job, class_weights="balanced", out=tmp_path / "balanced")
    loss, balanced_loss = metrics(plain)[0]["loss"], metrics(balanced)[0]["loss"]
    train, preprocessing = plain.load_data().train, plain.card.preprocessing
    inputs = torch.from_numpy(preprocessing.normalize(preprocessing.center(train.images[:])))
    torch.manual_seed(0)
    network = ca.find("lenet1").network(plain.spec)
    labels = torch.from_numpy(train.labels)
    targets = torch.nn.functional.one_hot(labels).float()
    each = ca.find("lenet1").objective.losses(network(inputs), targets).detach()
    assert loss == pytest.approx(each.mean().item(), rel=1e-5)
    # 12, 5 and 3 images: the mean of the classes' means.
    assert balanced_loss == pytest.approx(sum(each[labels == i].mean().item() for i in range(3)) / 3, rel=1e-5)
    assert balanced_loss != pytest.approx(loss, rel=1e-4)
    assert weights(plain) != weights(balanced)


@pytest.mark.usefixtures("one_thread")
def test_a_checkpoint_has_the_statistics_of_batch_normalization(shades: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as stopped:
        ca.train(
            "resnet20-cifar",
            data=shades,
            scale=Scale(width=0.25),
            batch_size=4,
            runtime=UNTUNED,
            out=tmp_path / "run",
            progress=StopAt(3),
        )
    kept = load_file(tmp_path / "run" / "checkpoint.safetensors")
    buffers = dict(ResNet(stopped.value.run.spec).named_buffers())
    # Mean, variance and count, for one normalization after each of 19 convolutions.
    assert len(buffers) == 3 * 19
    for name, fresh in buffers.items():
        if name.endswith("num_batches_tracked"):
            assert kept[f"network.{name}"] == 3
        else:
            assert not torch.equal(kept[f"network.{name}"], fresh)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", [slow("googlenet-bn"), "efficientnet-b0"])
def test_a_single_image_at_the_end_of_an_epoch_trains_with_batch_normalization(
    name: str, shades: Path, tmp_path: Path
) -> None:
    # 9 images in batches of 4; at 28 pixels the last feature maps of googlenet-bn's auxiliary classifiers are 1x1.
    notes = Notes()
    run = ca.train(
        name,
        data=shades,
        epochs=2,
        batch_size=4,
        scale=Scale(width=0.25, resolution=28),
        out=tmp_path / "run",
        progress=notes,
    )
    assert notes.images == [4, 5, 4, 5]
    assert all(value.isfinite().all() for value in run.network.state_dict().values())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("scale", "resolution"),
    [
        # The embedded digits are smaller than the smallest input of any network, 28 pixels; 28 x 1.15 are 32.
        slow(Scale(width=0.25), 28),
        (Scale(width=0.25, phi=1), 32),
        slow(Scale(width=0.25, phi=2), 37),
        slow(Scale(width=0.25, resolution=30), 30),
        slow(Scale(width=0.25, phi=1, resolution=30), 30),
    ],
    ids=str,
)
def test_phi_scales_the_images_own_size(scale: Scale, resolution: int, tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as stopped:
        ca.train("mobilenet", scale=scale, runtime=UNTUNED, out=tmp_path / "run", progress=StopAt(1))
    # Width and depth are the network's, times powers of 1.1 and 1.2.
    scaled = ca.find("mobilenet").spec.compound(scale.phi, width=0.25, resolution=resolution)
    run = stopped.value.run
    assert run.spec == replace(scaled, num_classes=10, in_channels=1)
    assert run.card.preprocessing.crop == resolution
    assert run.record.scale == replace(scale, resolution=resolution)


@pytest.mark.usefixtures("one_thread")
def test_phi_scales_the_usual_size_of_a_folders_images(shades: Path, tmp_path: Path) -> None:
    scale = Scale(width=0.25, depth=0.1, phi=1)
    with pytest.raises(Interrupted) as stopped:
        ca.train(
            "mobilenet",
            data=shades,
            batch_size=2,
            scale=scale,
            runtime=UNTUNED,
            out=tmp_path / "run",
            progress=StopAt(1),
        )
    # 28 pixels, times 1.15.
    assert stopped.value.run.spec.resolution == 32


@pytest.mark.parametrize("variant", ca.variants(), ids=lambda variant: variant.name)
def test_a_network_s_spec_returns_from_its_card(variant: Variant, undisturbed: Run) -> None:
    n = variant.spec.in_channels
    spec = replace(variant.spec, num_classes=len(undisturbed.card.classes))
    side = spec.resolution
    preprocessing = Preprocessing(resize=side, crop=side, channels=n, mean=(0.5,) * n, std=(0.25,) * n)
    card = replace(undisturbed.card, variant=variant.name, spec=encoded(spec), preprocessing=preprocessing)
    read = Card.from_json(card.to_json(), "model.json")
    assert read == card
    # Which is all that a network is built from.
    assert spec_of(read) == spec


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet5", "lenet5-modern"])
def test_the_main_job_reaches_98_percent(name: str, tmp_path: Path) -> None:
    accuracies = [ca.train(name, seed=seed, out=tmp_path / str(seed)).test_accuracy for seed in range(5)]
    assert sum(accuracies) / 5 >= 0.98
