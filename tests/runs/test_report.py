"""The page about a run: what it shows, what it may not load, and what it says of damage."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import convatlas as ca
from convatlas.errors import UserError
from convatlas.models.predictions import Predictions
from convatlas.runs.command import command
from convatlas.runs.options import Distillation, InitFrom, Runtime, Validation
from convatlas.runs.report import (
    MAX_PNG_SIDE,
    NUM_MISTAKES,
    REPORT,
    THUMBNAIL_SIDE,
    contents,
    day,
    thumbnail,
    write_report,
)
from convatlas.runs.run import RECORD, Run, load_run, read_metrics
from convatlas.spec import Scale

HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = (
    "<script>alert(1)<",
    "a & b",
    "\"double\" 'single'",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "&lt;b&gt;",
    "$x$ größer 猫",
)
"""Names of folders that would break a page that took them as they are."""
UNTUNED = Runtime(autotune=False)
SMALL = Scale(resolution=28)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that learned too little, so that it makes more mistakes than are shown."""
    return ca.train("lenet1", epochs=3, runtime=UNTUNED, out=tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def tree(run: Run, drawing: Callable[[], AbstractContextManager[None]]) -> ET.Element:
    with drawing():
        return tree_of(write_report(run).path)


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    """The same run in a folder that a test may damage."""
    shutil.copytree(run.folder, tmp_path / "copy", ignore=shutil.ignore_patterns(REPORT))
    return load_run(tmp_path / "copy")


def photographs(root: Path, classes: tuple[str, ...], suffix: str = ".png") -> Path:
    """Ten images of noise of each class."""
    generator = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(10):
            noise = Image.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8))
            noise.save(root / name / f"{i}{suffix}", "PNG")
    return root


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("hostile")
    images = photographs(folder / "<i>images", HOSTILE, " <b onload='x' onerror=\"y\">&amp;.png")
    return ca.train("lenet1", data=images, scale=SMALL, epochs=1, runtime=UNTUNED, out=folder / "run")


def tree_of(path: Path) -> ET.Element:
    """The page; parsing fails where it is not well-formed."""
    content = path.read_bytes()
    assert content.startswith(b"<!DOCTYPE html>\n")
    return ET.fromstring(content)


def text_of(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def sections(tree: ET.Element) -> dict[str, ET.Element]:
    return {text_of(section[0]): section for section in tree.iter(f"{HTML}section")}


def images(element: ET.Element) -> Iterator[tuple[str, bytes]]:
    """Kind and content of every image in it."""
    for image in element.iter(f"{HTML}img"):
        kind, content = image.attrib["src"].removeprefix("data:").split(";base64,")
        yield kind, base64.b64decode(content, validate=True)


def cells(table: ET.Element) -> list[list[str]]:
    return [[text_of(cell) for cell in row] for row in table.iter(f"{HTML}tr")]


def loads_nothing(content: ET.Element) -> None:
    """No script, and nothing that a browser would fetch, in a page or a plot."""
    for element in content.iter():
        tag = element.tag.partition("}")[2]
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "a", "foreignObject", "animate"}
        for name, value in element.attrib.items():
            plain = name.partition("}")[2] or name
            assert not plain.startswith("on")
            if plain in {"src", "href", "srcset", "poster", "action", "background", "data"}:
                assert value.startswith(("data:", "#")), value
            assert re.sub(r"url\(#\w+\)", "", value).count("url(") == 0
        if tag == "style":
            assert not re.search(r"url\(|@import|//", element.text or "")


def test_the_page_stands_alone(tree: ET.Element) -> None:
    loads_nothing(tree)
    plots = [content for kind, content in images(tree) if kind == "image/svg+xml"]
    assert len(plots) == 3
    for plot in plots:
        loads_nothing(ET.fromstring(plot))
    policy = next(meta for meta in tree.iter(f"{HTML}meta") if "http-equiv" in meta.attrib)
    assert policy.attrib["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_its_sections_come_in_the_order_in_which_people_read(tree: ET.Element) -> None:
    assert text_of(next(tree.iter(f"{HTML}h1"))) == "lenet1 on digits"
    assert list(sections(tree)) == [
        "Training",
        "Confusion matrix",
        "Classes",
        "Calibration",
        "Worst mistakes",
        "How it was made",
    ]


def test_the_headline_is_what_training_measured(run: Run, tree: ET.Element) -> None:
    headline = next(tree.iter(f"{HTML}dl"))
    shown = {text_of(entry[0]): text_of(entry[1]) for entry in headline}
    low, high = (f"{100 * end:.2f} %" for end in run.score.interval)
    assert shown == {
        "Test accuracy": f"{100 * run.test_accuracy:.2f} % 95 % confidence interval: {low} to {high}",
        "Test images": "355",
        "Errors": str(run.score.num_errors),
        "Training time": f"{run.results.seconds:.1f} s",
        "Parameters": "2,578",
        "MACs per image": "91,520",
        "Weights on disk": f"{(run.folder / 'weights.safetensors').stat().st_size / 1024:.1f} KiB",
    }


def test_the_classes_stand_in_order_of_their_recall(run: Run, tree: ET.Element) -> None:
    head, *rows = cells(sections(tree)["Classes"])
    assert head == ["class", "images", "recall", "precision", "F1", "most often mistaken for"]
    confusion = run.evaluate().confusion
    recalls = [float(row[2].removesuffix(" %")) for row in rows]
    assert recalls == sorted(recalls)
    assert {row[0] for row in rows} == set("0123456789")
    for name, num, recall, precision, _, mistaken in rows:
        hits = int(confusion[int(name), int(name)])
        assert num == str(int(confusion[int(name)].sum()))
        assert recall == f"{100 * hits / int(num):.2f} %"
        predicted = int(confusion[:, int(name)].sum())
        assert precision == (f"{100 * hits / predicted:.2f} %" if predicted else "–")
        if mistaken:
            assert re.fullmatch(r"\d \(\d+\)", mistaken)
            assert int(confusion[int(name), int(mistaken[0])]) == int(mistaken[3:-1])


def test_the_calibration_has_its_three_figures(run: Run, tree: ET.Element) -> None:
    shown = text_of(sections(tree)["Calibration"])
    predictions = write_report(run).predictions
    assert f"Expected calibration error {100 * predictions.calibration.ece:.2f} %" in shown
    assert "15 bins of equal width" in shown
    assert f"Mean confidence {100 * predictions.mean_confidence:.2f} %" in shown
    assert f"Negative log-likelihood {predictions.nll:.4f}" in shown
    assert "guessing gives 2.30" in shown


def test_the_worst_mistakes_show_what_the_network_saw(run: Run, tree: ET.Element) -> None:
    figures = list(sections(tree)["Worst mistakes"].iter(f"{HTML}figure"))
    assert len(figures) == NUM_MISTAKES < run.score.num_errors
    test, predictions = run.load_data().test, write_report(run).predictions
    probabilities = []
    for figure in figures:
        match = re.fullmatch(r"(\d) ([\d.]+) %true: (\d)image (\d+)", text_of(figure))
        assert match is not None
        predicted, probability, true, place = match.groups()
        assert (int(true), int(predicted)) == (test.labels[int(place)], int(predictions.predicted[int(place)]))
        assert true != predicted
        ((kind, content),) = images(figure)
        assert kind == "image/png"
        # Every pixel of the image of that place in the split.
        assert (np.asarray(Image.open(io.BytesIO(content))) == test.images[[int(place)]][0, 0]).all()
        probabilities.append(float(probability))
    assert probabilities == sorted(probabilities, reverse=True)


def test_how_it_was_made_can_be_repeated(run: Run, tree: ET.Element) -> None:
    made = sections(tree)["How it was made"]
    facts = dict(cells(made))
    assert facts["data checksum"] == run.card.provenance.data_checksum
    assert facts["seed"] == "0"
    assert facts["recipe"] == "default"
    assert (facts["optimizer"], facts["lr"], facts["epochs"]) == ("adamw", "0.004", "3")
    assert facts["schedule"] == "cosine: warmup 0.1"
    assert facts["augmentation"] == "shift 0.07, scale 0.1, squeeze 0.08, shear 0.15, rotation 8"
    assert f"torch {torch.__version__}" in facts["versions"]
    # What has its default says nothing.
    assert not {"momentum", "patience", "freeze"} & set(facts)
    assert text_of(next(made.iter(f"{HTML}pre"))) == command(run)


def test_a_papers_recipe_names_its_sources(copy: Run) -> None:
    paper = ca.find("lenet5").recipe
    assert paper is not None
    copy.record = replace(copy.record, recipe=paper)
    facts = dict(cells(sections(tree_of(write_report(copy).path))["How it was made"]))
    for what, where in paper.sources:
        assert facts[f"{what}, printed in"] == where


@pytest.mark.usefixtures("drawn")
def test_hostile_names_are_text_and_nothing_else(hostile: Run) -> None:
    tree = tree_of(write_report(hostile).path)
    loads_nothing(tree)
    assert text_of(next(tree.iter(f"{HTML}h1"))) == "lenet1 on <i>images"
    rows = cells(sections(tree)["Classes"])[1:]
    assert {row[0] for row in rows} == set(HOSTILE)
    captions = [text_of(figure) for figure in sections(tree)["Worst mistakes"].iter(f"{HTML}figure")]
    assert captions
    assert all(" <b onload='x' onerror=\"y\">&amp;.png" in caption for caption in captions)
    assert not list(tree.iter(f"{HTML}i"))
    # Escaped once, not twice: what a browser shows is what the person wrote.
    confusion = ET.fromstring(list(images(tree))[1][1])
    names = ["".join(text.itertext()) for text in confusion.iter(f"{SVG}text")]
    assert all(names.count(name) == 2 for name in HOSTILE)


def test_of_a_photograph_the_part_that_the_network_reads_is_shown(hostile: Run) -> None:
    assert hostile.card.preprocessing.margin == 2
    test = hostile.load_data().test
    figure = next(sections(tree_of(write_report(hostile).path))["Worst mistakes"].iter(f"{HTML}figure"))
    ((_, content),) = images(figure)
    shown = np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1)
    place = next(i for i in range(len(test)) if text_of(figure).endswith(test.name_of(i)))
    assert (shown == test.images[[place]][0][:, 2:30, 2:30]).all()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_is_shown_as_in_a_terminal(tmp_path: Path) -> None:
    odd = (b"caf\xe9".decode(errors="surrogateescape"), "bell\x07", "gif\u202efdp", "plain")
    run = ca.train(
        "lenet1", data=photographs(tmp_path / "odd", odd), scale=SMALL, epochs=1, runtime=UNTUNED, out=tmp_path / "run"
    )
    rows = cells(sections(tree_of(write_report(run).path))["Classes"])[1:]
    assert {row[0] for row in rows} == {r"caf\xe9", r"bell\x07", r"gif\u202efdp", "plain"}


def test_a_long_name_is_whole_in_the_table_and_shortened_elsewhere(tmp_path: Path) -> None:
    long = tuple(f"{letter * 120}{letter.upper() * 120}" for letter in "ab")
    images = photographs(tmp_path / "long", long)
    run = ca.train("lenet1", data=images, scale=SMALL, epochs=1, runtime=UNTUNED, out=tmp_path / "run")
    tree = tree_of(write_report(run).path)
    assert {row[0] for row in cells(sections(tree)["Classes"])[1:]} == set(long)
    shortened = list(tree.iter(f"{HTML}span"))
    assert {span.attrib["title"] for span in shortened if "title" in span.attrib} >= set(long)
    assert max(len(text_of(span)) for span in shortened) <= 60


def test_any_number_of_classes_has_a_row_each(tmp_path: Path) -> None:
    classes = tuple(f"class {i}" for i in range(60))
    run = ca.train(
        "lenet1",
        data=photographs(tmp_path / "many", classes),
        scale=SMALL,
        epochs=1,
        runtime=UNTUNED,
        out=tmp_path / "run",
    )
    assert {row[0] for row in cells(sections(tree_of(write_report(run).path))["Classes"])[1:]} == set(classes)


def test_a_model_without_mistakes_is_said_to_have_none(run: Run) -> None:
    labels = torch.arange(10)
    test = run.load_data().test.take(np.arange(10))
    predictions = Predictions(torch.eye(10), labels)
    tree = ET.fromstring(contents(run, read_metrics(run), test, predictions))
    assert "Every test image is predicted correctly." in text_of(sections(tree)["Worst mistakes"])
    assert not list(tree.iter(f"{HTML}figure"))


def test_a_class_without_test_images_stands_last(run: Run) -> None:
    test = run.load_data().test.take(np.arange(9))
    predictions = Predictions(torch.eye(10)[:9], torch.arange(9))
    rows = cells(sections(ET.fromstring(contents(run, read_metrics(run), test, predictions)))["Classes"])
    assert rows[-1] == ["9", "0", "–", "–", "–", ""]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("side", "kind", "shown"), [(28, "png", 28), (MAX_PNG_SIDE, "png", MAX_PNG_SIDE), (300, "jpeg", THUMBNAIL_SIDE)]
)
def test_a_thumbnail_is_small_and_that_of_a_small_image_exact(channels: int, side: int, kind: str, shown: int) -> None:
    original = np.random.default_rng(0).integers(0, 255, (channels, side, side), dtype=np.uint8)
    uri = thumbnail(original)
    assert uri.startswith(f"data:image/{kind};base64,")
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert image.size == (shown, shown)
    if kind == "png":
        assert (np.asarray(image) == (original[0] if channels == 1 else original.transpose(1, 2, 0))).all()


def test_weights_of_a_year_that_there_is_not_cost_no_page(run: Run, tmp_path: Path) -> None:
    assert day(0.0) != "unknown"
    assert {day(seconds) for seconds in (1e12, 1e300, -1e300)} == {"unknown"}


def test_the_same_run_gives_the_same_page_wherever_it_is_written(run: Run, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "page.html").path == tmp_path / "page.html"
    assert write_report(run).path == run.folder / "report.html"
    assert ca.write_report is write_report
    assert (tmp_path / "page.html").read_bytes() == (run.folder / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("weights.safetensors", None, "is missing"),
        ("weights.safetensors", "", "is damaged or not this model's"),
        ("metrics.jsonl", None, "is missing"),
        ("metrics.jsonl", "", "is damaged"),
        ("metrics.jsonl", "{", "is damaged"),
        ("metrics.jsonl", "[]", "is damaged"),
        ("metrics.jsonl", "5", "is damaged"),
        ("metrics.jsonl", '{"epoch": 1}', "is damaged"),
        ("metrics.jsonl", '{"epoch": 1, "loss": "x", "accuracy": 0}', "is damaged"),
        ("metrics.jsonl", '{"epoch": 1, "loss": NaN, "accuracy": 0}', "is damaged"),
    ],
)
def test_a_damaged_run_has_no_page(name: str, content: str | None, words: str, copy: Run) -> None:
    path = copy.folder / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    says_one_line(copy, f"{path} {words}")


def test_a_run_that_is_not_finished_has_no_page(copy: Run) -> None:
    (copy.folder / RECORD).write_bytes(replace(copy.record, results=None).to_json())
    says_one_line(copy, "is not finished; convatlas resume")


def says_one_line(run: Run, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        write_report(load_run(run.folder))
    assert len(str(caught.value).splitlines()) == 1
    assert not (run.folder / "report.html").exists()


def test_images_that_have_changed_or_are_gone(tmp_path: Path) -> None:
    images = photographs(tmp_path / "images", ("cat", "dog"))
    run = ca.train("lenet1", data=images, scale=SMALL, epochs=1, runtime=UNTUNED, out=tmp_path / "run")
    (images / "cat" / "0.png").unlink()
    with pytest.raises(UserError, match="are not, or no longer, those that"):
        write_report(run)
    shutil.rmtree(images)
    with pytest.raises(UserError, match="there is no folder"):
        write_report(run)


def test_a_folder_that_is_not_there_is_found_before_the_work(run: Run, tmp_path: Path) -> None:
    # Otherwise missing weights would be found first.
    nothing = Run(tmp_path, run.card, run.record)
    with pytest.raises(UserError, match=r"there is no folder .*nowhere to write page.html into"):
        write_report(nothing, tmp_path / "nowhere" / "page.html")


@pytest.mark.slow
def test_who_opens_a_run_loads_neither_plots_nor_templates(run: Run) -> None:
    code = f"import sys, convatlas; convatlas.load({str(run.folder)!r}).network; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "convatlas.runs.run" in loaded
    assert not {"matplotlib", "jinja2", "convatlas.runs.report"} & loaded


def test_a_model_without_a_run_has_no_page(run: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "model", tmp_path / "model.cva"):
        run.model.save(path)
        with pytest.raises(UserError, match=r"is a model without the record of its training: it has no run\.json"):
            write_report(load_run(path))


def test_how_a_student_was_made_is_told(copy: Run) -> None:
    copy.record = replace(
        copy.record,
        class_weights="balanced",
        validation=Validation(val_split=0.2, patience=3),
        stop_at_error=0.25,
        init_from=InitFrom(path="/runs/before", freeze=True),
        distillation=Distillation(teacher="/runs/teacher", temperature=3.5),
        runtime=replace(copy.record.runtime, micro_batch=7),
        num_processes=2,
    )
    facts = dict(cells(sections(tree_of(write_report(copy).path))["How it was made"]))
    expected = {
        "class weights": "balanced",
        "val split": "0.2",
        "patience": "3",
        "stop at error": "0.25",
        "init from": "/runs/before",
        "freeze": "yes",
        "teacher": "/runs/teacher",
        "temperature": "3.5",
        "distill weight": "0.9",
        "micro batch": "7",
        "processes": "2",
    }
    assert {name: facts.get(name) for name in expected} == expected
