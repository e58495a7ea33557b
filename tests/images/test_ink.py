"""A person's drawing gets the look of a digit set: bright ink, black frame, the right size, in the middle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

import convatlas as ca
from convatlas.images import reframe
from convatlas.images.ink import ink_span, is_blank, is_of_set
from convatlas.runs.options import Runtime

INK = 0.7


def drawing(
    paper: int = 255, ink: int = 0, size: tuple[int, int] = (200, 160), at: tuple[int, int] = (40, 30), scale: int = 1
) -> Image.Image:
    """A figure seven: 60 by 90 pixels at scale 1."""
    image = Image.new("L", size, paper)
    draw = ImageDraw.Draw(image)
    left, top = at
    draw.rectangle((left, top, left + 60 * scale - 1, top + 10 * scale - 1), fill=ink)
    draw.rectangle((left + 40 * scale, top, left + 50 * scale - 1, top + 90 * scale - 1), fill=ink)
    return image


def values(image: Image.Image, side: int | None = None) -> npt.NDArray[np.float64]:
    shown = image if side is None else image.resize((side, side), Image.Resampling.BOX)
    return np.asarray(shown, dtype=np.float64)


def as_set(*images: Image.Image) -> npt.NDArray[np.uint8]:
    return np.stack([np.asarray(image, np.uint8)[None] for image in images])


def test_frame_is_a_gray_square_of_bright_ink_on_black() -> None:
    frame = reframe(drawing(), INK)
    assert frame.mode == "L"
    assert frame.width == frame.height
    assert (values(frame).min(), values(frame).max()) == (0, 255)
    border = np.concatenate([values(frame)[[0, -1]], values(frame)[:, [0, -1]].T])
    assert (border == 0).all()


@given(ink=st.floats(0.3, 1.0))
def test_ink_spans_the_given_part_of_the_frame_in_its_middle(ink: float) -> None:
    frame = values(reframe(drawing(), ink))
    rows, columns = np.nonzero(frame)
    assert np.ptp(rows) + 1 == 90
    assert (np.ptp(rows) + 1) / len(frame) == pytest.approx(ink, abs=1 / len(frame))
    for places in (rows, columns):
        assert (places.min() + places.max() + 1) / 2 == pytest.approx(len(frame) / 2, abs=1)


def test_dark_on_white_and_bright_on_black_give_the_same_frame() -> None:
    assert np.array_equal(reframe(drawing(255, 0), INK), reframe(drawing(0, 255), INK))


@pytest.mark.at_once(("paper", "ink"), [(230, 60), (180, 20), (250, 200), (30, 220), (0, 90), (128, 0)])
def test_frame_does_not_depend_on_how_dark_ink_and_paper_are(paper: int, ink: int) -> None:
    assert np.array_equal(reframe(drawing(paper, ink), INK), reframe(drawing(), INK))


@given(left=st.integers(1, 130), top=st.integers(1, 60))
def test_frame_does_not_depend_on_where_the_ink_is(left: int, top: int) -> None:
    assert np.array_equal(reframe(drawing(at=(left, top)), INK), reframe(drawing(), INK))


def framed_in_floats(image: Image.Image, ink: float) -> Image.Image:
    """`reframe` with an array of floats for all pixels."""
    gray = np.asarray(image.convert("L"), dtype=np.float32)
    paper = np.median(np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]]))
    brighter, darker = (gray - paper).clip(min=0), (paper - gray).clip(min=0)
    expected, other = (brighter, darker) if paper <= 127 else (darker, brighter)
    found = other if expected.max() < 25 <= other.max() else expected
    if found.max() < 25:
        return Image.new("L", image.size)
    rows, columns = np.nonzero(found > 0.4 * found.max())
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    bright = Image.fromarray((found * (255 / found.max())).round().astype(np.uint8)).crop(box)
    if max(bright.size) > 512:
        width, height = (max(round(512 * side / max(bright.size)), 1) for side in bright.size)
        bright = bright.resize((width, bright.height)).resize((width, height))
    side = round(max(bright.size) / ink)
    frame = Image.new("L", (side, side))
    frame.paste(bright, ((side - bright.width) // 2, (side - bright.height) // 2))
    return frame


@pytest.mark.parametrize("size", [(1400, 300), (200, 1900)])
def test_large_ink_is_made_smaller_rows_first(size: tuple[int, int]) -> None:
    image = Image.new("L", size, 250)
    ImageDraw.Draw(image).ellipse((20, 30, size[0] - 40, size[1] - 20), outline=30, width=15)
    framed = reframe(image, INK)
    assert framed.width == round(512 / INK)
    assert np.array_equal(framed, framed_in_floats(image, INK))


@given(
    width=st.integers(1, 40), height=st.integers(1, 40), low=st.integers(0, 255), high=st.integers(0, 255),
    paper=st.integers(0, 255), seed=st.integers(0, 99), ink=st.floats(0.1, 1),
)  # fmt: skip
def test_a_table_of_levels_frames_as_floats_of_every_pixel_do(
    width: int, height: int, low: int, high: int, paper: int, seed: int, ink: float
) -> None:
    draw = np.random.default_rng(seed)
    pixels = draw.integers(min(low, high), max(low, high) + 1, (height, width), np.uint8)
    pixels[draw.random((height, width)) < 0.7] = paper
    image = Image.fromarray(pixels)
    assert np.array_equal(reframe(image, ink), framed_in_floats(image, ink))


def test_frame_of_a_larger_drawing_shows_the_same() -> None:
    small, large = reframe(drawing(), INK), reframe(drawing(size=(700, 500), at=(90, 60), scale=3), INK)
    assert large.width > small.width
    assert np.abs(values(large, 28) - values(small, 28)).mean() < 3


def test_color_drawing_is_read_as_gray() -> None:
    assert np.array_equal(reframe(drawing().convert("RGB"), INK), reframe(drawing(), INK))


def test_faint_speckles_of_the_paper_are_not_taken_for_ink() -> None:
    speckled = np.asarray(drawing()).copy()
    speckled[5, 5] = speckled[150, 190] = 200
    assert reframe(Image.fromarray(speckled), INK).size == reframe(drawing(), INK).size


@pytest.mark.at_once("size", [(1, 1), (1, 40), (30, 20)])
@pytest.mark.at_once("paper", [0, 20, 128, 255])
def test_blank_page_stays_blank_at_its_size(paper: int, size: tuple[int, int]) -> None:
    frame = reframe(Image.new("L", size, paper), INK)
    assert frame.size == size
    assert np.ptp(values(frame)) == 0


@given(
    width=st.integers(1, 12),
    height=st.integers(1, 12),
    ink=st.floats(0.05, 1.0),
    seed=st.integers(0, 1000),
)
def test_any_image_gives_a_gray_image(width: int, height: int, ink: float, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    frame = reframe(Image.fromarray(noise), ink)
    assert frame.mode == "L"
    assert min(frame.size) >= 1


def test_the_given_drawing_is_left_as_it_was() -> None:
    image = drawing()
    reframe(image, INK)
    assert np.array_equal(image, drawing())


def test_span_is_the_mean_of_the_inks_longer_sides() -> None:
    images = np.zeros((2, 1, 40, 40), np.uint8)
    images[0, 0, 10:20, 12:15] = 255
    images[1, 0, 10:12, 5:25] = 200
    assert ink_span(images) == pytest.approx((10 + 20) / 2 / 40)


@given(ink=st.floats(0.3, 0.9))
def test_reframed_drawings_span_what_they_were_reframed_to(ink: float) -> None:
    frame = reframe(drawing(), ink)
    assert ink_span(as_set(frame)) == pytest.approx(ink, abs=1 / frame.width)


def test_empty_frames_do_not_count_for_the_span() -> None:
    frame = reframe(drawing(), INK)
    empty = Image.new("L", frame.size)
    assert ink_span(as_set(frame, empty)) == ink_span(as_set(frame))


def test_images_without_any_ink_have_no_span() -> None:
    assert ink_span(np.zeros((3, 1, 8, 8), np.uint8)) is None
    dots = np.zeros((3, 1, 100, 100), np.uint8)
    dots[:, :, 50, 50] = 255
    assert ink_span(dots) is None


@pytest.mark.at_once("paper", [0, 60, 127, 128, 200, 255])
@pytest.mark.at_once("ink", [0, 255])
def test_paper_without_ink_is_blank(paper: int, ink: int) -> None:
    page = np.full((20, 20), paper, np.uint8)
    assert is_blank(Image.fromarray(page))
    # A little noise is no ink.
    page[2:9] = paper + 20 if paper < 200 else paper - 20
    assert is_blank(Image.fromarray(page))
    page[8:12, 8:12] = ink
    assert is_blank(Image.fromarray(page)) == (paper == ink)


@pytest.mark.parametrize(("paper", "ink"), [(150, 255), (100, 0)])
def test_ink_may_be_on_the_other_side_of_gray_paper(paper: int, ink: int) -> None:
    """Chalk on a light board, and ink on dark paper."""
    assert np.array_equal(reframe(drawing(paper, ink), INK), reframe(drawing(), INK))


def test_a_highlight_on_light_paper_is_not_taken_for_faint_ink() -> None:
    page = np.asarray(drawing(190, 150)).copy()
    page[2:6, 2:6] = 255
    assert np.array_equal(reframe(Image.fromarray(page), INK), reframe(drawing(), INK))


def test_an_image_of_the_set_has_its_size_and_dark_paper() -> None:
    digit = drawing(0, 255, size=(160, 160))
    assert is_of_set(digit, 160)
    assert not is_of_set(digit, 28)
    assert not is_of_set(digit, None)
    assert not is_of_set(drawing(255, 0, size=(160, 160)), 160)
    assert not is_of_set(drawing(0, 255, size=(160, 170)), 160)


def drawn_dark(side: int, digit: Image.Image) -> Image.Image:
    return ImageOps.invert(digit.resize((side, side)))


@pytest.mark.slow
def test_digits_drawn_dark_on_white_are_read_at_any_size(needs_data: Callable[[str], Path], tmp_path: Path) -> None:
    needs_data("mnist")
    model = ca.train("lenet5-modern", "mnist", epochs=1, runtime=Runtime(autotune=False), out=tmp_path).model
    test = model.load_data().test
    digits = [Image.fromarray(pixels[0]) for pixels in test.images[:1000]]

    def accuracy(change: Callable[[Image.Image], Image.Image]) -> float:
        predictions = model.predict([change(digit) for digit in digits], device="cpu")
        return float(np.mean([int(p.classes[0]) == label for p, label in zip(predictions, test.labels, strict=False)]))

    plain = accuracy(lambda digit: digit)
    assert plain > 0.96
    for side in (28, 56):
        assert accuracy(partial(drawn_dark, side)) > plain - 0.02
