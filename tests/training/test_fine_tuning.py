"""Fine-tuning: what of trained weights is taken, what learns when, and that a frozen body's answers are its own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import convatlas as ca
from convatlas import data
from convatlas.errors import UserError
from convatlas.runs.run import Run
from convatlas.training import fine_tuning
from convatlas.training.fine_tuning import Body, FeatureBatches, FrozenBody, rates, unfreeze, units
from convatlas.training.loop import resume

SMALL = {"width": 0.25, "depth": 0.1, "resolution": 28}
FIRST_OF_EACH_FAMILY = [family.variants[0].name for family in ca.families()]
LAST_OF_EACH_FAMILY = [family.variants[-1].name for family in ca.families()]


def built(name: str, num_classes: int = 5) -> tuple[nn.Module, str]:
    network = ca.create(name, num_classes=num_classes, in_channels=1, **SMALL)
    return network, fine_tuning.head_of(ca.find(name), network.spec)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """resnet20-cifar, narrow, after one epoch of digits."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return ca.train("resnet20-cifar", width=0.25, depth=0.3, epochs=1, autotune=False, out=folder)


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


@pytest.mark.parametrize("name", [*FIRST_OF_EACH_FAMILY, *LAST_OF_EACH_FAMILY])
def test_all_but_what_depends_on_the_classes_is_taken(name: str, tmp_path: Path) -> None:
    source, head = built(name, num_classes=7)
    network, _ = built(name, num_classes=5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    file = tmp_path / "weights.safetensors"
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in source.state_dict().items()}, file)
    Body.of(str(file), ca.find(name), network.spec).put_into(network)
    taken = source.state_dict()
    for key, value in network.state_dict().items():
        if key.startswith(f"{head}.") or taken[key].shape != value.shape:
            assert torch.equal(value, before[key]), key
        else:
            assert torch.equal(value, taken[key]), key


def test_the_head_begins_anew_for_as_many_classes_too(trained: Run) -> None:
    network = ca.create("resnet20-cifar", num_classes=10, in_channels=1, width=0.25, depth=0.3, resolution=28)
    fresh = network.fc.weight.clone()
    Body.of(str(trained.folder), trained.variant, network.spec).put_into(network)
    assert torch.equal(network.fc.weight, fresh)
    assert torch.equal(network.conv1.conv.weight, trained.network.conv1.conv.weight)


@pytest.mark.parametrize("name", [*FIRST_OF_EACH_FAMILY, *LAST_OF_EACH_FAMILY])
def test_a_frozen_body_answers_as_the_network_does(name: str) -> None:
    torch.manual_seed(0)
    network, head = built(name)
    network.eval()
    images = torch.randn(3, 1, 28, 28)
    seen: list[Tensor] = []
    with torch.no_grad(), network.get_submodule(head).register_forward_pre_hook(lambda _, x: seen.append(x[0])):
        expected = network(images)
    frozen = FrozenBody(network, head, images[:0]).train()
    answered = frozen(seen[0])
    assert torch.allclose(answered, expected, atol=1e-6)
    answered.sum().backward()
    learns = {key for key, value in network.named_parameters() if value.grad is not None}
    assert learns == {key for key, _ in network.named_parameters() if key.startswith(f"{head}.")}


def test_features_are_the_heads_inputs_in_the_order_of_the_set(trained: Run) -> None:
    digits = trained.load_data().train.take(torch.arange(30).numpy())
    batches = data.Batches(
        digits, trained.record.preprocessing, num_classes=10, batch_size=8, device=torch.device("cpu"), seed=3
    )
    network = trained.network
    features = FeatureBatches.of(batches, network, "fc")
    with torch.no_grad():
        for shown, plain in zip(features.epoch(2), batches.epoch(2), strict=True):
            assert torch.equal(shown.indices, plain.indices)
            assert torch.allclose(network.fc(shown.inputs), network(plain.inputs), atol=1e-5)


@pytest.mark.parametrize("name", LAST_OF_EACH_FAMILY)
def test_every_parameter_is_in_one_unit_and_the_head_in_the_first(name: str) -> None:
    network, head = built(name)
    found = units(network, head)
    names = [key for unit in found for key in unit.parameters]
    assert sorted(names) == sorted(key for key, _ in network.named_parameters())
    assert any(key.startswith(f"{head}.") for key in found[0].parameters)
    factors = [group.factor for group in rates(found)]
    assert factors[0] == 1
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(fine_tuning.LOWEST)


def test_units_are_thawed_from_the_top_and_all_in_the_end() -> None:
    network, head = built("resnet18")
    found = units(network, head)
    learning = []
    for percent in range(0, 100, 2):
        unfreeze(found, percent / 100)
        flags = [unit.learns for unit in found]
        assert flags == sorted(flags, reverse=True)
        assert [unit.module.training for unit in found] == flags
        learning.append(sum(flags))
    assert learning[0] == 1
    assert learning == sorted(learning)
    assert learning[-1] == len(found)
    assert unfreeze(found, 0.0)
    assert not unfreeze(found, 0.05)


def test_with_freeze_the_body_stays_to_the_bit(trained: Run, tmp_path: Path) -> None:
    run = ca.train(
        "resnet20-cifar", width=0.25, depth=0.3, epochs=2, start=trained.folder, freeze=True, out=tmp_path / "run"
    )
    before = trained.network.state_dict()
    changed = {key for key, value in run.network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"fc.weight", "fc.bias"}
    assert run.record.preprocessing.mean == trained.record.preprocessing.mean


def test_without_freeze_the_head_learns_first_and_in_the_end_all(trained: Run, tmp_path: Path) -> None:
    arguments = {"width": 0.25, "depth": 0.3, "start": trained.folder, "autotune": False}
    run = ca.train("resnet20-cifar", epochs=10, batch_size=500, out=tmp_path / "run", **arguments)
    before = trained.network.state_dict()
    changed = {
        key for key, _ in run.network.named_parameters() if not torch.equal(run.network.state_dict()[key], before[key])
    }
    assert changed == {key for key, _ in run.network.named_parameters()}


def test_a_fine_tuning_that_was_stopped_ends_in_the_same_weights(trained: Run, tmp_path: Path) -> None:
    from convatlas.training import Interrupted, Progress

    class StopAt(Progress):
        def __init__(self, step: int) -> None:
            self.left = step

        def advance(self, num_images: int) -> None:
            import os
            import signal

            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGTERM)

    arguments = {
        "width": 0.25,
        "depth": 0.3,
        "start": trained.folder,
        "epochs": 6,
        "batch_size": 500,
        "autotune": False,
    }
    for freeze in (False, True):
        whole = ca.train("resnet20-cifar", out=tmp_path / f"whole{freeze}", freeze=freeze, **arguments)
        folder = tmp_path / f"stopped{freeze}"
        with pytest.raises(Interrupted):
            ca.train("resnet20-cifar", out=folder, freeze=freeze, progress=StopAt(5), **arguments)
        assert resume(folder).results.weights_sha256 == whole.results.weights_sha256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"freeze": True}, "--freeze trains the head alone, on a trained body"),
        ({"start": "no/such/run"}, "there is no .*no/such/run; --from takes a run folder or a file of weights"),
        ({"start": __file__}, "is no file of weights"),
    ],
)
def test_a_mistake_is_one_line(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as mistake:
        ca.train("resnet20-cifar", out=tmp_path / "run", **arguments)
    assert "\n" not in str(mistake.value)
    assert not (tmp_path / "run").exists()


def test_another_networks_weights_are_refused_before_anything_is_written(trained: Run, tmp_path: Path) -> None:
    for name, width in (("resnet20-cifar", 0.5), ("resnet56-cifar", 0.25), ("lenet5-modern", 1.0)):
        with pytest.raises(UserError, match=r"does not fit|it is no"):
            ca.train(name, width=width, start=trained.folder, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
