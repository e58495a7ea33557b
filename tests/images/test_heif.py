"""A phone's HEIC is read where pillow-heif is installed; elsewhere the error names the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.images import ImageError, decode, decode_draft, decode_opened, decoders, heif, identify, opened, why_not

HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
RAMP = np.add.outer(np.arange(64) * 2, np.arange(96)).astype(np.uint8)
PHOTOGRAPH = Image.fromarray(np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]]))


def test_without_the_package_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "version", lambda: None)
    (tmp_path / "a.heic").write_bytes(HEAD)
    assert identify(tmp_path / "a.heic") == "HEIF"
    with pytest.raises(ImageError) as caught:
        decode(tmp_path / "a.heic")
    assert caught.value.reason == why_not("HEIF")
    assert caught.value.reason == "a HEIF image (HEIC); pip install 'convatlas[heic]' to read it"


def test_installing_the_package_makes_another_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "version", lambda: None)
    before = decoders()
    monkeypatch.setattr(heif, "version", lambda: "1.8.1")
    assert decoders() != before
    assert why_not("HEIF") is None


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_heic_is_read_upright(mode: str, orientation: int, tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    tags = Image.Exif()
    tags[0x0112] = orientation
    path = tmp_path / "a.heic"
    PHOTOGRAPH.convert(mode).save(path, quality=95, exif=tags.tobytes())
    found = decode(path)
    upright = PHOTOGRAPH if orientation == 1 else PHOTOGRAPH.transpose(Image.Transpose.ROTATE_270)
    assert found.mode == ("L" if mode == "L" else "RGB")
    difference = np.asarray(found).astype(int) - np.asarray(upright.convert(found.mode))
    assert np.abs(difference).mean() < 3
    with Image.open(path) as image:
        assert np.array_equal(decode_opened(image), found)
    with opened(path) as file:
        assert np.array_equal(decode_draft(file, path, 8)[0], found)


def test_a_heic_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    PHOTOGRAPH.save(tmp_path / "a.heic")
    content = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(content[:-200])
    with pytest.raises(ImageError, match="damaged or cut short"):
        decode(tmp_path / "a.heic")
