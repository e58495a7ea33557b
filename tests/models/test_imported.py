"""Models of other libraries' weights: with preprocessing and classes, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.models.card import Imported
from convatlas.models.hub import readme_of
from convatlas.models.imported import import_checkpoint
from convatlas.models.model import Model
from convatlas.weights.classes import class_names, wordnet_ids
from convatlas.weights.libraries import LIBRARIES
from convatlas.weights.published import find_published
from convatlas.weights.taking import network_of, published_for

Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """`written("torchvision", "squeezenet1_1", num_classes=7)` is a checkpoint of random weights, named as theirs."""

    def write(library: str, network: str, **changes: int) -> Path:
        (source,) = (one for one in LIBRARIES if one.name == library)
        (theirs,) = (one for one in source.networks if one.name == network)
        variant = atlas.find(theirs.variant)
        spec = replace(variant.spec, **changes)  # type: ignore[type-var]
        names = source.names(spec)
        torch.manual_seed(0)
        tensors = {}
        for name, tensor in variant.network(spec).state_dict().items():
            place = names.there(name)
            if place is not None and not name.endswith("num_batches_tracked"):
                tensors[place[0]] = tensor
        torch.save(tensors, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return write


def test_an_imported_model_predicts_and_is_kept_as_a_folder(written: Written, tmp_path: Path) -> None:
    imported = import_checkpoint(written("torchvision", "squeezenet1_1"), "squeezenet1.1")
    assert imported.notes == (
        "preprocessing is taken to be that of torchvision:squeezenet1_1",
        "classes are taken to be those of ImageNet-1k",
    )
    model = imported.model.save(tmp_path / "model")
    assert model.classes == class_names("ImageNet-1k")
    assert (model.preprocessing.resize, model.preprocessing.crop) == (256, 224)
    assert model.preprocessing.mean == (0.485, 0.456, 0.406)
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    opened = ca.load(tmp_path / "model")
    assert isinstance(opened, Model)
    assert opened.predict(image) == imported.model.predict(image)


@pytest.mark.parametrize("name", ["squeezenet1.1", "torchvision:squeezenet1_1"])
@pytest.mark.parametrize("num_classes", [1000, 3])
def test_weights_that_nobody_published_are_nobodys(name: str, num_classes: int, written: Written) -> None:
    path = written("torchvision", "squeezenet1_1", num_classes=num_classes)
    model = import_checkpoint(path, name).model
    assert model.provenance.data == "unknown images"
    assert model.provenance.imported == Imported(weights="", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    page = readme_of(model.card).decode()
    assert "torchvision" not in page
    assert "license" not in page
    assert "ImageNet" not in page


@pytest.mark.parametrize("name", ["resnet20-cifar", "akamaster:resnet20"])
def test_a_published_file_is_whose_it_is_by_any_name(name: str, needs_data: Callable[[str], Path]) -> None:
    imported = import_checkpoint(needs_data("weights") / "resnet20-cifar" / "resnet20-12fca82f.th", name)
    assert imported.notes == ()
    provenance = imported.model.provenance
    assert provenance.data == "CIFAR-10"
    assert provenance.imported is not None
    assert replace(provenance.imported, sha256="") == Imported(
        weights="akamaster:resnet20", sha256="", top1=0.9173, license="BSD-2-Clause"
    )
    assert "| weights | of akamaster:resnet20 |" in readme_of(imported.model.card).decode()


def test_where_nobody_publishes_a_checksum_their_name_is_believed(written: Written) -> None:
    name = "timm:mobilenetv1_100.ra4_e3600_r224_in1k"
    assert find_published(name).checksum is None
    path = written("timm", "mobilenetv1_100")
    for called, whose in ((name, name), ("mobilenet-relu6", "")):
        origin = import_checkpoint(path, called).model.provenance.imported
        assert origin is not None
        assert origin.weights == whose
    # Other classes are not theirs.
    origin = import_checkpoint(written("timm", "mobilenetv1_100", num_classes=3), name).model.provenance.imported
    assert origin is not None
    assert origin.weights == ""


def test_the_name_of_published_weights_decides_the_preprocessing(written: Written) -> None:
    imported = import_checkpoint(written("torchvision", "resnet18"), "timm:resnet18.a1_in1k")
    assert imported.notes_on_weights == ("preprocessing is taken to be that of timm:resnet18.a1_in1k",)
    assert imported.model.preprocessing.crop == imported.model.spec.resolution == 288


def test_what_only_training_has_begins_the_same_each_time_and_is_named(written: Written) -> None:
    path = written("torchvision", "googlenet")
    tensors = torch.load(path, weights_only=True)
    torch.save({name: tensor for name, tensor in tensors.items() if not name.startswith("aux")}, path)
    first, second = (import_checkpoint(path, "torchvision:googlenet") for _ in range(2))
    assert first.notes_on_weights == (
        "preprocessing is taken to be that of torchvision:googlenet",
        "not taken is what only training has, and begins anew: auxiliary_4a, auxiliary_4d",
    )
    one, other = (imported.model.network.state_dict() for imported in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("library", "network", "name", "said"),
    [
        ("torchvision", "resnet18", "resnet34", "torchvision's resnet18, which is not resnet34 but resnet18"),
        pytest.param(
            "chenyaofo",
            "cifar10_resnet20",
            "resnet20-cifar",
            "chenyaofo's cifar10_resnet20, which is not resnet20-cifar but resnet20-cifar-b",
            marks=pytest.mark.slow,
        ),
        (
            "torchvision",
            "squeezenet1_1",
            "lenet5",
            "torchvision's squeezenet1_1, which is not lenet5 but squeezenet1.1",
        ),
        (
            "torchvision",
            "squeezenet1_1",
            "squeezenet1.2",
            "there is no network 'squeezenet1.2'; did you mean squeezenet1.1",
        ),
        (
            "torchvision",
            "squeezenet1_1",
            "torchvision:resnet18",
            "weights.pth has the weights of torchvision's squeezenet1_1, which is squeezenet1.1 here, and not of "
            "torchvision:resnet18; call it torchvision:squeezenet1_1",
        ),
        ("torchvision", "squeezenet1_1", "torchvision:resnet19", "did you mean torchvision:resnet18"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(
    library: str, network: str, name: str, said: str, written: Written
) -> None:
    with pytest.raises(UserError) as caught:
        import_checkpoint(written(library, network), name)
    assert said in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "right"), [("resnet50", "resnet50-v1.5"), ("resnet50-keras", "resnet50-v1.5")])
def test_the_stride_of_a_resnet_is_not_mistaken(name: str, right: str, written: Written) -> None:
    with pytest.raises(UserError, match=rf"is not {name} but {right}: it has the stride of a bottleneck"):
        import_checkpoint(written("torchvision", "resnet50"), name)


def test_other_classes_are_numbered_or_named(written: Written) -> None:
    path = written("torchvision", "squeezenet1_1", num_classes=3)
    imported = import_checkpoint(path, "squeezenet1.1")
    assert imported.model.classes == ("0", "1", "2")
    assert imported.notes[-1] == "the names of its 3 classes are not known, so they are numbered"
    assert import_checkpoint(path, "squeezenet1.1", classes=["a", "b", "c"]).model.classes == ("a", "b", "c")
    with pytest.raises(UserError, match="has 3 classes, and 2 are named"):
        import_checkpoint(path, "squeezenet1.1", classes=["a", "b"])
    with pytest.raises(UserError, match="two classes are called b; give each a name of its own"):
        import_checkpoint(path, "squeezenet1.1", classes=["a", "b", "b"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four images of two classes of ImageNet, one by its WordNet id and one by its name."""
    rng = np.random.default_rng(0)
    for folder in (wordnet_ids()[7], class_names("ImageNet-1k")[3]):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{i}.png")
    return tmp_path / "photos"


def test_all_of_a_folder_is_tested_by_names_and_wordnet_ids(photos: Path, written: Written) -> None:
    model = import_checkpoint(written("torchvision", "squeezenet1_1"), "squeezenet1.1").model
    evaluation = model.evaluate(photos)
    assert evaluation.num_images == 4
    assert sorted(evaluation.confusion.sum(1).nonzero().flatten().tolist()) == [3, 7]
    for path, prediction in zip(sorted(photos.rglob("*.png")), evaluation.predictions, strict=True):
        assert model.classes[int(prediction)] == model.predict(path).classes[0]


def test_images_without_classes_of_the_model_are_refused(photos: Path, written: Written) -> None:
    model = import_checkpoint(written("torchvision", "squeezenet1_1"), "squeezenet1.1").model
    (photos / "my cat").mkdir()
    Image.new("RGB", (40, 40)).save(photos / "my cat" / "1.png")
    with pytest.raises(UserError, match=r"the class my cat of .*photos is none of the 1000 of squeezenet1.1; call"):
        model.evaluate(photos)
    with pytest.raises(UserError, match="was imported, and its images are not known; name labeled ones"):
        model.evaluate()


@pytest.mark.at_once("name", [variant.name for variant in ca.variants()])
def test_what_is_published_of_a_network_is_of_it(name: str) -> None:
    assert all(network_of(row).variant == name for row in published_for(name))
