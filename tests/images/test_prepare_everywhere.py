"""One image, one array: from its path, opened, from memory, through the cache, in prediction and in evaluation.

Images of every mode, bit depth, orientation and size, in every container that Pillow writes and we read.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, PngImagePlugin

import convatlas as ca
from convatlas.data import Batches, Split
from convatlas.data.folder import Folder
from convatlas.data.folder_images import FolderImages
from convatlas.files.decoded_cache import EntryKind
from convatlas.images import (
    Interpolation,
    Preprocessing,
    Resize,
    ResizeMode,
    bands,
    decode,
    decode_content,
    decode_opened,
    pillow_silenced,
)
from convatlas.models.evaluation import evaluation_batches
from convatlas.models.predictions import collect_predictions
from convatlas.runs.options import Runtime

MODES = (
    "1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV",
    "I", "F", "I;16", "I;16B", "I;16L", "I;16N",
)  # fmt: skip
DEPTHS = {"I;16": (4095, 65535), "I": (255, 4095, 65535), "F": (1, 255)}
"""What white is in modes of more than 8 bits."""
CONTAINERS: dict[str, dict[str, Any]] = {
    "png": {}, "jpg": {}, "bmp": {}, "gif": {}, "tif": {}, "webp": {"lossless": True, "exact": True}, "ppm": {},
    "avif": {"speed": 10}, "jp2": {},
}  # fmt: skip
ORIENTATION = 0x0112
CARRIERS = {
    "png": ("exif", "xmp", "text"), "jpg": ("exif", "xmp"), "tif": ("exif", "xmp"), "webp": ("exif", "xmp"),
    "avif": ("exif", "xmp"),
}  # fmt: skip
"""Where each container says how its image is turned."""
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'
UPRIGHT = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""How an image of each orientation is turned upright."""
NETWORKS = (
    Preprocessing(resize=12, crop=10, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    Preprocessing(
        resize=9, crop=9, channels=1, mean=(0.5,), std=(0.25,), mode=ResizeMode.LETTERBOX,
        interpolation=Interpolation.LANCZOS, native_side=7,
    ),
)  # fmt: skip


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft colors, partly transparent, no two corners alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    return Image.fromarray(coarse, "RGBA").resize((width, height), Image.Resampling.BILINEAR)


def in_mode(image: Image.Image, mode: str, white: float = 255) -> Image.Image:
    """An RGBA image in another mode, with `white` for white."""
    gray = np.asarray(image.convert("L"), np.float64) / 255 * white
    match mode:
        case "I;16" | "I;16L" | "I;16N" | "I;16B":
            kind = ">u2" if mode == "I;16B" else "<u2"
            return Image.frombytes(mode, image.size, gray.round().astype(kind).tobytes())
        case "I":
            return Image.fromarray(gray.round().astype(np.int32))
        case "F":
            return Image.fromarray(gray.astype(np.float32))
        case "1":
            return image.convert("1", dither=Image.Dither.NONE)
        case "P":
            return image.convert("RGB").quantize(16)
        case "PA":
            return image.convert("RGB").quantize(16).convert("PA")
        case "La":
            return image.convert("LA").convert("La")
        case "LAB" | "HSV":
            return image.convert("RGB").convert(mode)
    return image.convert(mode)


def saved(image: Image.Image, path: Path, orientation: int = 1, carrier: str | None = None) -> Path:
    how = dict(CONTAINERS[path.suffix[1:]])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    text = XMP.format(orientation)
    match path.suffix, carrier:
        case ".png", "xmp" | "text":
            how["pnginfo"] = PngImagePlugin.PngInfo()
            if carrier == "xmp":
                how["pnginfo"].add_itxt("XML:com.adobe.xmp", text)
            else:
                content = exif.tobytes()
                how["pnginfo"].add_text("Raw profile type exif", f"\nexif\n{len(content):8}\n{content.hex()}\n")
        case ".tif", "xmp":
            how["tiffinfo"] = {700: text.encode()}
        case _, "xmp":
            how["xmp"] = text.encode()
        case _, "exif":
            how["exif"] = exif
    image.save(path, **how)
    return path


@functools.cache
def writable() -> tuple[tuple[str, str], ...]:
    """The containers and modes that go together."""
    pairs = []
    for suffix in CONTAINERS:
        for mode in MODES:
            file = io.BytesIO()
            try:
                in_mode(scene(4, 3), mode).save(file, Image.registered_extensions()[f".{suffix}"])
            except (OSError, KeyError, ValueError, SystemError):
                continue
            pairs.append((suffix, mode))
    return tuple(pairs)


def white_of(mode: str, pick: int) -> float:
    depths = DEPTHS.get(mode.rstrip("BLN") if mode.startswith("I;16") else mode, (255,))
    return depths[pick % len(depths)]


def is_same(image: Image.Image, other: Image.Image) -> bool:
    """Whether both hold the same values of the same mode, so that nothing was lost on the way to a file and back."""
    if image.format in ("PPM", "JPEG2000") and image.mode.startswith("I"):
        # The file says how many bits its values have.
        return False
    return (
        (image.mode, image.size, image.tobytes()) == (other.mode, other.size, other.tobytes())
        and image.getpalette("RGB") == other.getpalette("RGB")
        and image.info.get("transparency") == other.info.get("transparency")
    )


def check_entrances(path: Path, image: Image.Image) -> None:
    """Fail unless every entrance gives the same.

    Args:
        image: what was written to the path.
    """
    content = path.read_bytes()
    for network in NETWORKS:
        expected = network.prepare(path)

        def same(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32] = expected) -> None:
            assert np.array_equal(found, expected)

        same(network.prepare(str(path)))
        with Image.open(path) as opened:
            same(network.prepare(opened))
            # It is loaded now, and as it was.
            same(network.prepare(opened))
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            same(network.prepare(opened))
            if is_same(opened, image):
                same(network.prepare(image))
        with pillow_silenced():
            decoded = decode_content(io.BytesIO(content), path)
        same(network.prepare(decoded))
        same(network.prepare(np.asarray(decoded)))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("everywhere")


images = st.fixed_dictionaries(
    {
        "pair": st.sampled_from(writable()),
        "width": st.integers(1, 40),
        "height": st.integers(1, 40),
        "pick": st.integers(0, 5),
        "orientation": st.sampled_from(list(UPRIGHT)),
        "seed": st.integers(0, 20),
    }
)


def check(drawn: dict[str, Any], scratch: Path) -> None:
    suffix, mode = drawn["pair"]
    image = in_mode(scene(drawn["width"], drawn["height"], drawn["seed"]), mode, white_of(mode, drawn["pick"]))
    plain = decode(saved(image, scratch / f"plain.{suffix}"))
    check_entrances(scratch / f"plain.{suffix}", image)
    carriers = CARRIERS.get(suffix)
    if carriers is None:
        return
    orientation = drawn["orientation"]
    path = saved(image, scratch / f"turned.{suffix}", orientation, carriers[drawn["pick"] % len(carriers)])
    turn = UPRIGHT[orientation]
    assert np.array_equal(decode(path), plain if turn is None else plain.transpose(turn))
    check_entrances(path, image if turn is None else Image.new("1", (1, 1)))


@settings(max_examples=60)
@given(drawn=images)
def test_every_entrance_gives_the_same_array(drawn: dict[str, Any], scratch: Path) -> None:
    check(drawn, scratch)


@pytest.mark.slow
@settings(max_examples=1000)
@given(drawn=images)
def test_every_entrance_gives_the_same_array_of_many_more(drawn: dict[str, Any], scratch: Path) -> None:
    check(drawn, scratch)


@settings(max_examples=100)
@given(drawn=images, pixels=st.integers(1, 300))
def test_bands_of_rows_show_what_the_whole_image_shows(drawn: dict[str, Any], pixels: int, scratch: Path) -> None:
    suffix, mode = drawn["pair"]
    image = in_mode(scene(drawn["width"], drawn["height"], drawn["seed"]), mode, white_of(mode, drawn["pick"]))
    carriers = CARRIERS.get(suffix, (None,))
    path = saved(image, scratch / f"banded.{suffix}", drawn["orientation"], carriers[drawn["pick"] % len(carriers)])
    for shown in (lambda: decode(path), lambda: decode_opened(image)):
        whole = shown()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bands, "PIXELS", pixels)
            banded = shown()
        assert (banded.mode, banded.size, banded.tobytes()) == (whole.mode, whole.size, whole.tobytes())


@pytest.mark.at_once("mode", MODES)
def test_an_image_in_memory_shows_what_it_shows_in_rgb(mode: str) -> None:
    """Whatever its mode, but for what the mode cannot hold."""
    rgba = scene(24, 18)
    opaque = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    has_alpha = mode in ("LA", "La", "RGBA", "RGBa")
    expected = opaque if has_alpha else rgba
    for white in {white_of(mode, pick) for pick in range(3)}:
        found = decode_opened(in_mode(rgba, mode, white))
        gray = mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")
        assert found.mode == ("L" if gray else "RGB")
        if mode != "1":
            difference = ImageChops.difference(found, expected.convert(found.mode))
            assert np.asarray(difference).mean() < (25 if mode in ("P", "PA") else 6)


# Animations, drafts, and what was done to an opened image


FRAMES = [scene(20, 14, seed).convert("RGB") for seed in (1, 2, 3)]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif", "avif"])
def test_an_opened_animation_is_its_current_frame(suffix: str, tmp_path: Path) -> None:
    network = NETWORKS[0]
    path = tmp_path / f"a.{suffix}"
    FRAMES[0].save(path, save_all=True, append_images=FRAMES[1:], **CONTAINERS[suffix])
    with Image.open(path) as opened:
        for place in (0, 2, 1, 0):
            opened.seek(place)
            shown = network.prepare(opened.convert("RGB"))
            assert np.array_equal(network.prepare(opened), shown)
            assert opened.tell() == place
            if place == 0:
                assert np.array_equal(shown, network.prepare(path))
    # A tenth of the range: frames differ by far more.
    assert np.abs(network.prepare(path) - network.prepare(FRAMES[0])).mean() < 0.3


def test_a_drafted_image_is_what_it_was_scaled_to(tmp_path: Path) -> None:
    scene(400, 300).convert("RGB").save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as opened:
        opened.draft("RGB", (100, 75))
        assert decode_opened(opened).size == (100, 75)
        opened.save(tmp_path / "drafted.png")
        assert np.array_equal(NETWORKS[0].prepare(opened), NETWORKS[0].prepare(tmp_path / "drafted.png"))


# Through the cache


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of images of every container and mode, of many sizes and orientations."""
    root = tmp_path_factory.mktemp("everything") / "photos"
    for name, largest in (("cat", 5), ("dog", 90)):
        (root / name).mkdir(parents=True)
        for i, (suffix, mode) in enumerate(writable()):
            # Nothing comes near the edges of what is black or white alone.
            side = min(largest, 20) if mode == "1" else largest
            image = in_mode(scene(side + i % 7, side + i % 30, i), mode, white_of(mode, i))
            carriers = CARRIERS.get(suffix, (None,))
            path = saved(image, root / name / f"{i:03}.{suffix}", 1 + i % 8, carriers[i % len(carriers)])
            # The content says what it is.
            path.rename(path.with_suffix(".png"))
    return root


def shown(network: Preprocessing, split: Split) -> npt.NDArray[np.float32]:
    """The network's inputs in evaluation, (n, channels, crop, crop)."""
    batches = Batches(split, network, num_classes=2, batch_size=7, device=torch.device("cpu"))
    return torch.cat([batches.in_order(step).inputs for step in range(len(batches))]).numpy()


@pytest.mark.parametrize(
    ("resize", "limit", "kind"),
    [
        pytest.param(Resize(8), "1GB", EntryKind.RAW, marks=pytest.mark.slow),
        pytest.param(
            Resize(24, ResizeMode.SQUASH, Interpolation.BICUBIC), "1GB", EntryKind.RAW, marks=pytest.mark.slow
        ),
        (Resize(24), "300KB", EntryKind.JPEG),
    ],
    ids=["small", "squashed", "jpeg"],
)
def test_the_cache_gives_what_preparing_gives(
    resize: Resize, limit: str, kind: EntryKind, everything: Path, decoded_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", limit)
    dataset = Folder(everything).load(resize)
    assert dataset.skipped == ()
    assert len(dataset.train) + len(dataset.test) == 2 * len(writable())
    network = Preprocessing(
        resize=resize.side, crop=resize.side, channels=3, mean=(0, 0, 0), std=(1, 1, 1), value_range=255.0,
        mode=resize.mode, interpolation=resize.interpolation,
    )  # fmt: skip
    for name, inputs in zip(dataset.test.names, shown(network, dataset.test), strict=True):
        assert np.array_equal(inputs, network.prepare(everything / name)), name
    images = dataset.train.images
    assert isinstance(images, FolderImages)
    assert images.entry.kind is kind
    approximate = images.entry.approximate[images.places]
    assert approximate.any()
    for name, image, is_approximate in zip(dataset.train.names, images[:], approximate, strict=True):
        difference = np.abs(image - network.prepare(everything / name))
        assert difference.mean() < 10 if is_approximate else not difference.any(), name


def test_predict_says_what_evaluate_says_image_by_image(everything: Path, tmp_path: Path) -> None:
    run = ca.train("lenet5-modern", data=everything, epochs=1, runtime=Runtime(autotune=False), out=tmp_path)
    model, test = run.model, run.model.load_data(everything).test
    with model.network_on(torch.device("cpu")) as network:
        evaluated = collect_predictions(
            network, model.variant.objective, evaluation_batches(model.card, test, torch.device("cpu"))
        )
    predicted = model.predict([everything / name for name in test.names], device="cpu")
    assert len(predicted) == len(evaluated) > 20
    for place, prediction in enumerate(predicted):
        assert prediction.classes[0] == model.classes[int(evaluated.predicted[place])]
        assert prediction.probabilities[0] == pytest.approx(float(evaluated.confidence[place]), abs=1e-6)
