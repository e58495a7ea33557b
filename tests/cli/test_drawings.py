"""Drawings that the command writes."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

import convatlas as ca

DRAWINGS = Path(__file__).parents[2] / "docs" / "drawings"


def title(path: Path) -> str:
    return ET.parse(path).getroot().findtext("{http://www.w3.org/2000/svg}title") or ""


def test_show_draws_the_network_at_its_scale(convatlas: Callable, tmp_path: Path) -> None:
    file = tmp_path / "net.svg"
    assert convatlas("show", "mobilenet", "--width", 0.25, "--resolution", 64, "--svg", file) == (
        0,
        f"drawing  {file}\n",
        "",
    )
    assert title(file) == "mobilenet"
    assert "scaled, 64 px" in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["net.svg"]


@pytest.mark.usefixtures("drawn")
def test_show_writes_every_format_at_any_level(convatlas: Callable, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("net.svg", "net.pdf", "net.tex")]
    words = [word for option, file in zip(("--svg", "--pdf", "--tikz"), files, strict=True) for word in (option, file)]
    answer = convatlas("show", "lenet5", "--level", "layers", *words)
    assert answer.out.split() == [word for file in files for word in ("drawing", str(file))]
    svg, pdf, tikz = (file.read_bytes() for file in files)
    assert b'data-layer="c1"' in svg
    assert pdf.startswith(b"%PDF")
    assert tikz.rstrip().endswith(rb"\end{tikzpicture}")


def test_json_names_the_drawings(convatlas: Callable, tmp_path: Path) -> None:
    for words in (["show", "lenet5"], ["compare", "lenet5", "lenet1"]):
        file = tmp_path / f"{words[0]}.svg"
        assert json.loads(convatlas(*words, "--svg", file, "--json").out)["drawings"] == [str(file)]
        assert file.exists()
        assert "drawings" not in json.loads(convatlas(*words, "--json").out)


def test_compare_draws_networks_and_a_chart_of_their_figures(convatlas: Callable, tmp_path: Path) -> None:
    drawn, chart = tmp_path / "nets.svg", tmp_path / "chart.svg"
    answer = convatlas("compare", "lenet5", "alexnet", "--svg", drawn, "--chart", chart)
    assert answer.out == f"drawing  {drawn}\ndrawing  {chart}\n"
    assert title(drawn) == "lenet5, alexnet"
    assert title(chart) == "Networks side by side"


@pytest.mark.at_once(
    ("name", "words"),
    [
        ("resnet34", ["show", "resnet34"]),
        ("googlenet", ["show", "googlenet", "--level", "stages"]),
        ("vgg16-mobilenet", ["compare", "vgg16", "mobilenet"]),
    ],
)
def test_the_drawings_in_the_docs_are_fresh(name: str, words: list[str], convatlas: Callable, tmp_path: Path) -> None:
    convatlas(*words, "--svg", tmp_path / "new.svg")
    assert (tmp_path / "new.svg").read_bytes() == (DRAWINGS / f"{name}.svg").read_bytes()


@pytest.mark.slow
def test_list_draws_accuracy_against_macs(convatlas: Callable, tmp_path: Path) -> None:
    file = tmp_path / "all.svg"
    assert convatlas("list", "--svg", file).out == f"drawing  {file}\n"
    drawn = file.read_text()
    assert drawn == (DRAWINGS / "accuracy.svg").read_text()
    published = [variant.name for variant in ca.variants() if "top-1" in variant.published and not variant.released]
    assert len(published) >= 25
    assert all(f'data-network="{name}"' in drawn for name in published)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--level", "stages"], "--level says what a drawing shows; give --svg, --pdf or --tikz with a file too"),
        (["--level", "slide", "--svg", "net.svg"], "there is no --level slide; choose overview, stages or layers"),
        (["--svg", "no/such/folder/net.svg"], "no/such/folder/net.svg: No such file or directory"),
        (["--svg", "."], ". is a folder; give the drawing a file's name"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(
    words: list[str], said: str, convatlas: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in (["show", "lenet5"], ["compare", "lenet5", "lenet1"]):
        assert convatlas(*verb, *words) == (2, "", f"convatlas: {said}\n")
    assert list(tmp_path.iterdir()) == []
