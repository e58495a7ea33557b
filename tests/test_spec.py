import math
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.errors import UserError
from convatlas.spec import Claim, ClaimVerdict, Layer, Layers, Scale, Spec, top_accuracies, top_errors


@dataclass(frozen=True, kw_only=True)
class Chain(Spec):
    """A spec of nothing but its scale."""

    width: float = 1.0
    depth: float = 1.0

    small_limits: ClassVar = (50, 40)

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> "Chain":
        resolution = self.resolution if resolution is None else resolution
        return replace(self, width=self.width * width, depth=self.depth * depth, resolution=resolution)


def layer(name: str, *, kind: str = "Linear", params: int = 0, macs: int = 0) -> Layer:
    return Layer(
        name=name,
        kind=kind,
        output_shape=(1,),
        params=params,
        macs=macs,
        activation_bytes=4,
        receptive_field=1,
        stride=1,
    )


@pytest.mark.parametrize(
    ("printed", "value", "last_digit"),
    [
        ("60,000", 60000, 1),
        ("340,908", 340908, 1),
        ("0.95 %", 0.95, 0.01),
        ("5.0 %", 5.0, 0.1),
        ("2.6 thousand", 2600, 100),
        ("17 thousand", 17000, 1000),
        ("4.2 million", 4200000, 100000),
        ("1.8 billion", 1800000000, 100000000),
        ("2.7 K", 2764.8, 102.4),
        ("4.8 MB", 5033164.8, 104857.6),
        ("363 times", 363, 1),
    ],
)
def test_a_claim_is_worth_what_is_printed_and_as_precise_as_its_last_digit(
    printed: str, value: float, last_digit: float
) -> None:
    claim = Claim("figure", printed, "section 1")
    assert math.isclose(claim.value, value, rel_tol=1e-12)
    assert math.isclose(claim.last_digit, last_digit, rel_tol=1e-12)


def test_the_verdicts_bear_the_words_that_people_read() -> None:
    assert [str(verdict) for verdict in ClaimVerdict] == [
        "holds",
        "erratum",
        "not reproduced by our reading",
        "not tested here",
        "disagrees",
    ]


def test_a_layer_table_adds_up_its_rows() -> None:
    table = Layers((layer("a", params=3, macs=50), layer("b", params=4, macs=7)))
    assert (table.params, table.macs) == (7, 57)
    assert [row.name for row in table] == ["a", "b"]
    assert table["b"].params == 4


def test_a_layer_table_gives_its_parts_and_its_kinds() -> None:
    rows = (
        layer("stages.1.conv", kind="Conv2d", params=1),
        layer("stages.10.conv", kind="Conv2d", params=2),
        layer("stages.1.0.norm", kind="BatchNorm2d", params=4),
        layer("fc", params=8),
    )
    table = Layers(rows, training_only_params=100)
    assert table.part("stages.1").params == 1 + 4
    assert table.part("stages").params == 1 + 2 + 4
    assert table.part("fc").rows == rows[3:]
    assert len(table.part("stage")) == 0
    assert table.of_kind("Conv2d").params == 3
    assert (len(table), table.params) == (4, 15)


@pytest.mark.parametrize(("params", "bits", "size"), [(10, 32, 40), (10, 8, 10), (3, 6, 3), (8, 6, 6), (1, 1, 1)])
def test_weights_take_whole_bytes(params: int, bits: int, size: int) -> None:
    assert Layers((layer("fc", params=params),)).weight_bytes(bits) == size


def test_an_empty_layer_table_costs_nothing() -> None:
    assert (Layers(()).params, Layers(()).macs) == (0, 0)


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (Scale(), ""),
        (Scale(width=0.5), "width 0.5"),
        (Scale(depth=4), "depth 4"),
        (Scale(resolution=448), "448 px"),
        (Scale(width=1.2, depth=1.4, resolution=291), "width 1.2, depth 1.4, 291 px"),
    ],
)
def test_a_claim_says_at_which_scale_of_the_network_it_is_made(scale: Scale, words: str) -> None:
    assert str(scale) == words
    assert Claim("MACs", "1", "Table 3", at=scale).title == (f"MACs, {words}" if words else "MACs")


def test_a_round_figure_says_itself_what_it_is_rounded_to() -> None:
    assert Claim("neurons", "650,000", "abstract", about=10_000).last_digit == 10_000


def test_errors_and_accuracies_of_imagenet_are_two_claims_each() -> None:
    errors = top_errors("ILSVRC", "40.7", "18.2", "Table 2")
    accuracies = top_accuracies("ImageNet", "57.5", "80.3", "Table 2")
    assert [(claim.figure, claim.printed, claim.source) for claim in errors + accuracies] == [
        ("top-1 error on ILSVRC", "40.7 %", "Table 2"),
        ("top-5 error on ILSVRC", "18.2 %", "Table 2"),
        ("top-1 accuracy on ImageNet", "57.5 %", "Table 2"),
        ("top-5 accuracy on ImageNet", "80.3 %", "Table 2"),
    ]
    assert all(claim.count is None for claim in errors + accuracies)


# --- specs -------------------------------------------------------------------------------------------------------


def test_a_spec_without_a_way_to_scale_is_none() -> None:
    with pytest.raises(TypeError, match="scaled"):
        Spec()  # type: ignore[abstract]


def test_the_largest_and_the_smallest_numbers_of_a_spec_are_allowed() -> None:
    assert Chain(num_classes=1, in_channels=1, resolution=28)
    assert Chain(resolution=10_000)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"num_classes": 0}, "0 classes"),
        ({"num_classes": -3}, "-3 classes"),
        ({"in_channels": 0}, "at least 1 channel, not 0"),
        ({"resolution": 27}, "works is 28 px"),
        ({"resolution": -5}, "-5 px"),
        ({"resolution": 10_001}, "works is 10000 px"),
        ({"resolution": 10**9}, "works is 10000 px"),
    ],
)
def test_a_spec_that_cannot_work_is_a_one_line_error(wrong: dict[str, int], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        Chain(**wrong)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


def test_a_image_is_small_under_the_limit() -> None:
    assert Chain().small_below == 50
    assert [Chain(resolution=side).num_skipped_downsamplings for side in (50, 49, 40, 39)] == [0, 1, 1, 2]


def test_a_spec_at_a_scale_is_the_scaled_spec() -> None:
    assert Chain().at(Scale(width=2, depth=3, resolution=99)) == Chain(width=2, depth=3, resolution=99)
    assert Chain(resolution=64).at(Scale()) == Chain(resolution=64)


constants = st.floats(0.5, 2)


@given(st.floats(-1, 3), constants, constants, constants)
def test_compound_scaling_is_depth_width_and_resolution_to_the_power_of_phi(
    phi: float, alpha: float, beta: float, gamma: float
) -> None:
    # Tan and Le 2019, equation 3.
    found = Chain().compound(phi, alpha, beta, gamma)
    assert (found.depth, found.width) == (alpha**phi, beta**phi)
    # Halves are rounded up.
    assert -0.5 < found.resolution - 224 * gamma**phi <= 0.5


def test_compound_scaling_by_nothing_changes_nothing() -> None:
    assert Chain().compound(0) == Chain()
    assert Chain().compound(7, 1, 1, 1) == Chain()


@pytest.mark.parametrize("constant", ["alpha", "beta", "gamma"])
@pytest.mark.parametrize("value", [0.0, -1.2, math.nan, math.inf, -math.inf])
def test_a_constant_that_scales_nothing_is_a_one_line_error(constant: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^{constant} {value:g} scales nothing") as caught:
        Chain().compound(1, **{constant: value})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("phi", [math.nan, math.inf, 1e9, 1e5])
def test_a_phi_out_of_range_is_a_one_line_error(phi: float) -> None:
    with pytest.raises(UserError, match=rf"phi {re.escape(f'{phi:g}')} is out of range") as caught:
        Chain().compound(phi)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("phi", "says"), [(60, "too large"), (-60, "too small"), (-1e9, "too small")])
def test_a_phi_that_makes_impossible_images_says_so(phi: float, says: str) -> None:
    with pytest.raises(UserError, match=f"px is {says}"):
        Chain().compound(phi)


def test_a_claim_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Claim("figure", "1", "section 1").printed = "2"  # type: ignore[misc]


def test_speaking_of_networks_loads_no_torch() -> None:
    code = "import sys, convatlas, convatlas.spec, convatlas.recipe, convatlas.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
