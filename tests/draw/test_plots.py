import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from convatlas.draw import confusion, curves

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: bytes) -> list[str]:
    """What a reader of the plot can read; parsing fails where it is no well-formed XML."""
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


def epochs(num: int, *, loss: float = 0.5, accuracy: float = 0.9) -> list[dict[str, float]]:
    return [{"epoch": i + 1, "loss": loss / (i + 1), "accuracy": accuracy} for i in range(num)]


def diagonal(num: int) -> np.ndarray:
    return np.diag(np.full(num, 1234)).astype(np.int64)


@pytest.mark.parametrize(
    "classes",
    [
        ("cat", "dog"),
        tuple("0123456789"),
        ("R&D", "<none>", '"quoted"', "it's"),
        ("a_b", "c^d", "e\\f", "50 %", "#1"),
        ("naïve", "größer", "лев"),
        ("猫", "犬"),
        ("$5", "$10 to $20", "$x$"),
        ("$\\bad$", "fine"),
        ("great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias", "tench, Tinca tinca"),
    ],
    ids=lambda classes: classes[0][:12],
)
def test_every_class_is_named_on_both_sides_as_the_person_wrote_it(classes: tuple[str, ...]) -> None:
    shown = texts(confusion("title", classes, diagonal(len(classes))))
    for name in classes:
        assert shown.count(name) == 2


def test_the_axes_of_the_confusion_matrix_say_what_they_are() -> None:
    assert {"truth", "answer", "lenet5 on digits"} <= set(texts(confusion("lenet5 on digits", ("a", "b"), diagonal(2))))


def test_every_count_that_is_not_zero_is_written_in_its_cell() -> None:
    counts = np.array([[81, 0, 3], [0, 92, 0], [14, 5, 76]])
    shown = texts(confusion("title", ("a", "b", "c"), counts))
    assert [text for text in shown if text.isdigit()] == ["81", "3", "92", "14", "5", "76"]


def test_a_row_is_a_true_class_and_a_column_an_answer() -> None:
    # Nine pictures of "b" were taken for "a": the cell stands left and below.
    svg = ET.fromstring(confusion("title", ("a", "b"), np.array([[0, 0], [9, 0]])))
    places: dict[str, list[tuple[float, float]]] = {}
    for text in svg.iter(f"{SVG}text"):
        places.setdefault("".join(text.itertext()), []).append((float(text.attrib["x"]), float(text.attrib["y"])))
    # Names stand below the columns first, then beside the rows.
    (x, y), (left, _), (_, below) = places["9"][0], places["a"][0], places["b"][1]
    assert x == pytest.approx(left, abs=4)
    assert y == pytest.approx(below, abs=4)


@pytest.mark.parametrize("num", [2, 30, 31, 100])
def test_any_number_of_classes_can_be_drawn(num: int) -> None:
    shown = texts(confusion("many", [f"class {i}" for i in range(num)], diagonal(num)))
    assert "many" in shown


def test_a_class_without_pictures_and_a_set_without_errors_can_be_drawn() -> None:
    assert "4" in texts(confusion("title", ("seen", "never"), np.array([[4, 0], [0, 0]])))
    assert texts(confusion("title", ("a", "b"), np.zeros((2, 2), np.int64)))


@pytest.mark.parametrize("title", ["a & b <c>", "$5 and $10", "$\\bad$ 100 %", "猫"])
def test_a_title_is_shown_as_it_is_written(title: str) -> None:
    assert title in texts(curves(title, epochs(3)))
    assert title in texts(confusion(title, ("a", "b"), diagonal(2)))


def test_the_curves_say_what_they_show() -> None:
    shown = texts(curves("lenet5 on digits", epochs(5)))
    assert "lenet5 on digits" in shown
    for words in ("epoch", "training loss", "training error, %"):
        assert any(text.startswith(words) for text in shown)


@pytest.mark.parametrize(
    "metrics",
    [epochs(1), epochs(1, accuracy=1.0), epochs(3, loss=0.0, accuracy=1.0), epochs(4, accuracy=0.0), epochs(200)],
    ids=["one epoch", "one epoch, no error", "no loss, no error", "nothing right", "200 epochs"],
)
def test_any_course_of_training_can_be_drawn(metrics: list[dict[str, float]]) -> None:
    assert "title" in texts(curves("title", metrics))


def is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


@pytest.mark.parametrize("num", [1, 2, 3])
def test_epochs_are_counted_in_whole_numbers(num: int) -> None:
    # Loss and error are far from the epochs' numbers, so that a label near those is an epoch's.
    shown = texts(curves("title", [{"epoch": i + 1, "loss": 200.0 + i, "accuracy": 0.2} for i in range(num)]))
    labels = {text for text in shown if is_number(text) and 0.5 < float(text) < num + 0.5}
    assert labels == {str(i + 1) for i in range(num)}


def test_the_same_plot_is_the_same_bytes() -> None:
    counts = np.arange(9, dtype=np.int64).reshape(3, 3)
    assert confusion("title", ("a", "b", "c"), counts) == confusion("title", ("a", "b", "c"), counts)
    assert curves("title", epochs(4)) == curves("title", epochs(4))


def test_another_process_draws_the_same_bytes() -> None:
    code = """
import sys
from convatlas.draw import curves
sys.stdout.buffer.write(curves("title", [{"epoch": 1, "loss": 0.5, "accuracy": 0.9}]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert done.stdout == curves("title", epochs(1))


def test_no_date_is_written_into_a_plot() -> None:
    for svg in (curves("title", epochs(2)), confusion("title", ("a", "b"), diagonal(2))):
        assert b"date>" not in svg


def test_drawing_changes_no_setting_and_no_counts() -> None:
    before = dict(mpl.rcParams)
    counts = diagonal(3)
    confusion("title", ("a", "b", "c"), counts)
    curves("title", epochs(2))
    assert dict(mpl.rcParams) == before
    assert (counts == diagonal(3)).all()
