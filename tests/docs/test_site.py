"""The site is whole and strict, and a browser loads all of it from where it lies."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import convatlas as ca
from convatlas.cli.app import app
from convatlas.museum.look import COLORS_OF_PAGES, FONTS

ROOT = Path(__file__).parents[2]


class Loaded(HTMLParser):
    """Addresses that a browser loads to show a page, whatever its reader clicks on."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = ("src", "srcset", "data", "poster", *(() if tag == "a" else ("href", "xlink:href")))
        self.addresses += [value for name, value in attrs if name in named and value]


IN_CSS = re.compile(r"""(?:@import\s*["']|url\(\s*["']?)([^"')]*)""")
IN_JS = re.compile(r"""(?:fetch|import|importScripts|open|WebSocket|EventSource|sendBeacon)\s*\(\s*["'`]([^"'`]*)""")


def loaded(path: Path) -> Iterator[str]:
    """What a browser loads because a file says so."""
    text = path.read_text(errors="replace")
    if path.suffix in (".html", ".svg"):
        parser = Loaded()
        parser.feed(text)
        yield from parser.addresses
    if path.suffix in (".html", ".svg", ".css"):
        yield from IN_CSS.findall(text)
    if path.suffix in (".html", ".js"):
        yield from IN_JS.findall(text)


def is_elsewhere(address: str) -> bool:
    return re.match(r"(?:https?|wss?|ftp):|//", address.strip(), re.IGNORECASE) is not None


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".svg", ".css", ".js")]
    assert {path.suffix for path in files} == {".html", ".svg", ".css", ".js"}
    assert {f"{path.name}: {address}" for path in files for address in loaded(path) if is_elsewhere(address)} == set()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script src="https://cdn.example/a.js"></script>'),
        ("a.html", '<link rel="stylesheet" href="//fonts.example/a.css">'),
        ("a.html", "<style>@import 'https://fonts.example/a.css';</style>"),
        ("a.html", '<p style="background: url(https://cdn.example/a.png)">'),
        ("a.svg", '<svg><image xlink:href="http://cdn.example/a.png"/></svg>'),
        ("a.css", "@font-face { src: url('https://fonts.example/a.woff2') }"),
        ("a.js", 'fetch("https://api.example/stars")'),
    ],
)
def test_what_another_host_would_be_asked_for_is_found(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert any(map(is_elsewhere, loaded(path)))


def test_a_link_to_another_host_is_no_request(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text('<a href="https://doi.org/10">paper</a>')
    assert not any(map(is_elsewhere, loaded(path)))


def test_it_has_the_look_of_the_museum(site: Path) -> None:
    page = (site / "index.html").read_text()
    for number in (0, 1):
        assert f"--color-background-primary: {COLORS_OF_PAGES['page'][number]};" in page
        assert f"--color-brand-content: {COLORS_OF_PAGES['link'][number]};" in page
    assert f"--font-stack--headings: {FONTS['serif']};" in page


@pytest.mark.slow
def test_the_site_and_the_museum_link_to_each_other(tmp_path: Path) -> None:
    for name in ("src", "docs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for path in (ROOT / "pyproject.toml", *ROOT.glob("*.md")):
        shutil.copy(path, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    subprocess.run(["bash", str(tmp_path / "scripts" / "site")], check=True, env=environment)
    built = tmp_path / "build" / "docs"
    assert 'href="../museum/index.html"' in (built / "guides" / "train.html").read_text()
    assert 'href="../index.html"' in (built / "museum" / "lenet5.html").read_text()


def public_names(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith(module.__name__)
    }


def test_the_reference_has_every_public_name(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text()
    assert "ca.__version__" in page
    modules = {"draw", "measure", "experiments", "museum"}
    names = {f"convatlas.{name}" for name in ca.__all__ if name not in {"__version__", *modules}}
    for module in (ca.draw, ca.measure, ca.experiments, ca.museum):
        names |= {f"{module.__name__}.{name}" for name in public_names(module)}
        names.add(f"module-{module.__name__}")
    assert {name for name in names if f'id="{name}"' not in page} == set()


def test_the_reference_has_every_option_of_every_verb(site: Path) -> None:
    page = (site / "reference" / "command.html").read_text()
    assert {name for name in anchors(get_command(app), "cmdoption-convatlas") if f'id="{name}"' not in page} == set()


def anchors(command: TyperCommand | TyperGroup, name: str) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for verb, inner in command.commands.items():
            yield from anchors(inner, f"{name}-{verb}")
    else:
        for parameter in command.params:
            yield from (f"{name}-{option.lstrip('-')}" for option in parameter.opts if option.startswith("--"))


def test_the_house_has_every_room_with_a_sentence(site: Path) -> None:
    page = (site / "house.html").read_text()
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = {room.removeprefix("convatlas.") for layer in layers for room in layer.split(" | ")}
    told = re.findall(r'<span class="pre">(\w+)</span></code></p></td>\s*<td[^>]*><p>\S.*?\.</p></td>', page)
    assert set(told) == rooms


MISTAKES = {
    "a dead link": ("[there](nowhere.md)", "nowhere.md"),
    "a broken anchor": ("[there](#no-such-section)", "no-such-section"),
    "an unknown reference": ("{py:func}`convatlas.no_such_function`", "no_such_function"),
    "an unknown option": ("{option}`convatlas train --no-such-option`", "--no-such-option"),
    "a name that is gone": ("```{eval-rst}\n.. autofunction:: convatlas.gone\n```", "failed to import 'gone'"),
    "no docstring": ("```{eval-rst}\n.. autofunction:: undocumented.function\n```", "undocumented.function has no"),
    "a data class without docstring": (
        "```{eval-rst}\n.. autoclass:: undocumented.Fields\n```",
        "undocumented.Fields has no",
    ),
    "a missing image": ("![a chart](no-such-chart.svg)", "no-such-chart.svg"),
}


def test_mistakes_fail_the_build(tmp_path: Path) -> None:
    (tmp_path / "undocumented.py").write_text(
        "from dataclasses import dataclass\n\ndef function(): ...\n\n@dataclass\nclass Fields:\n    one: int\n"
    )
    (tmp_path / "index.md").write_text("# Mistakes\n\n" + "\n\n".join(text for text, _ in MISTAKES.values()) + "\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from sphinx.cmd.build import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "-c", ROOT / "docs", "-W", "-q", tmp_path, tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert {name for name, (_, said) in MISTAKES.items() if said not in done.stderr} == set(), done.stderr
