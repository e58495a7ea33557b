"""convatlas claims"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import convatlas as ca
from convatlas import measure

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"
VERDICTS = ("holds", "erratum", "not reproduced by our reading", "not tested here")


def line_of(text: str, beginning: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(beginning)]
    return line


def test_the_claims_of_one_network_are_a_table(convatlas: Callable, as_json: Callable) -> None:
    text = convatlas("claims", "mobilenet").out
    claims = as_json("claims", "mobilenet")["claims"]
    heading, titles, *rows = text.splitlines()
    assert heading == "mobilenet (2017)"
    assert titles.split() == ["figure", "paper", "here", "verdict", "source"]
    found = ca.find("mobilenet").claims
    assert len(found) > 20
    assert [claim["figure"] for claim in claims] == [claim.title for claim in found]
    for claim, row in zip(claims, rows, strict=False):
        assert row.startswith(f"{claim['figure']}  ")
        assert row.endswith(f"  {claim['source']}")
        assert f"  {claim['paper']}  " in row
        assert f"  {claim['verdict']}  " in row
    assert re.search(r"^MACs +569 million +568,740,352 +holds +Table 4$", text, re.MULTILINE)
    assert re.search(r"^MACs, width 0\.5 +149 million +149,497,088 +holds +Table 6$", text, re.MULTILINE)
    assert re.search(r"^top-1 accuracy on ImageNet +70\.6 % +not tested here +Table 4$", text, re.MULTILINE)


def test_errata_are_followed_by_their_arithmetic(convatlas: Callable) -> None:
    text = convatlas("claims", "mobilenet").out
    assert re.search(r"^MACs in the first convolution +1\.19 % +1\.91 % +erratum +Table 2$", text, re.MULTILINE)
    arithmetic = line_of(text, "Erratum, MACs in the first convolution, against Table 1: ")
    assert "112 x 112 x 3 x 3 x 3 x 32 = 10,838,016" in arithmetic
    # Without words of its own, a difference is added up part by part.
    beginning = "Not reproduced by our reading, MACs: "
    parts, total = line_of(convatlas("show", "efficientnet-b1").out, beginning).removeprefix(beginning).split(" = ")
    assert total == "686,802,832"
    assert parts.startswith("12,441,600 (stem) + ")
    assert sum(int(part.split(" (")[0].replace(",", "")) for part in parts.split(" + ")) == 686_802_832


@pytest.mark.slow
def test_the_claims_of_all_networks(convatlas: Callable, as_json: Callable) -> None:
    text = convatlas("claims").out
    claims = as_json("claims")["claims"]
    names = list(dict.fromkeys(claim["network"] for claim in claims))
    assert names == [variant.name for variant in ca.variants() if variant.claims]
    assert len(claims) == sum(len(variant.claims) for variant in ca.variants())
    for claim in claims:
        assert set(claim) == {"network", "figure", "paper", "source", "here", "verdict", "contradicts", "arithmetic"}
        assert claim["verdict"] in VERDICTS
        assert (claim["here"] is None) == (claim["verdict"] == "not tested here")
        assert claim["here"] is None or claim["here"] > 0

    headings = re.findall(r"^(\S+) \(\d{4}\)$", text, re.MULTILINE)
    assert headings == names
    explained = re.findall(r"^(?:Erratum|Not reproduced by our reading), (.+?): .+$", text, re.MULTILINE)
    assert explained == [
        claim["figure"] + (f", against {claim['contradicts']}" if claim["arithmetic"] and claim["contradicts"] else "")
        for claim in claims
        if claim["arithmetic"]
    ]
    counts = [f"{sum(claim['verdict'] == verdict for claim in claims)} {verdict}" for verdict in VERDICTS]
    assert text.splitlines()[-1] == f"{len(claims)} claims: {', '.join(counts)}."


def test_what_a_claim_says_of_the_network_is_what_the_network_gives(as_json: Callable) -> None:
    table = measure.layers_of(ca.find("squeezenet").network, ca.find("squeezenet").spec)
    here = {claim["figure"]: claim["here"] for claim in as_json("claims", "squeezenet")["claims"]}
    assert here["parameters"] == table.params
    assert here["size at 32 bits"] == 4 * table.params
    assert here["times the weights of a 1x1 filter in a 3x3"] == 9.0


def test_the_page_in_the_documentation_is_fresh(convatlas: Callable) -> None:
    status, page, err = convatlas("claims", "--markdown")
    assert (status, err) == (0, "")
    # convatlas claims --markdown > docs/claims.md
    assert page == PAGE.read_text(encoding="utf-8")


def test_the_page_has_every_claim_in_a_table_of_markdown(convatlas: Callable, as_json: Callable) -> None:
    page = convatlas("claims", "squeezenet", "--markdown").out
    claims = as_json("claims", "squeezenet")["claims"]
    assert page.startswith("# ")
    assert re.findall("^## (.*)$", page, re.MULTILINE) == ["squeezenet"]
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    titles = rows.index(["figure", "paper", "here", "verdict", "source"])
    assert [(row[0], row[1], row[-1]) for row in rows[titles + 1 :]] == [
        (claim["figure"], claim["paper"], claim["source"]) for claim in claims
    ]
    assert "| parameters | 1,248,424 | 1,248,424 | holds | Table 1 |" in page
    assert page.endswith("\n")
    assert not page.endswith("\n\n")
    erratum = convatlas("claims", "squeezenet-complex-bypass", "--markdown").out
    assert "\n- Erratum, size at 32 bits, against Table 1 and section 6: four 1x1 convolutions add 12,416 + " in erratum


@pytest.mark.parametrize("name", ["alexnet-bn", "lenet5-modern"])
def test_a_network_of_which_nothing_is_printed_says_so(name: str, convatlas: Callable, as_json: Callable) -> None:
    assert convatlas("claims", name) == (0, f"The paper prints no figures of {name}.\n", "")
    assert as_json("claims", name) == {"claims": []}
    assert "Claims of the paper" not in convatlas("show", name).out
