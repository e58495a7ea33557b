"""The checked claims as Markdown, and their counts."""

from __future__ import annotations

from dataclasses import replace

from convatlas import atlas
from convatlas.measure import (
    check_claims,
    check_variants,
    claims_page,
    count_verdicts,
    errata,
    verdict_line,
)
from convatlas.spec import Claim, ClaimVerdict, Variant


def with_claims(*claims: Claim) -> Variant:
    return replace(atlas.find("lenet5-modern"), claims=claims)


HOLDS = Claim("parameters", "61,706", "Table 1", lambda net: net.params)
WRONG = Claim("MACs", "400,000", "Table 2", lambda net: net.macs, sum=416_520)
TRAINED = Claim("test error on MNIST", "0.7 %", "section 5")


def test_variants_without_claims_are_left_out() -> None:
    variants = atlas.find("lenet5-modern"), atlas.find("lenet1")
    assert [one.variant.name for one in check_variants(variants)] == ["lenet1"]
    (one,) = check_variants(variants)
    assert one.checks == check_claims(one.variant)


def test_verdicts_are_counted_in_one_line() -> None:
    checks = check_claims(with_claims(HOLDS, HOLDS, WRONG, TRAINED))
    assert count_verdicts(checks) == {
        ClaimVerdict.HOLDS: 2,
        ClaimVerdict.ERRATUM: 1,
        ClaimVerdict.NOT_TESTED_HERE: 1,
    }
    assert verdict_line(checks) == "4 claims: 2 holds, 1 erratum, 1 not tested here."
    assert verdict_line(()) == "0 claims."
    assert [check.claim for check in errata(checks)] == [WRONG]


def test_the_page_has_a_table_for_each_variant_and_the_arithmetic_below_it() -> None:
    page = claims_page(check_variants([with_claims(HOLDS, WRONG, TRAINED), atlas.find("lenet1")]))
    assert "\n\n## lenet5-modern\n\n" in page
    assert "\n| parameters | 61,706 | 61,706 | holds | Table 1 |\n" in page
    assert "\n| MACs | 400,000 | 416,520 | erratum | Table 2 |\n" in page
    assert "\n| test error on MNIST | 0.7 % |  | not tested here | section 5 |\n\n- Erratum, MACs: " in page
    assert page.index("## lenet5-modern") < page.index("## lenet1\n")
    assert page.endswith("|\n")
