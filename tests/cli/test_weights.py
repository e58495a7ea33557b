"""convatlas weights, convatlas import"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas import atlas
from convatlas.models.folder import read_card
from convatlas.weights.cifar import CHENYAOFO


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random weights of resnet20-cifar-b, named as chenyaofo's."""
    variant = atlas.find("resnet20-cifar-b")
    own, names = variant.network(variant.spec).state_dict(), CHENYAOFO.names(variant.spec)
    torch.save({place[0]: own[name] for name in own if (place := names.there(name)) is not None}, tmp_path / "w.pt")
    return tmp_path / "w.pt"


def test_a_row_says_how_large_the_network_is(convatlas: Callable[..., Any]) -> None:
    lines = convatlas("weights", "squeezenet1.1").out.splitlines()
    assert lines[0].split()[:3] == ["weights", "network", "parameters"]
    assert lines[1].split()[:4] == ["torchvision:squeezenet1_1", "*", "squeezenet1.1", "1,235,496"]


def test_of_a_network_that_nobody_publishes_those_in_its_place_are_named(convatlas: Callable[..., Any]) -> None:
    answer = convatlas("weights", "resnet50")
    assert answer.status == 0
    assert answer.out == (
        "nobody publishes weights of resnet50; there are some of resnet50-v1.5 (it has the stride of a bottleneck in "
        "its 3x3 convolution), resnet50-keras (its convolutions have biases, and the epsilon of its normalization is "
        "1.001e-5), resnet50-caffe (its first pooling is not padded and rounds sizes up)\n"
    )
    assert convatlas("weights", "lenet5").out == "nobody publishes weights of lenet5\n"


def test_weights_that_nobody_published_are_imported_without_a_name(
    checkpoint: Path, tmp_path: Path, convatlas: Callable[..., Any], as_json: Callable[..., dict[str, Any]]
) -> None:
    answer = convatlas("import", checkpoint, "--as", "chenyaofo:cifar10_resnet20", "--out", tmp_path / "one")
    assert answer.err.splitlines() == [
        "convatlas: preprocessing is taken to be that of chenyaofo:cifar10_resnet20",
        "convatlas: classes are taken to be those of CIFAR-10",
    ]
    assert not any(line.startswith("weights") for line in answer.out.splitlines())
    assert as_json("import", checkpoint, "--as", "resnet20-cifar-b", "--out", tmp_path / "two")["weights"] is None


def test_a_flag_that_is_missing_for_published_weights_is_named(
    tmp_path: Path, convatlas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = convatlas("train", "mobilenet-tf", "--from", "keras:mobilenet_0.50.224")
    assert (answer.status, answer.err) == (
        2,
        "convatlas: keras:mobilenet_0.50.224 is mobilenet-tf with --width 0.5, not 1\n",
    )


def test_json_has_all_of_the_preprocessing(as_json: Callable[..., dict[str, Any]]) -> None:
    (row,) = [row for row in as_json("weights", "mobilenet")["weights"] if row["name"] == "caffe:mobilenet"]
    assert row["params"] == 4_231_976
    assert (row["value_range"], row["channel_order"], row["mode"]) == (255.0, "bgr", "crop")
    assert row["note"] == "Of shicai/MobileNet-Caffe. Its scale of 0.017 is the deviation here."


def test_names_of_classes_are_read_as_a_spreadsheet_writes_them(
    checkpoint: Path, tmp_path: Path, as_json: Callable[..., dict[str, Any]]
) -> None:
    names = [f"kind {i}" for i in range(10)]
    (tmp_path / "names.txt").write_text("\n".join([*names, ""]), encoding="utf-8-sig")
    out = tmp_path / "model"
    as_json("import", checkpoint, "--as", "resnet20-cifar-b", "--out", out, "--classes", tmp_path / "names.txt")
    assert read_card(out).classes == tuple(names)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_a_pipe_is_waited_for_neither_as_weights_nor_as_names_of_classes(
    checkpoint: Path, tmp_path: Path, convatlas: Callable[..., Any]
) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    for words in ((pipe,), (checkpoint, "--classes", pipe)):
        answer = convatlas("import", *words, "--as", "resnet20-cifar-b", "--out", tmp_path / "model")
        assert (answer.status, answer.err) == (
            2,
            f"convatlas: {pipe} is a folder, a device or a pipe, not a file\n",
        )


@pytest.mark.parametrize(
    "words",
    [
        ("train", "squeezenet1.0-caffe", "--from", "caffe"),
        ("train", "lenet5-modern", "--teacher", "caffe:squeezenet_v1.0"),
        ("evaluate", "caffe:squeezenet_v1.0"),
        ("predict", "caffe:squeezenet_v1.0", "photo.jpg"),
        ("compress", "caffe:squeezenet_v1.0", "--int8", "--out", "small"),
    ],
    ids=" ".join,
)
def test_every_command_says_how_a_download_goes(
    words: tuple[str, ...], tmp_path: Path, convatlas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for cache in ("CONVATLAS_DATA", "TORCH_HOME"):
        monkeypatch.setenv(cache, str(tmp_path))
    # It leads nowhere.
    for proxy in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    answer = convatlas(*words)
    said, failed = answer.err.splitlines()
    assert said == (
        "convatlas: nobody publishes a checksum of caffe:squeezenet_v1.0: what is downloaded is not verified"
    )
    assert "could not be fetched" in failed
    assert answer.status == 2


@pytest.mark.parametrize("verb", ["evaluate", "predict", "compress", "export"])
def test_help_names_all_that_stands_for_a_model(verb: str, convatlas: Callable[..., Any]) -> None:
    said = convatlas(verb, "--help").out
    assert "torchvision:resnet18" in said
    assert "hf:OWNER/NAME" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "network", "data", "correct", "published"),
    [
        ("squeezenet-1.1/squeezenet_v1.1.caffemodel", "squeezenet1.1", "imagenette-224/val", (164, 229, 300), None),
        ("resnet20-cifar/resnet20-12fca82f.th", "resnet20-cifar", "cifar10", (915, None, 1000), 0.9173),
    ],
    ids=["squeezenet1.1", "resnet20-cifar"],
)
def test_real_weights_reach_their_accuracy_by_import_and_evaluate_alone(
    weights: str,
    network: str,
    data: str,
    correct: tuple[int, int | None, int],
    published: float | None,
    needs_data: Callable[[str], Path],
    tmp_path: Path,
    convatlas: Callable[..., Any],
    as_json: Callable[..., dict[str, Any]],
) -> None:
    folder = needs_data("weights").parent
    out = tmp_path / "model"
    assert convatlas("import", folder / "weights" / weights, "--as", network, "--out", out).status == 0
    found = as_json("evaluate", out, "--data", "cifar10" if data == "cifar10" else folder / data)
    top1, top5, num_images = correct
    assert found["test_images"] == num_images
    assert round(found["test_accuracy"] * num_images) == top1
    assert top5 is None or round(found["test_top5_accuracy"] * num_images) == top5
    assert found["published"]["top1"] == published
