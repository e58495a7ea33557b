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


PRINTED_ELSEWHERE = {"26.2", "92.7"}
"""The second entry of 2012, in AlexNet's abstract; and what no paper prints."""


@pytest.mark.at_once("quoted", QUOTED)
def test_each_percentage_is_a_claim_of_the_atlas(quoted: Quoted) -> None:
    claims = [claim for variant in atlas.variants() for claim in variant.claims]
    printed = {claim.printed.removesuffix(" %") for claim in claims if claim.unit == "%"}
    sentences = re.split(r"(?<=[a-z)])\.", f"{quoted.text} {quoted.source}")
    for sentence in sentences:
        if "%" in sentence:
            assert set(re.findall(r"\b\d+\.\d+(?=(?:, [\d., ]+)?(?: and [\d.]+)? %)", sentence)) <= (
                printed | PRINTED_ELSEWHERE
            )
