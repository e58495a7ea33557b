"""What earlier versions wrote opens, evaluates, predicts and resumes as it did."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import convatlas as ca
from convatlas.errors import UserError

FORMATS = Path(__file__).parent / "formats"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FORMATS / "expected.json").read_text())
HALF = ("half-choices", "half-paper", "half-taught")


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
    assert evaluation.accuracy == EXPECTED[name]["test_accuracy"]
    assert evaluation.loss == pytest.approx(EXPECTED[name]["test_loss"], rel=1e-4)


@pytest.mark.parametrize("name", HALF)
def test_it_resumes_to_the_weights_of_an_undisturbed_training(formats: Path, name: str) -> None:
    with pytest.raises(UserError, match="not finished"):
        _ = ca.load(formats / name).network
    run = ca.resume(formats / name)
    expected = load_file(formats / name / "expected.safetensors")
    found = load_file(run.folder / "weights.safetensors")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # On a machine of another kind the last bits may differ.
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4)
