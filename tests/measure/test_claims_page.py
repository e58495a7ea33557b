"""The checked claims as Markdown, and their counts."""

from __future__ import annotations

from dataclasses import replace

from convatlas import atlas
from convatlas.measure import (
    check_claims,
    check_variants,
    claims_page,
    count_verdicts,
    differences,
    verdict_line,
)
from convatlas.spec import Claim, ClaimVerdict, Variant


def with_claims(*claims: Claim) -> Variant:
    return replace(atlas.find("lenet5-modern"), claims=claims)


HOLDS = Claim("parameters", "61,706", "Table 1", lambda net: net.params)
WRONG = Claim("MACs", "400,000", "Table 2", lambda net: net.macs, sum=416_520, contradicts="Table 1")
OURS = Claim("MACs", "300,000", "Table 3", lambda net: net.macs, sum=416_520, note="416,520 with the last layer")
TRAINED = Claim("test error on MNIST", "0.7 %", "section 5")


def test_variants_without_claims_are_left_out() -> None:
    variants = atlas.find("lenet5-modern"), atlas.find("lenet1")
    assert [one.variant.name for one in check_variants(variants)] == ["lenet1"]
    (one,) = check_variants(variants)
    assert one.checks == check_claims(one.variant)


def test_verdicts_are_counted_in_one_line() -> None:
    checks = check_claims(with_claims(HOLDS, HOLDS, WRONG, OURS, TRAINED))
    assert count_verdicts(checks) == {
        ClaimVerdict.HOLDS: 2,
        ClaimVerdict.ERRATUM: 1,
        ClaimVerdict.NOT_REPRODUCED: 1,
        ClaimVerdict.NOT_TESTED_HERE: 1,
    }
    assert verdict_line(checks) == ("5 claims: 2 holds, 1 erratum, 1 not reproduced by our reading, 1 not tested here.")
    assert verdict_line(()) == "0 claims."
    assert [check.claim for check in differences(checks)] == [WRONG, OURS]


def test_the_page_has_a_table_for_each_variant_and_the_arithmetic_below_it() -> None:
    page = claims_page(check_variants([with_claims(HOLDS, WRONG, OURS, TRAINED), atlas.find("lenet1")]))
    assert "\n\n## lenet5-modern\n\n" in page
    assert "\n| parameters | 61,706 | 61,706 | holds | Table 1 |\n" in page
    assert "\n| MACs | 400,000 | 416,520 | erratum | Table 2 |\n" in page
    assert "\n| test error on MNIST | 0.7 % |  | not tested here | section 5 |\n\n" in page
    assert "|\n\n- Erratum, MACs, against Table 1: " in page
    assert "\n- Not reproduced by our reading, MACs: 416,520 with the last layer\n" in page


def test_the_page_opens_with_the_rules_and_how_many_claims_have_each_verdict() -> None:
    page = claims_page(check_variants([with_claims(HOLDS, WRONG, OURS, TRAINED)]))
    top = page[: page.index("\n## ")]
    assert "| verdict | of 4 claims | when |" in top
    for verdict in ClaimVerdict:
        if verdict is not ClaimVerdict.DISAGREES:
            assert f"\n| {verdict} | 1 | " in top


def test_the_tables_follow_one_another() -> None:
    page = claims_page(check_variants([with_claims(HOLDS, WRONG, OURS, TRAINED), atlas.find("lenet1")]))
    assert page.index("## lenet5-modern") < page.index("## lenet1\n")
    assert page.endswith("|\n")
