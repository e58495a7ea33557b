import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas import atlas
from convatlas.measure import findings, verdict
from convatlas.spec import Claim, Variant, Verdict

every_variant = pytest.mark.parametrize("variant", atlas.variants(), ids=lambda variant: variant.name)

UNITS = {"": 1, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}


@every_variant
def test_no_claim_disagrees_with_the_built_network(variant: Variant) -> None:
    disagreeing = [finding for finding in findings(variant) if finding.verdict is Verdict.DISAGREES]
    assert disagreeing == []


@every_variant
def test_every_claim_gets_a_verdict_of_its_kind(variant: Variant) -> None:
    found = findings(variant)
    assert tuple(finding.claim for finding in found) == variant.claims
    for finding in found:
        if finding.claim.count is None:
            assert finding.counted is None
            assert finding.verdict is Verdict.NOT_TESTED_HERE
        else:
            assert isinstance(finding.counted, int)
            assert finding.verdict in (Verdict.HOLDS, Verdict.ERRATUM)


@every_variant
def test_every_claim_says_what_it_counts_and_where_it_is_printed(variant: Variant) -> None:
    for claim in variant.claims:
        assert claim.figure
        assert claim.source
        assert claim.value > 0
        assert claim.last_digit <= claim.value


@every_variant
def test_no_claim_is_stated_twice(variant: Variant) -> None:
    stated = [(claim.figure, claim.source) for claim in variant.claims]
    assert len(stated) == len(set(stated))


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("lenet1989", {"9,760", "64,660", "5.0 %"}),
        ("lenet1", {"2,578", "98,442", "2,600", "1.7 %"}),
        ("lenet4", {"17,000", "260,000", "1.1 %", "0.7 %"}),
        (
            "lenet5",
            {"60,000", "340,908", "156", "12", "1,516", "32", "48,120", "10,164", "840", "0.95 %", "0.8 %"},
        ),
        ("lenet5-modern", set()),
    ],
)
def test_the_papers_figures_are_stated_as_printed(name: str, printed: set[str]) -> None:
    # LeCun et al. 1989, 1990 and 1998, sections as the claims say.
    assert {claim.printed for claim in atlas.find(name).claims} == printed


def test_nothing_counted_is_not_tested_here() -> None:
    assert verdict(Claim("test error", "0.95 %", "III.B"), None) is Verdict.NOT_TESTED_HERE


@pytest.mark.parametrize(
    ("printed", "counted", "expected"),
    [
        ("60,000", 60000, Verdict.HOLDS),
        ("60,000", 59999, Verdict.DISAGREES),
        ("60,000", 60001, Verdict.DISAGREES),
        ("17 thousand", 17999, Verdict.HOLDS),
        ("17 thousand", 16001, Verdict.HOLDS),
        ("17 thousand", 18000, Verdict.DISAGREES),
        ("17 thousand", 16000, Verdict.DISAGREES),
        ("0.57 million", 579_999, Verdict.HOLDS),
        ("0.57 million", 580_000, Verdict.DISAGREES),
        ("4.1 million", 4_000_001, Verdict.HOLDS),
        ("4.1 million", 4_000_000, Verdict.DISAGREES),
        ("4.1 million", 4_200_000, Verdict.DISAGREES),
        ("8.3 million", 8_399_999, Verdict.HOLDS),
        ("8.3 million", 8_400_000, Verdict.DISAGREES),
        ("16.1 thousand", 16_200, Verdict.DISAGREES),
    ],
)
def test_a_claim_holds_less_than_one_unit_of_its_last_digit_away(printed: str, counted: int, expected: Verdict) -> None:
    assert verdict(Claim("parameters", printed, "section 1"), counted) is expected


@pytest.mark.parametrize(("counted", "expected"), [(2501, Verdict.HOLDS), (2500, Verdict.DISAGREES)])
def test_a_round_figure_says_itself_how_precise_it_is(counted: int, expected: Verdict) -> None:
    assert verdict(Claim("parameters, about", "2,600", "section 1", about=100), counted) is expected


@settings(max_examples=200)
@given(
    number=st.integers(1, 99_999),
    decimals=st.integers(0, 3),
    unit=st.sampled_from(sorted(UNITS)),
    steps=st.sampled_from([-2, -1, 0, 1, 2]),
    ones=st.integers(-1, 1),
    is_sum=st.booleans(),
)
def test_the_verdict_is_exact_at_its_boundaries(
    number: int, decimals: int, unit: str, steps: int, ones: int, is_sum: bool
) -> None:
    last_digit = Fraction(UNITS[unit], 10**decimals)
    exact = number * last_digit
    counted = math.floor(exact + steps * last_digit) + ones
    text = f"{number // 10**decimals:,}" + (f".{number % 10**decimals:0{decimals}}" if decimals else "")
    claim = Claim("parameters", f"{text} {unit}".rstrip(), "section 1", sum=counted if is_sum else counted + 1)
    if abs(counted - exact) < last_digit:
        assert verdict(claim, counted) is Verdict.HOLDS
    else:
        assert verdict(claim, counted) is (Verdict.ERRATUM if is_sum else Verdict.DISAGREES)


def test_an_erratum_needs_the_very_sum_of_the_papers_own_list() -> None:
    # Krizhevsky et al. 2012: the printed neuron list adds to 622,312, not to 650,000.
    claim = Claim("neurons", "650,000", "section 3.5", sum=622_312)
    assert verdict(claim, 622_312) is Verdict.ERRATUM
    assert verdict(claim, 622_313) is Verdict.DISAGREES
    assert verdict(claim, 650_000) is Verdict.HOLDS
