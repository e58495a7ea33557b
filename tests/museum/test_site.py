"""The museum's files: whole, small, at home in their folder, and readable without scripts."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urldefrag
from xml.etree import ElementTree

import pytest

from convatlas.errors import UserError
from convatlas.museum import build, folder, site
from convatlas.museum.exhibits import EXHIBITS
from convatlas.museum.folder import MARK, check_free, put

HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
FIRST_VIEW, ROOM = 100_000, 150_000
"""Bytes, compressed, of what the first page needs and of what each other adds."""
NO_TEXT = {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"}


def pages(museum: Path) -> list[Path]:
    return sorted(museum.glob("*.html"))


def parsed(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(path.read_text().replace("<!DOCTYPE html>", ""))


def loaded(root: ElementTree.Element) -> set[str]:
    """What a browser loads with the page."""
    named = [one.get(name) for one in root.iter() for name in ("src", "data", "poster")]
    links = [one.get("href") for one in root.iter(f"{HTML}link")]
    return {address for address in (*named, *links) if address and not address.startswith("data:")}


def compressed(museum: Path, names: set[str]) -> int:
    return sum(len(gzip.compress((museum / name).read_bytes(), mtime=0)) for name in names)


def test_there_is_a_page_for_each_room(museum: Path, small: None) -> None:
    names = {path.stem for path in pages(museum)}
    assert names == {one.name for one in site.EXHIBITS} | {"index", "compare", "ideas", "experiments", "live", "own"}


def test_pages_have_a_heading_a_language_and_words_for_their_drawings(museum: Path) -> None:
    for path in pages(museum):
        root = parsed(path)
        assert root.get("lang") == "en"
        assert len(list(root.iter(f"{HTML}h1"))) == 1, path.name
        assert all(image.get("alt") for image in root.iter(f"{HTML}img")), path.name
        ids = Counter(one.get("id") for one in root.iter() if one.get("id"))
        assert [name for name, times in ids.items() if times > 1] == [], path.name
        for one in root.iter():
            for name in ("aria-labelledby", "aria-describedby", "for"):
                assert set((one.get(name) or "").split()) <= set(ids), (path.name, one.tag, one.attrib)


def test_every_link_leads_somewhere(museum: Path, small: None) -> None:
    roots = {path.name: parsed(path) for path in pages(museum)}
    ids = {name: {one.get("id") for one in root.iter()} for name, root in roots.items()}
    for name, root in roots.items():
        for link in (*root.iter(f"{HTML}a"), *root.iter(f"{SVG}a")):
            # Else all files would be called by it.
            assert not link.get("download"), (name, link.attrib)
            address = link.get("href")
            # Scripts set it later.
            if address is None or address.startswith("http"):
                continue
            file, anchor = urldefrag(unquote(address))
            # A room that this small museum is without.
            if file.removesuffix(".html") in {one.name for one in EXHIBITS} - {one.name for one in site.EXHIBITS}:
                continue
            assert (museum / (file or name)).is_file(), (name, address)
            assert not anchor or anchor in ids[file or name], (name, address)


def test_nothing_is_loaded_from_elsewhere(museum: Path) -> None:
    for path in pages(museum):
        names = loaded(parsed(path))
        assert all((museum / name).is_file() for name in names), path.name
        assert "default-src 'none'" in path.read_text()
    for path in museum.rglob("*"):
        if path.suffix in (".js", ".css", ".svg"):
            addresses = set(re.findall(r"https?://[^\s\"'<)]*", path.read_text()))
            # Names of languages, which nobody asks for.
            assert addresses <= NO_TEXT, path.name


def test_views_are_small(museum: Path) -> None:
    first = {"index.html", *loaded(parsed(museum / "index.html"))}
    assert compressed(museum, first) <= FIRST_VIEW
    for path in pages(museum):
        more = {path.name, *(name for name in loaded(parsed(path)) if not name.startswith("charts/"))} - first
        assert compressed(museum, more) <= ROOM, path.name


def test_a_room_reads_without_scripts(museum: Path) -> None:
    text = " ".join("".join(parsed(museum / "lenet5.html").itertext()).split())
    for words in ("60,000", "340,908", "holds", "ConnectedConv2d", "neocognitron", "receptive field"):
        assert words in text
    assert "0.95 %" in text
    shown = (museum / "index.html").read_text()
    assert all(title in shown for title in ("LeNet-5", "VGG-16", "15.5 G"))


def test_no_file_knows_the_machine(museum: Path) -> None:
    home = str(Path(__file__).parents[2]).encode()
    assert [path.name for path in museum.rglob("*") if path.is_file() and home in path.read_bytes()] == []


def test_names_are_escaped(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = site.EXHIBITS
    monkeypatch.setattr(site, "EXHIBITS", (replace(first, title="<b>&"), *others))
    told = site.filled("base.html.jinja", "", {}, None)
    assert b"&lt;b&gt;&amp;" in told
    assert b"<b>" not in told


@pytest.mark.parametrize("address", ["../index.html", "https://example.org/a?b&c"])
def test_pages_link_to_the_documentation(small: None, address: str) -> None:
    page = ElementTree.fromstring(
        site.filled("base.html.jinja", "", {}, address).decode().replace("<!DOCTYPE html>", "")
    )
    (link,) = (one for one in page.iter(f"{HTML}a") if one.text == "Documentation")
    assert link.get("href") == address


@pytest.mark.parametrize("address", ["javascript:alert(1)", "", "?", "https:", "http://["])
def test_what_is_no_page_is_no_documentation(address: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no address of a page; give one like"):
        build(tmp_path / "site", docs=address)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds something else than a museum"):
        build(tmp_path)
    with pytest.raises(UserError, match="is a file; give the museum a folder"):
        build(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no results; convatlas experiment run"):
        build(tmp_path / "site", experiments=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_museum_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "new" / "site"
    put(place, {"old.html": b"old"})
    check_free(place)
    put(place, {"pages/new.html": b"new"})
    assert {path.name for path in place.rglob("*") if path.is_file()} == {MARK, "new.html"}
    assert [path.name for path in place.parent.iterdir()] == ["site"]


@pytest.mark.parametrize("mine", [".nojekyll", "CNAME", "pages/notes.txt"])
def test_what_somebody_put_beside_a_museum_is_kept(tmp_path: Path, mine: str) -> None:
    place = tmp_path / "site"
    put(place, {"pages/old.html": b"old"})
    (place / mine).write_text("mine")
    with pytest.raises(UserError, match=f"something else than a museum, as {mine}"):
        build(place)
    assert (place / mine).read_text() == "mine"


def test_hidden_files_are_somebodys_too(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref")
    with pytest.raises(UserError, match=r"something else than a museum, as \.git/HEAD"):
        build(tmp_path)


def test_a_damaged_mark_is_told(tmp_path: Path) -> None:
    put(tmp_path / "site", {"a.html": b""})
    (tmp_path / "site" / MARK).write_text("{}")
    with pytest.raises(UserError, match=MARK):
        build(tmp_path / "site")


def test_a_linked_folder_stays_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real", {"a.html": b"old"})
    (tmp_path / "site").symlink_to(tmp_path / "real")
    put(tmp_path / "site", {"a.html": b"new"})
    assert (tmp_path / "site").is_symlink()
    assert (tmp_path / "real" / "a.html").read_bytes() == b"new"


def test_a_build_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "site"
    put(place, {"old.html": b"old"})

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(folder, "write", full)
    with pytest.raises(OSError, match="No space left"):
        put(place, {"new.html": b"new"})
    assert (place / "old.html").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
