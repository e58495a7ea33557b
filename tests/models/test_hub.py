"""Models on the Hugging Face hub: a folder's page, and a folder fetched from there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import convatlas as ca
from convatlas import atlas
from convatlas.errors import UserError
from convatlas.files.typed_json import encoded
from convatlas.images import Preprocessing
from convatlas.models.card import Card, Imported, Provenance, Score, StartedFrom
from convatlas.models.hub import readme_of
from convatlas.models.model import Model
from convatlas.runs.run import load

CARD = Card(
    variant="lenet5-modern",
    spec=encoded(atlas.find("lenet5-modern").spec),
    classes=tuple("0123456789"),
    preprocessing=Preprocessing(resize=32, crop=32, channels=1, mean=(0.1,), std=(0.3,)),
    provenance=Provenance(method="trained", data="digits"),
    params=1,
    macs=1,
)


def saved_model(folder: Path) -> Model:
    """Of `CARD`, in a folder."""
    network = ca.create("lenet5-modern")
    cost = ca.measure.layers(network)
    card = replace(CARD, params=cost.params, macs=cost.macs)
    return Model(card, load_network=lambda: network).save(folder)


def front_matter(page: str) -> dict[str, object]:
    _, front, _ = page.split("---\n", 2)
    values = yaml.safe_load(front)
    assert isinstance(values, dict)
    return values


def test_the_front_matter_says_library_task_and_accuracy() -> None:
    score = Score(accuracy=0.925, interval=(0.9, 0.94), num_errors=75, num_images=1000)
    page = readme_of(replace(CARD, score=score)).decode()
    front = front_matter(page)
    assert (front["library_name"], front["pipeline_tag"]) == ("convatlas", "image-classification")
    assert "lenet5-modern" in front["tags"]  # type: ignore[operator]
    (index,) = front["model-index"]  # type: ignore[misc]
    assert index["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.925}]
    assert "| test accuracy | 92.50 % of 1,000 images (95 % interval 90.00 % to 94.00 %) |" in page


@pytest.mark.parametrize("data", ["digits", "a: b # |c|", "猫\n---\n", "q\"uo'te", "\udcff"])
def test_any_name_of_data_leaves_the_front_matter_whole(data: str) -> None:
    page = readme_of(replace(CARD, provenance=replace(CARD.provenance, data=data))).decode()
    assert front_matter(page)["library_name"] == "convatlas"
    assert page.count("```python") == 1


def test_the_page_says_whose_weights_these_are() -> None:
    imported = Imported(weights="torchvision:resnet18", sha256="ab" * 32, license="BSD-3-Clause")
    page = readme_of(replace(CARD, provenance=replace(CARD.provenance, imported=imported))).decode()
    assert "| weights | of torchvision:resnet18 |" in page
    assert "| license of the weights | BSD-3-Clause |" in page


@pytest.mark.parametrize(
    ("weights", "license", "fields"),
    [
        ("torchvision:resnet18", "BSD-3-Clause", {"license": "bsd-3-clause"}),
        ("timm:resnet18.a1_in1k", "Apache-2.0", {"license": "apache-2.0", "base_model": "timm/resnet18.a1_in1k"}),
        ("hf:owner/name@v1", "", {"base_model": "owner/name"}),
        ("hf:no name", "", {}),
        ("", "", {}),
    ],
)
def test_the_hub_is_told_what_training_started_from(weights: str, license: str, fields: dict[str, str]) -> None:
    started = StartedFrom(weights=weights, sha256="ab" * 32, license=license)
    page = readme_of(replace(CARD, provenance=replace(CARD.provenance, started_from=started))).decode()
    front = front_matter(page)
    assert {name: value for name, value in front.items() if name.startswith(("license", "base_model"))} == fields
    assert f"| weights | trained{f', from {weights}' if weights else ''} |" in page
    assert (f"| license of the weights | {license} |" in page) == bool(license)


@pytest.mark.parametrize(
    ("known", "fields"),
    [
        ("BSD-3-Clause", {"license": "bsd-3-clause"}),
        ("unrestricted use", {"license": "other", "license_name": "unrestricted-use"}),
        ("a: b # |c|", {"license": "other", "license_name": "a-b-c"}),
        ("", {}),
    ],
)
def test_the_hub_is_told_the_license_of_the_weights(known: str, fields: dict[str, str]) -> None:
    imported = Imported(weights="torchvision:resnet18", sha256="ab" * 32, license=known)
    front = front_matter(readme_of(replace(CARD, provenance=replace(CARD.provenance, imported=imported))).decode())
    assert {name: value for name, value in front.items() if name.startswith("license")} == fields


def test_a_saved_folder_has_the_page_and_still_opens(tmp_path: Path) -> None:
    saved = saved_model(tmp_path / "model")
    assert front_matter((tmp_path / "model" / "README.md").read_text())["library_name"] == "convatlas"
    assert saved.classes == CARD.classes


@pytest.mark.parametrize("name", ["hf:", "hf:one", "hf:a/b/c", "hf:../x/y", "hf:owner/name@", "hf:owner/na me"])
def test_what_is_no_name_of_a_model_is_said(name: str) -> None:
    with pytest.raises(UserError, match=r"is not the name of a model; it must be hf:OWNER/NAME"):
        load(name)


def test_a_model_is_fetched_at_its_revision(web, tmp_path: Path) -> None:
    saved_model(tmp_path / "model")
    commit = "a" * 40
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir() if not path.name.startswith(".")}
    for name, content in files.items():
        for revision in ("v1", commit):
            path = f"owner/name/resolve/{revision}/{name}"
            web.files[path] = content
            web.headers[path] = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}
    # In a process of its own: the hub's library reads its address once.
    script = "import convatlas as ca; model = ca.load('hf:owner/name@v1'); print(type(model).__name__, *model.classes)"
    environment = os.environ | {"HF_ENDPOINT": web.address, "HF_HOME": str(tmp_path / "cache")}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert ended.stdout == f"Model {' '.join(CARD.classes)}\n", ended.stderr
    assert not any(path.endswith("README.md") for path in web.asked)
