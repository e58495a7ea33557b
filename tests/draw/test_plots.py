import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from convatlas.draw import confusion_matrix, reliability_diagram, training_curves

pytestmark = pytest.mark.usefixtures("drawn")

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: bytes) -> list[str]:
    """What a reader of the plot can read; parsing fails if it is not well-formed XML."""
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
        ("great white shark, man-eating shark", "tench, Tinca tinca"),
    ],
    ids=lambda classes: classes[0][:12],
)
def test_every_class_is_named_on_both_sides_as_the_person_wrote_it(classes: tuple[str, ...]) -> None:
    shown = texts(confusion_matrix("title", classes, diagonal(len(classes))))
    for name in classes:
        assert shown.count(name) == 2


def size_of(svg: bytes) -> tuple[float, float]:
    """Width and height in points."""
    root = ET.fromstring(svg)
    return float(root.attrib["width"].removesuffix("pt")), float(root.attrib["height"].removesuffix("pt"))


@pytest.mark.parametrize(
    ("num", "name"),
    [(12, "a" * 120 + "b" * 120), (30, "猫" * 240), (2, "אב" * 120), (2, "\U0001f600" * 60)],
    ids=["latin", "wide", "rtl", "emoji"],
)
def test_long_names_leave_the_confusion_matrix_its_room_and_are_whole_to_a_pointer(num: int, name: str) -> None:
    # Where names leave no room, matplotlib warns, and here a warning is an error.
    svg = confusion_matrix(name, [f"{i} {name}" for i in range(num)], diagonal(num))
    root = ET.fromstring(svg)
    assert [title.text for title in root.iter(f"{SVG}title")] == 2 * [f"{i} {name}" for i in range(num)]
    shown = texts(svg)
    assert max(map(len, shown)) <= 140
    assert sum("…" in text for text in shown) >= 2 * num
    # A cell has room for its count.
    counts = [text for text in root.iter(f"{SVG}text") if "".join(text.itertext()) == "1234"]
    across = [float(text.attrib["x"]) for text in counts]
    assert len(across) == num
    assert min(np.diff(across)) > 20
    assert 0 < min(across) < max(across) < size_of(svg)[0]


def test_a_name_of_two_lines_stands_on_one() -> None:
    assert texts(confusion_matrix("title", ("one\ntwo", "b"), diagonal(2))).count(r"one\ntwo") == 2


def test_a_long_title_stays_inside() -> None:
    for svg in (training_curves("z" * 300, epochs(2)), confusion_matrix("z" * 300, ("a", "b"), diagonal(2))):
        (title,) = (text for text in texts(svg) if "z" in text)
        assert title.startswith("zzz")
        assert "…" in title
        # A letter is some 6 points wide.
        assert 6 * len(title) < size_of(svg)[0]


def test_the_axes_of_the_confusion_matrix_say_what_they_are() -> None:
    assert {"true class", "predicted class", "lenet5 on digits"} <= set(
        texts(confusion_matrix("lenet5 on digits", ("a", "b"), diagonal(2)))
    )


def test_every_count_that_is_not_zero_is_written_in_its_cell() -> None:
    counts = np.array([[81, 0, 3], [0, 92, 0], [14, 5, 76]])
    shown = texts(confusion_matrix("title", ("a", "b", "c"), counts))
    assert [text for text in shown if text.isdigit()] == ["81", "3", "92", "14", "5", "76"]


def test_a_row_is_a_true_class_and_a_column_a_predicted_one() -> None:
    # Nine images of "b" were predicted as "a": the cell is at the lower left.
    svg = ET.fromstring(confusion_matrix("title", ("a", "b"), np.array([[0, 0], [9, 0]])))
    places: dict[str, list[tuple[float, float]]] = {}
    for text in svg.iter(f"{SVG}text"):
        places.setdefault("".join(text.itertext()), []).append((float(text.attrib["x"]), float(text.attrib["y"])))
    # Names stand below the columns first, then beside the rows.
    (x, y), (left, _), (_, below) = places["9"][0], places["a"][0], places["b"][1]
    assert x == pytest.approx(left, abs=4)
    assert y == pytest.approx(below, abs=4)


@pytest.mark.parametrize("num", [2, 31])
def test_any_number_of_classes_can_be_drawn(num: int) -> None:
    shown = texts(confusion_matrix("many", [f"class {i}" for i in range(num)], diagonal(num)))
    assert "many" in shown


def test_a_class_without_images_and_a_set_without_errors_can_be_drawn() -> None:
    assert "4" in texts(confusion_matrix("title", ("seen", "never"), np.array([[4, 0], [0, 0]])))
    assert texts(confusion_matrix("title", ("a", "b"), np.zeros((2, 2), np.int64)))


@pytest.mark.parametrize("title", ["a & b <c>", "$5 and $10", "$\\bad$ 100 %", "猫"])
def test_a_title_is_shown_as_it_is_written(title: str) -> None:
    assert title in texts(training_curves(title, epochs(3)))
    assert title in texts(confusion_matrix(title, ("a", "b"), diagonal(2)))


def test_the_curves_say_what_they_show() -> None:
    shown = texts(training_curves("lenet5 on digits", epochs(5)))
    assert "lenet5 on digits" in shown
    for words in ("epoch", "training loss", "training error, %"):
        assert any(text.startswith(words) for text in shown)


@pytest.mark.parametrize(
    "metrics",
    [epochs(1), epochs(1, accuracy=1.0), epochs(3, loss=0.0, accuracy=1.0), epochs(4, accuracy=0.0), epochs(200)],
    ids=["one epoch", "one epoch, no error", "no loss, no error", "nothing right", "200 epochs"],
)
def test_any_course_of_training_can_be_drawn(metrics: list[dict[str, float]]) -> None:
    assert "title" in texts(training_curves("title", metrics))


def is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


@pytest.mark.parametrize("num", [1, 2, 3])
def test_epochs_are_counted_in_whole_numbers(num: int) -> None:
    # Loss and error are far from the epochs' numbers, so that a label near those is an epoch's.
    shown = texts(training_curves("title", [{"epoch": i + 1, "loss": 200.0 + i, "accuracy": 0.2} for i in range(num)]))
    labels = {text for text in shown if is_number(text) and 0.5 < float(text) < num + 0.5}
    assert labels == {str(i + 1) for i in range(num)}


def test_the_same_plot_is_the_same_bytes() -> None:
    counts = np.arange(9, dtype=np.int64).reshape(3, 3)
    assert confusion_matrix("title", ("a", "b", "c"), counts) == confusion_matrix("title", ("a", "b", "c"), counts)
    assert training_curves("title", epochs(4)) == training_curves("title", epochs(4))


@pytest.mark.slow
def test_another_process_draws_the_same_bytes() -> None:
    code = """
import sys
from convatlas.draw import training_curves
sys.stdout.buffer.write(training_curves("title", [{"epoch": 1, "loss": 0.5, "accuracy": 0.9}]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert done.stdout == training_curves("title", epochs(1))


def test_no_date_is_written_into_a_plot() -> None:
    for svg in (training_curves("title", epochs(2)), confusion_matrix("title", ("a", "b"), diagonal(2))):
        assert b"date>" not in svg


def test_drawing_changes_no_setting_and_no_counts() -> None:
    before = dict(mpl.rcParams)
    counts = diagonal(3)
    confusion_matrix("title", ("a", "b", "c"), counts)
    training_curves("title", epochs(2))
    assert dict(mpl.rcParams) == before
    assert (counts == diagonal(3)).all()


def validated(num: int) -> list[dict[str, float]]:
    return [row | {"val_loss": 0.7, "val_accuracy": 0.8} for row in epochs(num)]


def test_validation_images_have_curves_of_their_own() -> None:
    shown = texts(training_curves("title", validated(5)))
    assert shown.count("validation") == shown.count("training") == 2
    assert {"loss", "error, %"} <= set(shown)
    assert "validation" not in texts(training_curves("title", epochs(5)))


def test_a_short_range_has_round_numbers_at_its_axis() -> None:
    # On a logarithmic axis they would read 2.05 x 10^0 and so on, or there would be none.
    rows = [{"epoch": i + 1, "loss": 2.1 - i / 50, "accuracy": 0.2 + i / 50} for i in range(5)]
    labels = [text for text in texts(training_curves("title", rows)) if is_number(text)]
    assert sum(2 <= float(text) <= 2.1 for text in labels) >= 3
    assert sum(70 <= float(text) <= 80 for text in labels) >= 3


@pytest.mark.parametrize("decades", [1, 2, 6])
def test_a_long_range_is_drawn_in_decades_with_plain_numbers(decades: int) -> None:
    rows = [{"epoch": i + 1, "loss": 300 * 10.0 ** (-decades * i / 9), "accuracy": 0.5} for i in range(10)]
    labels = [text for text in texts(training_curves("title", rows)) if is_number(text)]
    assert "100" in labels
    assert 2 <= sum(float(text) > 50 or float(text) < 1 for text in labels) <= 20


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bell\x07", r"bell\x07"),
        ("caf\udce9", r"caf\xe9"),
        ("\x00", r"\x00"),
        ("end\uffff", r"end\uffff"),
        ("a\tb", r"a\tb"),
    ],
)
def test_characters_that_no_file_can_hold_are_shown_as_in_a_terminal(name: str, shown: str) -> None:
    assert texts(confusion_matrix(name, (name, "b"), diagonal(2))).count(shown) == 3
    assert shown in texts(training_curves(name, epochs(2)))


def bars(svg: bytes) -> list[float]:
    """Heights of the filled bars, as parts of the highest."""
    heights = []
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        if "fill: #0072b2" in path.attrib.get("style", ""):
            numbers = [
                float(word) for word in path.attrib["d"].split() if word.lstrip("-").replace(".", "", 1).isdigit()
            ]
            heights.append(max(numbers[1::2]) - min(numbers[1::2]))
    return heights


def test_a_reliability_diagram_has_a_bar_for_each_bin_with_images() -> None:
    counts = np.array([0, 10, 0, 40, 50])
    svg = reliability_diagram(counts, np.array([0, 0.3, 0, 0.7, 0.95]), np.array([0, 0.25, 0, 0.5, 1.0]))
    # The legend's is drawn last.
    *heights, _ = bars(svg)
    assert [height / max(heights) for height in heights] == pytest.approx([0.25, 0.5, 1.0], abs=0.01)
    shown = set(texts(svg))
    assert {"accuracy", "images, %", "confidence"} <= shown
    assert {"gap", "accuracy", "perfect calibration"} <= shown


def test_a_reliability_diagram_of_anything_can_be_drawn() -> None:
    nothing = np.zeros(15)
    assert texts(reliability_diagram(np.zeros(15, np.int64), nothing, nothing))
    full = np.ones(15)
    assert reliability_diagram(np.arange(15), full, full) == reliability_diagram(np.arange(15), full, full)
