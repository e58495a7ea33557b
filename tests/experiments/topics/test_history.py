"""What is quoted names its source, and each figure in it is one that the atlas has of that paper."""

from __future__ import annotations

import re

import pytest

from convatlas import atlas
from convatlas.experiments import QUOTED, Quoted
from convatlas.experiments.topics import history


@pytest.mark.at_once("quoted", QUOTED)
def test_each_has_a_year_and_a_place_in_a_paper(quoted: Quoted) -> None:
    assert re.search(r"\b(19|20)\d\d\b", quoted.source)
    assert re.search(r"section|Table|abstract", quoted.source)
    assert quoted.why.endswith(".")
    assert quoted.text.endswith(".")


def test_none_is_told_twice() -> None:
    assert len({one.text for one in QUOTED}) == len(QUOTED)
    assert history.QUOTED is QUOTED


IN_ABSTRACTS_ALONE = {"26.2", "8.4", "6.1"}
IN_NO_CLAIM = {"7.2"}
"""Table 5 of VGG's paper."""
NOWHERE = {"92.7"}
WIDTHS = {"0.75", "0.25"}


@pytest.mark.at_once("quoted", QUOTED)
def test_each_decimal_is_that_of_a_claim(quoted: Quoted) -> None:
    printed = {claim.printed.partition(" ")[0] for variant in atlas.variants() for claim in variant.claims}
    decimals = set(re.findall(r"(?<!section )\b\d+\.\d+\b", f"{quoted.text} {quoted.source}"))
    assert decimals <= printed | IN_ABSTRACTS_ALONE | IN_NO_CLAIM | NOWHERE | WIDTHS
