"""Training that starts from other libraries' weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import convatlas as ca
from convatlas import atlas
from convatlas.data import Dataset
from convatlas.errors import UserError
from convatlas.models.card import Imported, StartedFrom
from convatlas.models.imported import import_checkpoint
from convatlas.models.model import Model
from convatlas.runs.options import InitFrom, Runtime
from convatlas.runs.run import Run
from convatlas.spec import Scale
from convatlas.training import Progress, Request, resume
from convatlas.training.distribution import Processes
from convatlas.training.plan import plan
from convatlas.training.start import Start, full_name, notes_on_published, open_weights
from convatlas.weights.cifar import CHENYAOFO
from convatlas.weights.timm import TIMM

UNTUNED = Runtime(autotune=False)
VARIANT = atlas.find("resnet20-cifar-b")


@pytest.fixture
def photographs(tmp_path: Path) -> Callable[[str], Path]:
    """`photographs("RGB")` is a folder of two classes in color, `photographs("L")` in gray."""

    def make(mode: str) -> Path:
        rng = np.random.default_rng(0)
        for name in ("bright", "dark"):
            folder = tmp_path / mode / name
            folder.mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(0, 128, (32, 32, 3), dtype=np.uint8) + (127 if name == "bright" else 0)
                Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(folder / f"{i}.png")
        return tmp_path / mode

    return make


def test_a_new_head_learns_on_another_librarys_weights(
    checkpoint: Path, photographs: Callable[[str], Path], tmp_path: Path
) -> None:
    run = ca.train(
        VARIANT.name,
        photographs("RGB"),
        epochs=2,
        batch_size=4,
        init_from=InitFrom(path=str(checkpoint), freeze=True),
        runtime=UNTUNED,
        out=tmp_path / "run",
    )
    # As chenyaofo prepares CIFAR-10.
    assert run.card.preprocessing.mean == (0.4914, 0.4822, 0.4465)
    assert run.record.init_from == InitFrom(path=str(checkpoint), freeze=True)
    theirs = open_weights(str(checkpoint), VARIANT).tensors
    own = run.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in own.items() if not name.startswith("fc."))
    assert run.card.classes == ("bright", "dark")
    # What was made without training is not said of it.
    assert run.card.provenance.method == "trained"
    assert run.card.provenance.imported is None
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert run.card.provenance.started_from == StartedFrom(weights="", sha256=sha256)
    assert resume(run.folder).card == run.card


def test_a_bare_module_takes_them_and_says_what_is_not_taken(checkpoint: Path) -> None:
    with pytest.warns(UserWarning, match="resnet20-cifar-b: the head is new, for 7 classes"):
        network = ca.create(VARIANT.name, weights=checkpoint, num_classes=7)
    theirs = open_weights(str(checkpoint), VARIANT).tensors
    own = network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in own.items() if not name.startswith("fc."))
    assert ca.create(VARIANT.name, weights=checkpoint, num_classes=0)(torch.rand(2, 3, 32, 32)).shape == (2, 64)
    # With its own classes nothing is left out, and nothing said.
    assert torch.equal(ca.create(VARIANT.name, weights=checkpoint).state_dict()["fc.weight"], theirs["fc.weight"])


@pytest.mark.filterwarnings("error")
def test_a_bare_module_has_as_many_classes_as_its_weights(tmp_path: Path) -> None:
    names, num_classes = CHENYAOFO.names(VARIANT.spec), 100
    assert num_classes != VARIANT.spec.num_classes
    own = VARIANT.network(replace(VARIANT.spec, num_classes=num_classes)).state_dict()
    torch.save({place[0]: own[name] for name in own if (place := names.there(name)) is not None}, tmp_path / "own.pth")
    network = ca.create(VARIANT.name, weights=tmp_path / "own.pth")
    assert network.spec.num_classes == num_classes
    assert torch.equal(network.state_dict()["fc.weight"], own["fc.weight"])


def test_another_librarys_safetensors_with_a_head_called_like_ours_are_theirs(tmp_path: Path) -> None:
    variant = atlas.find("resnet18")
    own, names = variant.network(variant.spec).state_dict(), TIMM.names(variant.spec)
    theirs = {place[0]: own[name] for name in own if (place := names.there(name)) is not None}
    assert "fc.weight" in theirs.keys() & own.keys()
    save_file(theirs, tmp_path / "model.safetensors")
    taken = open_weights(str(tmp_path / "model.safetensors"), variant)
    assert taken.model is not None
    assert torch.equal(taken.tensors["stages.3.1.layers.1.conv.weight"], own["stages.3.1.layers.1.conv.weight"])


@pytest.mark.parametrize("scale", [Scale(depth=0.34), Scale(depth=3.0)])
def test_a_bare_file_of_another_depth_is_ours(scale: Scale, tmp_path: Path) -> None:
    tensors = VARIANT.network(VARIANT.spec.at(scale)).state_dict()
    save_file(tensors, tmp_path / "weights.safetensors")
    taken = open_weights(str(tmp_path / "weights.safetensors"), VARIANT)
    assert taken.model is None
    assert taken.tensors.keys() == tensors.keys()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (torch.full((10,), torch.nan), "is no trained network: fc.bias holds numbers that are infinite or none"),
        (torch.zeros(10, dtype=torch.int32), "holds fc.bias as int32; weights are float32"),
    ],
)
def test_a_bare_file_of_ours_is_checked_as_others_are(wrong: torch.Tensor, said: str, tmp_path: Path) -> None:
    save_file(VARIANT.network(VARIANT.spec).state_dict() | {"fc.bias": wrong}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=said):
        open_weights(str(tmp_path / "weights.safetensors"), VARIANT)


def test_gray_photographs_train_from_weights_for_color(
    checkpoint: Path, photographs: Callable[[str], Path], tmp_path: Path
) -> None:
    class Noted(Progress):
        def begin(self, run: Run, images: Dataset, num_steps: int, step: int) -> None:
            self.notes = images.notes

    noted = Noted()
    run = ca.train(
        VARIANT.name,
        photographs("L"),
        epochs=1,
        batch_size=4,
        init_from=checkpoint,
        runtime=UNTUNED,
        out=tmp_path / "run",
        progress=noted,
    )
    assert run.spec.in_channels == 1
    assert noted.notes == (
        "preprocessing is taken to be that of chenyaofo:cifar10_resnet20",
        "the first filters are summed over the colors, for gray images", "the head is new, for 2 classes",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("where", "network", "width", "expected"),
    [
        ("torchvision", "resnet18", 1.0, "torchvision:resnet18"),
        ("torchvision", "resnet50-v1.5", 1.0, "torchvision:resnet50.v2"),
        ("keras", "mobilenet-tf", 0.5, "keras:mobilenet_0.50.224"),
        ("torchvision:resnet50.v1", "resnet50-v1.5", 1.0, "torchvision:resnet50.v1"),
        ("hf:owner/name@v1", "resnet18", 1.0, "hf:owner/name@v1"),
    ],
)
def test_a_library_alone_stands_for_its_default(where: str, network: str, width: float, expected: str) -> None:
    assert full_name(where, atlas.find(network), Scale(width=width)) == expected


@pytest.mark.parametrize(
    ("where", "network", "width", "said"),
    [
        ("torchvision", "lenet5", 1.0, "torchvision has no weights of lenet5"),
        (
            "torchvision",
            "resnet50",
            1.0,
            "torchvision has no weights of resnet50; its resnet50 is resnet50-v1.5, for it has the stride of a "
            "bottleneck in its 3x3 convolution",
        ),
        (
            "torchvision",
            "resnet50-keras",
            1.0,
            "torchvision has no weights of resnet50-keras; there are keras:resnet50",
        ),
        (
            "keras",
            "mobilenet-tf",
            0.6,
            "keras has weights of mobilenet-tf with `width` 1 or 0.75 or 0.5 or 0.25, not 0.6",
        ),
        ("torchvision", "resnet18", 0.5, "torchvision has weights of resnet18 with `width` 1, not 0.5"),
        (
            "keras",
            "mobilenet",
            0.5,
            "keras has no weights of mobilenet; its mobilenet_0.50 is mobilenet-tf, for it has ReLU6, TensorFlow's "
            "padding, and 1e-3 as the epsilon of its normalization",
        ),
        (
            "keras",
            "efficientnet-b0",
            1.0,
            "keras has no weights of efficientnet-b0; its efficientnetb0 is efficientnet-b0-tf, for it has "
            "TensorFlow's padding",
        ),
    ],
)
def test_a_library_without_such_weights_is_said(where: str, network: str, width: float, said: str) -> None:
    with pytest.raises(UserError) as caught:
        full_name(where, atlas.find(network), Scale(width=width))
    assert str(caught.value) == said


def test_who_trains_on_photographs_from_nothing_is_told_of_published_weights(
    photographs: Callable[[str], Path],
) -> None:
    planned = plan(Request(network="squeezenet1.1", data=str(photographs("RGB"))), Processes())
    (told,) = [note for note in planned.dataset.notes if "published weights" in note]
    assert told.startswith(
        "there are published weights of it: torchvision:squeezenet1_1 (58.2 % on ImageNet-1k), caffe:"
    )
    assert told.endswith("; start from them with --from torchvision")


def test_whose_network_nobody_publishes_is_told_of_those_in_its_place(photographs: Callable[[str], Path]) -> None:
    planned = plan(Request(network="squeezenet", data=str(photographs("RGB"))), Processes())
    told = (
        "nobody publishes weights of squeezenet; there are some of squeezenet1.0-pytorch (it has ReLU after its last "
    )
    (note,) = [note for note in planned.dataset.notes if note.startswith(told)]
    assert note.endswith("; to start from those train squeezenet1.0-pytorch with --from torchvision")
    assert notes_on_published(atlas.find("squeezenet"), Scale(width=0.5)) == ()
    # Caffe's has another width.
    (note,) = notes_on_published(atlas.find("mobilenet"), Scale(width=0.5))
    assert note.startswith(
        "nobody publishes weights of mobilenet at this width and depth; there are some of mobilenet-tf"
    )


@pytest.mark.parametrize(
    ("network", "mode", "width"),
    [("lenet5-modern", "RGB", 1.0), ("squeezenet1.1", "L", 1.0), ("squeezenet1.1", "RGB", 0.5)],
)
def test_where_there_are_none_nothing_is_said(
    network: str, mode: str, width: float, photographs: Callable[[str], Path]
) -> None:
    planned = plan(Request(network=network, data=str(photographs(mode)), scale=Scale(width=width)), Processes())
    assert not [note for note in planned.dataset.notes if "published weights" in note]


def test_published_weights_of_another_network_are_refused_before_anything_is_downloaded(
    photographs: Callable[[str], Path],
) -> None:
    images = photographs("RGB")
    with pytest.raises(UserError, match=r"torchvision:resnet50\.v1 is resnet50-v1\.5, and not resnet50"):
        ca.train("resnet50", images, init_from="torchvision:resnet50.v1")
    with pytest.raises(UserError, match=r"^keras:mobilenet_0\.50\.224 is mobilenet-tf with `width` 0\.5, not 1$"):
        ca.train("mobilenet-tf", images, init_from="keras:mobilenet_0.50.224")


def test_a_spec_of_ones_own_has_weights_of_its_width() -> None:
    variant = atlas.find("mobilenet-tf")
    assert full_name("keras:mobilenet_0.50.224", variant, None) == "keras:mobilenet_0.50.224"
    assert full_name("keras", variant, None) == "keras:mobilenet_1.00.224"


def test_weights_that_are_no_numbers_are_refused_before_there_is_a_run(
    checkpoint: Path, photographs: Callable[[str], Path], tmp_path: Path
) -> None:
    tensors = torch.load(checkpoint, weights_only=True)
    name = next(iter(tensors))
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    torch.save(tensors, tmp_path / "nan.pt")
    import_checkpoint(tmp_path / "nan.pt", VARIANT.name, allow_nan=True).model.save(tmp_path / "nan")
    with pytest.raises(UserError) as caught:
        ca.train(VARIANT.name, photographs("RGB"), init_from=tmp_path / "nan", out=tmp_path / "run")
    assert str(caught.value) == (
        f"{tmp_path / 'nan'} cannot be trained on: its conv1.conv.weight holds numbers that are infinite or none (NaN)"
    )
    assert not (tmp_path / "run").exists()


def test_what_training_started_from_is_known_by_way_of_models_in_between(
    checkpoint: Path, photographs: Callable[[str], Path], tmp_path: Path
) -> None:
    own = import_checkpoint(checkpoint, VARIANT.name).model
    imported = Imported(weights="chenyaofo:cifar10_resnet20", sha256="ab" * 32, top1=0.9, license="BSD-3-Clause")
    card = replace(own.card, provenance=replace(own.provenance, imported=imported))
    Model(card, load_network=own.load_network).save(tmp_path / "published")
    expected = StartedFrom(weights=imported.weights, sha256=imported.sha256, license=imported.license)
    for before, out in (("published", "first"), ("first", "second")):
        run = ca.train(
            VARIANT.name,
            photographs("RGB") if out == "first" else tmp_path / "RGB",
            epochs=1,
            batch_size=4,
            init_from=InitFrom(path=str(tmp_path / before), freeze=True),
            runtime=UNTUNED,
            out=tmp_path / out,
        )
        assert run.card.provenance.started_from == expected
    page = (run.model.save(tmp_path / "model").path or tmp_path) / "README.md"
    assert 'license: "bsd-3-clause"' in page.read_text()
    # One from the hub is that model's, under the license of what it started from in turn.
    weights = open_weights(str(run.folder), VARIANT)
    start = Start(InitFrom(path="hf:owner/name"), weights)
    assert start.origin == StartedFrom(
        weights="hf:owner/name", sha256=run.card.weights_sha256 or "", license="BSD-3-Clause"
    )
    # What began here started from nobody's.
    scratch = replace(run.model.card, provenance=replace(run.card.provenance, started_from=None))
    plain = replace(weights, model=Model(scratch, load_network=own.load_network))
    assert Start(InitFrom(path=str(run.folder)), plain).origin is None


def test_a_name_of_the_hub_is_no_path(photographs: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match=r"^hf:one is not the name of a model; it must be hf:OWNER/NAME"):
        ca.train(VARIANT.name, photographs("RGB"), init_from="hf:one")
