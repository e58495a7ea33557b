"""Which published weights there are, and which in place of those that there are not."""

from __future__ import annotations

import pytest

from convatlas import atlas
from convatlas.spec import Scale
from convatlas.weights.libraries import LIBRARIES
from convatlas.weights.offers import defaults, in_place_of, none_published


def test_a_network_that_is_another_than_a_papers_says_whose_and_why() -> None:
    for library in LIBRARIES:
        for network in library.networks:
            assert bool(network.departs_from) == bool(network.why), network.name
            if network.departs_from:
                assert atlas.find(network.departs_from) != atlas.find(network.variant)


def test_the_default_of_each_library_has_the_width_that_is_asked_for() -> None:
    assert [row.name for row in defaults("mobilenet-tf", Scale(width=0.5))] == ["keras:mobilenet_0.50.224"]
    assert next(row.name for row in defaults("mobilenet-tf", None)) == "keras:mobilenet_1.00.224"
    assert defaults("resnet18", Scale(depth=2)) == []


@pytest.mark.parametrize(
    ("name", "variants"),
    [
        ("resnet101", ["resnet101-v1.5", "resnet101-keras", "resnet101-caffe"]),
        ("alexnet", ["alexnet-owt-256", "alexnet-caffe"]),
        ("squeezenet", ["squeezenet1.0-pytorch", "squeezenet1.0-caffe"]),
        ("efficientnet-b4", ["efficientnet-b4-pytorch", "efficientnet-b4-tf"]),
        ("mobilenet", ["mobilenet-relu6", "mobilenet-tf"]),
        ("resnet20-cifar", ["resnet20-cifar-b"]),
        ("lenet5", []),
    ],
)
def test_what_there_is_in_place_of_a_papers_network(name: str, variants: list[str]) -> None:
    assert [network.variant for _, network in in_place_of(name)] == variants


def test_of_another_width_there_is_what_has_it() -> None:
    found = in_place_of("mobilenet", Scale(width=1.25))
    assert [(library.name, network.name) for library, network in found] == [("timm", "mobilenetv1_125")]


def test_each_is_named_with_its_reason() -> None:
    assert none_published("squeezenet", in_place_of("squeezenet")) == (
        "nobody publishes weights of squeezenet; there are some of squeezenet1.0-pytorch (it has ReLU after its last "
        "convolution), squeezenet1.0-caffe (ReLU follows conv10, which is padded)"
    )
    assert none_published("lenet5", in_place_of("lenet5")) == "nobody publishes weights of lenet5"
