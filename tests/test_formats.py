"""What earlier versions wrote opens, evaluates, predicts and resumes as it did."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import convatlas as ca
from convatlas.data.images import Decoding
from convatlas.errors import UserError
from convatlas.training import Progress

FORMATS = Path(__file__).parent / "formats"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FORMATS / "expected.json").read_text())
HALF = ("half-choices", "half-paper", "half-taught", "half-folder", "half-jpeg")
ROOM = {"raw": "1GB", "jpeg": "40KB"}
"""Of the cache, so that it keeps the images of the folder as pixels or as JPEG."""
OF_FOLDER = ("format-1-folder", "format-2-folder", "format-3-folder", "format-3-jpeg")


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder whose records name it."""
    root = tmp_path_factory.mktemp("earlier") / "formats"
    shutil.copytree(FORMATS, root)
    for record in root.rglob("run.json"):
        record.write_text(record.read_text().replace("FORMATS", str(root)))
    return root


@pytest.mark.parametrize("name", EXPECTED)
def test_it_predicts_as_it_did(formats: Path, name: str) -> None:
    opened = ca.load(formats / name)
    for image, probabilities in EXPECTED[name]["predictions"].items():
        path = formats / image if image.startswith("images/") else FORMATS.parents[1] / "docs" / image
        prediction = opened.predict(path)
        found = dict(zip(prediction.classes, prediction.probabilities, strict=True))
        # Earlier versions scaled large drawings down less exactly; see `images.resize.REDUCING_GAP`.
        tolerance = 1e-4 if image.startswith("images/") else 5e-3
        assert found == pytest.approx(probabilities, abs=tolerance), image


@pytest.mark.parametrize("name", [name for name, row in EXPECTED.items() if row["test_accuracy"] is not None])
def test_it_evaluates_as_it_did(formats: Path, name: str) -> None:
    evaluation = ca.load(formats / name).evaluate(device="cpu")
    # Earlier versions rounded twice.
    assert evaluation.accuracy == pytest.approx(EXPECTED[name]["test_accuracy"], abs=1e-12)
    assert evaluation.loss == pytest.approx(EXPECTED[name]["test_loss"], rel=1e-4)


@pytest.fixture
def room(decoded_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`room("jpeg")` empties the cache and gives it that room."""

    def give(kind: str) -> None:
        shutil.rmtree(decoded_cache, ignore_errors=True)
        monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", ROOM[kind])

    return give


@pytest.mark.parametrize("kind", ROOM)
@pytest.mark.parametrize("name", OF_FOLDER)
def test_a_folder_is_the_same_data_however_the_cache_holds_it(
    formats: Path, name: str, kind: str, room: Callable[[str], None], tmp_path: Path
) -> None:
    room(kind)
    run = ca.load(formats / name)
    assert isinstance(run, ca.Run)
    expected = EXPECTED[name]["recorded_accuracy"]
    assert run.evaluate(device="cpu").accuracy == expected
    assert (run.load_data().train.reader.decoding is Decoding.JPEG) == (kind == "jpeg")
    for path in (tmp_path / "model", tmp_path / "model.cva"):
        run.model.save(path)
        assert ca.load(path).evaluate(formats / "images", device="cpu").accuracy == expected
    shutil.copytree(formats / "images", tmp_path / "images")
    (tmp_path / "images" / "disk" / "3.png").unlink()
    with pytest.raises(UserError, match=r"19 images, and not 20;"):
        run.evaluate(tmp_path / "images")
    shutil.copy(formats / "images" / "square" / "0.png", tmp_path / "images" / "disk" / "3.png")
    with pytest.raises(
        UserError, match=r"the same classes, but other images, or their names put them in another order"
    ):
        run.evaluate(tmp_path / "images")


class Listener(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(("name", "kind"), [("half-folder", "jpeg"), ("half-jpeg", "raw")])
def test_it_resumes_on_another_kind_of_cache_and_says_so(
    formats: Path, name: str, kind: str, room: Callable[[str], None], tmp_path: Path
) -> None:
    room(kind)
    shutil.copytree(formats / name, tmp_path / name)
    listener = Listener()
    run = ca.resume(tmp_path / name, progress=listener)
    now, before = ("JPEG", "pixels") if kind == "jpeg" else ("exact pixels", "JPEG")
    (line,) = listener.lines
    assert f"as {now} now, and read them as {before}" in line
    assert "its weights will differ from those of an undisturbed run" in line
    assert [decoding is Decoding.JPEG for decoding in run.record.decoding] == [kind == "raw", kind == "jpeg"]
    expected = load_file(formats / name / "expected.safetensors")
    found = load_file(run.folder / "weights.safetensors")
    assert any((found[key] != value).any() for key, value in expected.items())
    assert run.evaluate(device="cpu").score == run.score


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "half-paper" else []) for name in HALF]
)
def test_it_resumes_to_the_weights_of_an_undisturbed_training(
    formats: Path, name: str, room: Callable[[str], None]
) -> None:
    room("jpeg" if name == "half-jpeg" else "raw")
    with pytest.raises(UserError, match="not finished"):
        _ = ca.load(formats / name).network
    run = ca.resume(formats / name)
    expected = load_file(formats / name / "expected.safetensors")
    found = load_file(run.folder / "weights.safetensors")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # On a machine of another kind the last bits may differ.
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
