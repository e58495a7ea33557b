"""Fine-tuning: which weights are taken, which layers are trained when, and what a frozen body computes."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import convatlas as ca
from convatlas import data
from convatlas.errors import UserError
from convatlas.models.folder import weights_checksum
from convatlas.runs.options import InitFrom, Runtime, Validation
from convatlas.runs.run import Run
from convatlas.spec import Scale
from convatlas.training import Interrupted, Progress, fine_tuning, resume
from convatlas.training.fine_tuning import (
    Backbone,
    FeatureBatches,
    FrozenBackbone,
    layer_groups,
    learning_rates,
    unfreeze,
)
from convatlas.training.start import open_weights

FIRST_OF_EACH_FAMILY = [family.variants[0].name for family in ca.families()]
LAST_OF_EACH_FAMILY = [family.variants[-1].name for family in ca.families()]
NARROW = Scale(width=0.25, depth=0.3)
UNTUNED = Runtime(autotune=False)


def built(name: str, num_classes: int = 5) -> tuple[nn.Module, str]:
    network = ca.create(name, num_classes=num_classes, in_channels=1, width=0.25, depth=0.1, resolution=28)
    return network, fine_tuning.last_trained_layer(ca.find(name), network.spec)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """resnet20-cifar, narrow, after one epoch of digits."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return ca.train("resnet20-cifar", scale=NARROW, epochs=1, runtime=UNTUNED, out=folder)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("lenet5-modern", "output"),
        ("lenet5", "f6"),
        ("alexnet", "fc8"),
        ("vgg11", "fc8"),
        ("googlenet", "fc"),
        ("resnet18", "fc"),
        ("squeezenet", "conv10"),
        ("mobilenet", "fc"),
        ("efficientnet-b0", "fc"),
    ],
)
def test_the_head_is_the_last_layer_with_weights(name: str, head: str) -> None:
    assert built(name)[1] == head


@pytest.mark.parametrize(
    "name", [*LAST_OF_EACH_FAMILY, *(pytest.param(name, marks=pytest.mark.slow) for name in FIRST_OF_EACH_FAMILY)]
)
def test_all_weights_are_taken_but_those_that_depend_on_the_classes(name: str, tmp_path: Path) -> None:
    source, head = built(name, num_classes=7)
    network, _ = built(name, num_classes=5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    file = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in source.state_dict().items()}, file)
    variant = ca.find(name)
    weights = open_weights(str(file), variant)
    assert weights.model is None
    Backbone.of(weights.tensors, variant, network.spec, str(file)).load_into(network)
    taken = source.state_dict()
    for key, value in network.state_dict().items():
        if key.startswith(f"{head}.") or taken[key].shape != value.shape:
            assert torch.equal(value, before[key]), key
        else:
            assert torch.equal(value, taken[key]), key


def test_the_head_is_new_for_the_same_number_of_classes_too(trained: Run) -> None:
    network = ca.create("resnet20-cifar", num_classes=10, in_channels=1, width=0.25, depth=0.3, resolution=28)
    fresh = network.fc.weight.clone()
    weights = open_weights(str(trained.folder), trained.variant)
    Backbone.of(weights.tensors, trained.variant, network.spec, "weights").load_into(network)
    assert torch.equal(network.fc.weight, fresh)
    assert torch.equal(network.conv1.conv.weight, trained.network.conv1.conv.weight)


@pytest.mark.parametrize("name", [*FIRST_OF_EACH_FAMILY, *LAST_OF_EACH_FAMILY])
def test_a_frozen_body_has_the_outputs_of_the_network(name: str) -> None:
    torch.manual_seed(0)
    network, head = built(name)
    network.eval()
    images = torch.randn(3, 1, 28, 28)
    seen: list[Tensor] = []
    with torch.no_grad(), network.get_submodule(head).register_forward_pre_hook(lambda _, x: seen.append(x[0])):
        expected = network(images)
    frozen = FrozenBackbone(network, head, images[:0]).train()
    outputs = frozen(seen[0])
    assert torch.allclose(outputs, expected, atol=1e-6)
    outputs.sum().backward()
    trained = {key for key, value in network.named_parameters() if value.grad is not None}
    assert trained == {key for key, _ in network.named_parameters() if key.startswith(f"{head}.")}


def test_features_are_the_heads_inputs_in_the_order_of_the_data_set(trained: Run) -> None:
    digits = trained.load_data().train.take(torch.arange(30).numpy())
    batches = data.Batches(
        digits, trained.card.preprocessing, num_classes=10, batch_size=8, device=torch.device("cpu"), seed=3
    )
    network = trained.network
    features = FeatureBatches.of(batches, network, "fc")
    with torch.no_grad():
        for shown, plain in zip(features.epoch(2), batches.epoch(2), strict=True):
            assert torch.equal(shown.indices, plain.indices)
            assert torch.allclose(network.fc(shown.inputs), network(plain.inputs), atol=1e-5)


@pytest.mark.parametrize("name", LAST_OF_EACH_FAMILY)
def test_every_parameter_is_in_one_layer_group_and_the_head_in_the_first(name: str) -> None:
    network, head = built(name)
    found = layer_groups(network, head)
    names = [key for group in found for key in group.parameters]
    assert sorted(names) == sorted(key for key, _ in network.named_parameters())
    assert any(key.startswith(f"{head}.") for key in found[0].parameters)
    for is_fitted, least in ((True, 0.3), (False, 0.1)):
        factors = [group.factor for group in learning_rates(found, is_fitted=is_fitted)]
        assert factors[0] == 1
        assert factors == sorted(factors, reverse=True)
        assert factors[-1] == pytest.approx(least)


def test_layer_groups_are_unfrozen_from_the_top_and_all_in_the_end() -> None:
    network, head = built("resnet18")
    found = layer_groups(network, head)
    num_trained = []
    for percent in range(0, 100, 2):
        unfreeze(found, percent / 100)
        flags = [group.is_trained for group in found]
        assert flags == sorted(flags, reverse=True)
        assert [group.module.training for group in found] == flags
        num_trained.append(sum(flags))
    assert num_trained[0] == 1
    assert num_trained == sorted(num_trained)
    assert num_trained[-1] == len(found)
    assert unfreeze(found, 0.0)
    assert not unfreeze(found, 0.05)


def test_with_freeze_the_body_is_bit_for_bit_the_same(trained: Run, tmp_path: Path) -> None:
    run = ca.train(
        "resnet20-cifar",
        scale=NARROW,
        epochs=2,
        init_from=InitFrom(path=str(trained.folder), freeze=True),
        out=tmp_path / "run",
    )
    before = trained.network.state_dict()
    changed = {key for key, value in run.network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"fc.weight", "fc.bias"}
    assert run.card.preprocessing.mean == trained.card.preprocessing.mean


def test_without_freeze_all_layers_are_trained_in_the_end(trained: Run, tmp_path: Path) -> None:
    said = Said()
    run = ca.train(
        "resnet20-cifar",
        scale=NARROW,
        epochs=10,
        batch_size=300,
        lr=1e-2,
        init_from=trained.folder,
        runtime=UNTUNED,
        out=tmp_path / "run",
        progress=said,
    )
    before, after = trained.network.state_dict(), run.network.state_dict()
    assert {key for key in after if not torch.equal(after[key], before[key])} == {
        key for key, _ in run.network.named_parameters()
    }
    # The best of all epochs on validation images, and of the head before them,
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    accuracies = [float(said.lines[-1].split()[-2]) / 100, *(row["val_accuracy"] for row in rows)]
    assert run.record.validation == Validation()
    assert run.results.best_epoch
    kept, best, num_held_out = accuracies[run.results.best_epoch], max(accuracies), 143
    assert kept > accuracies[0]
    # or a later one within its standard error.
    assert kept >= best - math.sqrt(best * (1 - best) / num_held_out)


def test_fine_tuning_that_makes_it_worse_keeps_the_head_alone(trained: Run, tmp_path: Path) -> None:
    run = ca.train(
        "resnet20-cifar",
        scale=NARROW,
        epochs=2,
        batch_size=300,
        lr=1.0,
        init_from=trained.folder,
        runtime=UNTUNED,
        out=tmp_path / "run",
    )
    assert run.results.best_epoch == 0
    before, after = trained.network.state_dict(), run.network.state_dict()
    assert {key for key in after if not torch.equal(after[key], before[key])} == {"fc.weight", "fc.bias"}
    assert ca.load(run.folder).card == run.card


class Said(Progress):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class StopAt(Progress):
    """Sends this process a signal after a number of steps."""

    def __init__(self, step: int) -> None:
        self.left = step

    def advance(self, num_images: int) -> None:
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGTERM)


# Steps of ten epochs of one: after the head is fitted, while layers are unfrozen, when all are trained.
@pytest.mark.parametrize("freeze", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("steps", [(2,), pytest.param(range(1, 11), marks=pytest.mark.slow)], ids=["one", "each"])
def test_a_fine_tuning_that_was_stopped_ends_in_the_same_weights(
    steps: Iterable[int], freeze: bool, trained: Run, tmp_path: Path
) -> None:
    arguments = {
        "scale": NARROW,
        "init_from": InitFrom(path=str(trained.folder), freeze=freeze),
        "epochs": 10,
        "batch_size": 2000,
        "lr": 1e-2,
        "runtime": UNTUNED,
    }
    whole = ca.train("resnet20-cifar", out=tmp_path / "whole", **arguments)
    for step in steps:
        with pytest.raises(Interrupted):
            ca.train("resnet20-cifar", out=tmp_path / f"{step}", progress=StopAt(step), **arguments)
        resumed = resume(tmp_path / f"{step}")
        assert resumed.card.weights_sha256 == whole.card.weights_sha256, step
        assert replace(resumed.results, seconds=0) == replace(whole.results, seconds=0), step


# Where the weights may lie


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of gray noise, whose mean and standard deviation are not those of the digits."""
    root = tmp_path_factory.mktemp("shades") / "shades"
    generator = np.random.default_rng(0)
    for name, brightness in (("dark", 90), ("light", 200)):
        (root / name).mkdir(parents=True)
        for i in range(10):
            noise = generator.normal(brightness, 20, (28, 28)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(root / name / f"{i}.png")
    return root


def as_run(run: Run, folder: Path) -> Path:
    return run.folder


def as_model_folder(run: Run, folder: Path) -> Path:
    path = run.model.save(folder / "model").path
    assert path == folder / "model"
    assert not (path / "run.json").exists()
    return path


def as_compressed_file(run: Run, folder: Path) -> Path:
    path = run.model.save(folder / "model.cva").path
    assert path == folder / "model.cva"
    assert path.is_file()
    return path


def as_weights(run: Run, folder: Path) -> Path:
    save_file(run.network.state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


FORMS = [as_run, as_model_folder, as_compressed_file, as_weights]


@pytest.mark.parametrize("freeze", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("save_as", FORMS)
def test_weights_come_from_a_run_a_model_folder_a_compressed_file_or_bare_weights(
    save_as: Callable[[Run, Path], Path], freeze: bool, trained: Run, shades: Path, tmp_path: Path
) -> None:
    path = save_as(trained, tmp_path)
    # One epoch of one step.
    run = ca.train(
        "resnet20-cifar",
        data=shades,
        epochs=1,
        batch_size=99,
        spec=trained.spec,
        init_from=InitFrom(path=str(path), freeze=freeze),
        runtime=UNTUNED,
        out=tmp_path / "run",
    )
    assert run.record.init_from == InitFrom(path=str(path.resolve()), freeze=freeze)
    assert run.spec == replace(trained.spec, num_classes=2)
    source, state = trained.network.state_dict(), run.network.state_dict()
    differs = {key for key, value in state.items() if not torch.equal(value, source[key])}
    assert {"fc.weight", "fc.bias"} <= differs
    assert not any(name.startswith(("conv1", "stages.0", "stages.1")) for name in differs)
    # With a model comes the preprocessing that its weights were trained with; bare weights know of none.
    own, theirs = run.card.preprocessing, trained.card.preprocessing
    assert ((own.mean, own.std) == (theirs.mean, theirs.std)) == (save_as is not as_weights)


@pytest.mark.slow
def test_the_form_of_the_weights_changes_nothing(trained: Run, tmp_path: Path) -> None:
    checksums = set()
    for save_as in FORMS[:-1]:
        (tmp_path / save_as.__name__).mkdir()
        run = ca.train(
            "resnet20-cifar",
            scale=NARROW,
            epochs=1,
            batch_size=500,
            init_from=save_as(trained, tmp_path / save_as.__name__),
            runtime=UNTUNED,
            out=tmp_path / save_as.__name__ / "run",
        )
        checksums.add(run.card.weights_sha256)
    assert len(checksums) == 1


def test_a_path_stands_for_a_new_head_on_unfrozen_weights(trained: Run, tmp_path: Path) -> None:
    for path in (trained.folder, str(trained.folder)):
        with pytest.raises(Interrupted) as stopped:
            ca.train(
                "resnet20-cifar",
                scale=NARROW,
                init_from=path,
                runtime=UNTUNED,
                out=tmp_path / type(path).__name__,
                progress=StopAt(1),
            )
        assert stopped.value.run.record.init_from == InitFrom(path=str(trained.folder.resolve()))


def test_a_trained_network_is_not_changed_by_training_from_it(trained: Run) -> None:
    assert weights_checksum(trained.network) == trained.card.weights_sha256


# What cannot work


def unfinished(trained: Run, folder: Path) -> Path:
    with pytest.raises(Interrupted):
        ca.train("resnet20-cifar", scale=NARROW, runtime=UNTUNED, out=folder / "unfinished", progress=StopAt(1))
    return folder / "unfinished"


def empty(trained: Run, folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def not_weights(name: str) -> Callable[[Run, Path], Path]:
    def write(trained: Run, folder: Path) -> Path:
        (folder / name).write_bytes(b"not weights")
        return folder / name

    return write


def missing(name: str) -> Callable[[Run, Path], Path]:
    return lambda trained, folder: folder / name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing("nowhere"), "there is no .*nowhere"),
        (missing("nowhere.cva"), r"there is no .*nowhere\.cva"),
        (missing("nowhere.safetensors"), r"there is no .*nowhere\.safetensors"),
        (not_weights("page.html"), "page.html is no file of weights; known are PyTorch"),
        (not_weights("page.cva"), "page.cva is damaged or no compressed model"),
        (not_weights("page.safetensors"), "page.safetensors is no file of weights; known are PyTorch"),
        (empty, "empty is not a run or model folder: it has no run.json and no model.json"),
        (unfinished, "is not finished; convatlas resume .* goes on with it"),
    ],
)
def test_a_path_without_weights_is_a_one_line_error(
    make: Callable[[Run, Path], Path], message: str, trained: Run, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        ca.train("resnet20-cifar", init_from=make(trained, tmp_path), out=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_another_networks_weights_are_refused_before_anything_is_written(trained: Run, tmp_path: Path) -> None:
    for name, width in (("resnet20-cifar", 0.5), ("resnet56-cifar", 0.25), ("lenet5-modern", 1.0)):
        with pytest.raises(UserError, match=r"does not fit|it is not of a"):
            ca.train(name, scale=Scale(width=width), init_from=trained.folder, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_run_whose_start_is_gone_cannot_be_resumed_and_says_so(trained: Run, tmp_path: Path) -> None:
    start = as_compressed_file(trained, tmp_path)
    with pytest.raises(Interrupted):
        ca.train(
            "resnet20-cifar",
            scale=NARROW,
            init_from=start,
            runtime=UNTUNED,
            out=tmp_path / "run",
            progress=StopAt(1),
        )
    start.unlink()
    with pytest.raises(UserError, match=r"there is no .*model\.cva"):
        resume(tmp_path / "run")
