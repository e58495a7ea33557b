import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.networks.lenet import LeNetSpec
from convatlas.spec import Family, Variant

FAMILY_FILE_LINES = 450

every_variant = pytest.mark.parametrize("variant", atlas.variants(), ids=lambda variant: variant.name)
every_family = pytest.mark.parametrize("family", atlas.families(), ids=lambda family: family.name)


def complaint(name: str, **sizes: float) -> str:
    """The one line that `create` says to sizes that cannot work."""
    with pytest.raises(UserError) as caught:
        ca.create(name, **sizes)  # type: ignore[arg-type]
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def said(pattern: str, message: str) -> float:
    """The number that the message names."""
    found = re.search(pattern, message)
    assert found, message
    return float(found[1])


def test_no_two_variants_share_a_name() -> None:
    names = [variant.name for variant in atlas.variants()]
    assert len(names) == len(set(names))


def test_families_come_oldest_first() -> None:
    years = [family.paper.year for family in atlas.families()]
    assert years == sorted(years)


def test_the_variants_are_those_of_the_families_in_turn() -> None:
    assert list(atlas.variants()) == [variant for family in atlas.families() for variant in family.variants]


@every_variant
def test_a_name_is_lower_case_and_needs_no_quotes_in_a_shell(variant: Variant) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*([-.][a-z0-9]+)*", variant.name)


@every_variant
def test_a_variant_names_its_paper_and_says_what_it_is_in_a_line(variant: Variant) -> None:
    paper = variant.paper
    assert 1980 < paper.year < 2030
    assert paper.url.startswith("https://")
    assert paper.authors
    assert paper.title
    assert paper.venue
    assert len(variant.summary.splitlines()) == 1


@every_family
def test_a_family_is_one_file_that_a_person_reads_in_one_go(family: Family) -> None:
    files = {sys.modules[variant.network.__module__].__file__ for variant in family.variants}
    assert len(files) == 1
    lines = Path(str(files.pop())).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= FAMILY_FILE_LINES


@every_variant
def test_every_variant_is_found_by_its_name(variant: Variant) -> None:
    assert atlas.find(variant.name) is variant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lenet6", "lenet5"),
        ("lenet-5", "lenet5"),
        ("lenet5modern", "lenet5-modern"),
        ("LENET5", "lenet5"),
        ("VGG16", "vgg16"),
        ("vgg-16", "vgg16"),
        ("vgg16bn", "vgg16-bn"),
        ("ResNet50", "resnet50"),
        ("resnet-50", "resnet50"),
        ("resnet50v1.5", "resnet50-v1.5"),
        ("mobilenet_v1", "mobilenet"),
        ("squeezenet1_1", "squeezenet1.1"),
        ("efficientnetb0", "efficientnet-b0"),
    ],
)
def test_an_unknown_name_is_a_one_line_error_with_near_names(typed: str, meant: str) -> None:
    for look_up in (atlas.find, ca.create):
        with pytest.raises(UserError, match=rf"did you mean {re.escape(meant)}\b") as caught:
            look_up(typed)
        assert isinstance(caught.value, ValueError)
        assert repr(typed) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


@every_variant
def test_without_arguments_the_spec_is_the_papers(variant: Variant) -> None:
    assert atlas.scale(variant) == variant.spec
    assert variant.spec.scaled() == variant.spec
    assert variant.spec.scaled(1, 1) == variant.spec
    assert variant.spec.scaled(1.0, 1.0, variant.spec.resolution) == variant.spec


@every_variant
def test_a_spec_is_a_constant_that_can_be_compared_and_looked_up(variant: Variant) -> None:
    spec = variant.spec
    same = replace(spec)  # type: ignore[type-var]
    assert same is not spec
    assert same == spec
    assert {spec: 1}[same] == 1
    assert replace(spec, num_classes=spec.num_classes + 1) != spec  # type: ignore[type-var]


@settings(max_examples=3)
@given(num_classes=st.integers(1, 1000), in_channels=st.integers(1, 12), more=st.integers(0, 100))
def test_a_scaled_spec_has_the_numbers_that_were_asked_for(
    scaling: Variant, num_classes: int, in_channels: int, more: int
) -> None:
    resolution = scaling.spec.smallest_resolution + more
    spec = atlas.scale(scaling, num_classes=num_classes, in_channels=in_channels, width=0.5, resolution=resolution)
    assert (spec.num_classes, spec.in_channels, spec.resolution) == (num_classes, in_channels, resolution)
    assert type(spec) is type(scaling.spec)


def test_phi_multiplies_with_the_others_before_anything_is_rounded(scaling: Variant) -> None:
    assert atlas.scale(scaling, phi=1.5) == scaling.spec.compound(1.5)
    expected = scaling.spec.scaled(width=0.5 * 1.1**1.5, depth=2 * 1.2**1.5, resolution=77)
    assert atlas.scale(scaling, phi=1.5, width=0.5, depth=2, resolution=77) == expected


def test_create_hands_every_size_on_to_the_network() -> None:
    network = ca.create("lenet5-modern", num_classes=7, in_channels=3, width=0.5, depth=2, resolution=40)
    expected = replace(
        atlas.find("lenet5-modern").spec.scaled(width=0.5, depth=2, resolution=40),  # type: ignore[type-var]
        num_classes=7,
        in_channels=3,
    )
    assert network.spec == expected
    assert network(torch.zeros(2, 3, 40, 40)).shape == (2, 7)


@every_variant
def test_every_variant_takes_images_from_28_pixels_up(variant: Variant) -> None:
    assert variant.spec.smallest_resolution <= 28


IMPOSSIBLE = (0, -1, -0.5, math.nan, math.inf, -math.inf, 1e9)


def test_an_impossible_width_is_a_one_line_error(scaling: Variant) -> None:
    for width in IMPOSSIBLE:
        assert f"width {width:g}" in complaint(scaling.name, width=width)


def test_an_impossible_depth_is_a_one_line_error(scaling: Variant) -> None:
    for depth in IMPOSSIBLE:
        assert f"depth {depth:g}" in complaint(scaling.name, depth=depth)


def test_an_impossible_resolution_is_a_one_line_error(scaling: Variant) -> None:
    for resolution in (0, -5, scaling.spec.smallest_resolution - 1, 10**9):
        assert f"{resolution} px" in complaint(scaling.name, resolution=resolution)


def test_an_impossible_phi_is_a_one_line_error(scaling: Variant) -> None:
    for phi in (math.nan, math.inf, -math.inf, 1e9, -1e9, 200, -200):
        complaint(scaling.name, phi=phi)
    assert "phi nan" in complaint(scaling.name, phi=math.nan)


def test_a_width_too_small_says_the_smallest_that_works_and_it_does(scaling: Variant) -> None:
    smallest = said(r"smallest width that works is ([\d.]+)", complaint(scaling.name, width=0))
    assert scaling.spec.scaled(width=smallest)
    # Said to a thousandth.
    complaint(scaling.name, width=smallest - 0.002)


def test_a_width_too_large_says_the_largest_that_works_and_it_does(scaling: Variant) -> None:
    if isinstance(scaling.spec, LeNetSpec):
        # At its largest width its connection tables, which grow with its square, would fill the memory.
        return
    largest = said(r"largest width that works is ([\d.]+)", complaint(scaling.name, width=1e9))
    assert scaling.spec.scaled(width=largest)
    complaint(scaling.name, width=largest * 1.01)


def test_a_depth_too_large_says_the_largest_that_works_and_it_does(scaling: Variant) -> None:
    largest = said(r"largest depth that works is ([\d.]+)", complaint(scaling.name, depth=1e9))
    assert scaling.spec.scaled(width=0.25, depth=largest)
    complaint(scaling.name, depth=largest * 1.01)


def test_a_resolution_too_small_or_large_says_the_nearest_that_works_and_it_does(scaling: Variant) -> None:
    smallest = int(said(r"smallest that works is (\d+) px", complaint(scaling.name, resolution=1)))
    largest = int(said(r"largest that works is (\d+) px", complaint(scaling.name, resolution=10**9)))
    complaint(scaling.name, resolution=smallest - 1)
    complaint(scaling.name, resolution=largest + 1)
    for resolution in (smallest, largest):
        assert scaling.spec.scaled(resolution=resolution).resolution == resolution


def test_no_classes_and_no_channels_are_one_line_errors(scaling: Variant) -> None:
    # Without classes a network has no head.
    assert "-3 classes" in complaint(scaling.name, num_classes=-3)
    for count in (0, -3):
        assert f"not {count}" in complaint(scaling.name, in_channels=count)
