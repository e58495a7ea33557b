"""Whatever a person gets wrong is one line on standard error and exit status 2, and nothing of theirs is lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import convatlas as ca
from convatlas.runs.run import Run


def is_one_clear_line(answer: tuple[int, str, str], *words: str) -> None:
    status, out, err = answer
    assert status == 2, err
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("convatlas: ")
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "lenet6"], ["there is no network 'lenet6'", "lenet5"]),
        (["show", "lnet5"], ["lenet5"]),
        (["train", "lenet5", "--data", "minst"], ["mnist"]),
        (["train", "lenet5", "--data", "./nowhere"], ["there is no folder ./nowhere"]),
        (["train", "lenet5", "--width", "0"], ["the smallest width that works"]),
        (["train", "lenet5", "--width", "nan"], ["width nan"]),
        (["train", "lenet5", "--epochs", "-1"], ["--epochs -1"]),
        (["train", "lenet5", "--epochs", "many"], ["--epochs", "valid integer"]),
        (["train", "lenet5", "--resolution", "12"], ["28 px"]),
        (["train", "lenet5", "--resolution", "0"], ["28 px"]),
        (["train", "lenet5", "--depth", "-1"], ["depth -1"]),
        (["train", "lenet5", "--device", "abacus"], ["abacus", "cpu"]),
        (["train", "lenet5", "--recipe", "pancake"], ["pancake"]),
        (["train", "lenet5", "--color"], ["--color"]),
        (["train"], ["network"]),
        (["trian", "lenet5"], ["trian"]),
        (["show", "lenet5", "--width", "1e999"], ["width inf"]),
        (["resume", "nowhere"], ["nowhere is no run folder"]),
        (["evaluate", "nowhere"], ["nowhere is no run folder"]),
        (["predict", "nowhere", "x.png"], ["nowhere is no run folder"]),
    ],
)
def test_a_mistake_in_the_words(
    arguments: list[str], words: list[str], convatlas: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    is_one_clear_line(convatlas(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


SIZES = [
    *(("--width", value, f"width {float(value):g} ") for value in ("0", "-1", "nan", "inf", "-inf", "1e9")),
    *(("--depth", value, f"depth {float(value):g} ") for value in ("0", "-1", "nan", "inf", "-inf", "1e9")),
    *(("--resolution", value, f"{value} px") for value in ("0", "-1", "27", "1000000000")),
    # What phi makes of width, depth and resolution may be what cannot work.
    *(("--phi", value, "") for value in ("nan", "inf", "-inf", "1e9", "-100")),
]
# Of each family a network that nothing below 28 pixels fits.
SMALLEST_28 = [
    next(variant.name for variant in family.variants if variant.spec.smallest_resolution == 28)
    for family in ca.families()
]


@pytest.mark.parametrize(("option", "value", "word"), SIZES)
@pytest.mark.parametrize(
    "verb",
    [*(["show", name] for name in SMALLEST_28), ["compare", "alexnet", "resnet50"], ["train", "resnet20-cifar"]],
    ids=" ".join,
)
def test_an_impossible_size(
    verb: list[str],
    option: str,
    value: str,
    word: str,
    convatlas: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    is_one_clear_line(convatlas(*verb, option, value), word)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--width", "--depth", "--resolution", "--phi"])
@pytest.mark.parametrize("verb", ["show", "compare", "train"])
def test_a_size_that_is_no_number(verb: str, option: str, convatlas: Callable) -> None:
    is_one_clear_line(convatlas(verb, "lenet5", option, "wide"), option, "valid")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("alexnet-nb", "alexnet-bn"),
        ("vgg-16", "vgg16"),
        ("googlnet", "googlenet"),
        ("resnet51", "resnet50"),
        ("squeeznet", "squeezenet"),
        ("MobileNet", "mobilenet"),
        ("efficientnet-b8", "efficientnet-b7"),
    ],
)
@pytest.mark.parametrize("verb", [["show"], ["compare"], ["compare", "lenet5"], ["claims"], ["train"]], ids=" ".join)
def test_a_name_that_is_not_in_the_atlas(verb: list[str], typed: str, meant: str, convatlas: Callable) -> None:
    for more in ([], ["--json"]):
        is_one_clear_line(convatlas(*verb, typed, *more), f"there is no network {typed!r}", meant)


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--width", "0.5"]], ids=" ".join)
def test_a_comparison_of_nothing(arguments: list[str], convatlas: Callable) -> None:
    is_one_clear_line(convatlas("compare", *arguments), "networks")


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.radial_gradient("L").resize((40, 40)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        for i in range(5):
            image(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


def test_a_folder_without_classes(convatlas: Callable, tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    is_one_clear_line(convatlas("train", "lenet5", "--data", tmp_path / "images"), "has no folders in it")


def test_an_empty_class(convatlas: Callable, folder: Path) -> None:
    (folder / "emu").mkdir()
    is_one_clear_line(convatlas("train", "lenet5", "--data", folder), "emu has no images in it")


def test_one_class_only(convatlas: Callable, folder: Path) -> None:
    shutil.rmtree(folder / "dog")
    is_one_clear_line(convatlas("train", "lenet5", "--data", folder), "one class only")


@pytest.mark.parametrize("size", [0, 30, 700])
def test_a_damaged_image_is_named_and_can_be_left_out(
    convatlas: Callable, folder: Path, tmp_path: Path, size: int
) -> None:
    Image.effect_noise((64, 64), 50).save(folder / "cat" / "half.jpg")
    whole = (folder / "cat" / "half.jpg").read_bytes()
    (folder / "cat" / "half.jpg").write_bytes(whole[:size])
    out = tmp_path / "run"
    is_one_clear_line(
        convatlas("train", "lenet1", "--data", folder, "--out", out), "1 of 11 images", "half.jpg", "--skip-bad"
    )
    assert not out.exists()
    answer = convatlas("train", "lenet1", "--data", folder, "--out", out, "--epochs", 1, "--skip-bad")
    assert answer.status == 0
    assert "left out" in answer.err
    assert "half.jpg" in answer.err


def test_a_huge_image(convatlas: Callable, folder: Path) -> None:
    Image.new("1", (20000, 20000)).save(folder / "cat" / "huge.png")
    is_one_clear_line(convatlas("train", "lenet5", "--data", folder), "huge.png", "larger than the limit")


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    shutil.copytree(run.folder, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_damaged_weights(verb: str, convatlas: Callable, copy: Path, folder: Path) -> None:
    content = bytearray((copy / "weights.safetensors").read_bytes())
    content[-5] ^= 1
    (copy / "weights.safetensors").write_bytes(content)
    images = [folder / "cat" / "0.png"] if verb == "predict" else []
    is_one_clear_line(convatlas(verb, copy, *images), "weights.safetensors is damaged")


@pytest.mark.parametrize("verb", ["evaluate", "report"])
def test_a_device_that_is_not_there(verb: str, convatlas: Callable, copy: Path) -> None:
    is_one_clear_line(convatlas(verb, copy, "--device", "abacus"), "there is no device 'abacus'")


def test_missing_weights(convatlas: Callable, copy: Path) -> None:
    (copy / "weights.safetensors").unlink()
    is_one_clear_line(convatlas("evaluate", copy), "weights.safetensors is missing")


def test_another_runs_weights(convatlas: Callable, copy: Path, tmp_path: Path) -> None:
    convatlas("train", "lenet1", "--epochs", 1, "--out", tmp_path / "other", "--quiet")
    shutil.copy(tmp_path / "other" / "weights.safetensors", copy)
    is_one_clear_line(convatlas("evaluate", copy), "not this run's")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99}', "\x00\xff"])
def test_a_damaged_record(content: str, convatlas: Callable, copy: Path) -> None:
    (copy / "run.json").write_text(content)
    for verb in ("evaluate", "resume"):
        is_one_clear_line(convatlas(verb, copy), "run.json")


def test_a_record_whose_spec_cannot_be(convatlas: Callable, copy: Path) -> None:
    record = json.loads((copy / "run.json").read_text())
    record["spec"]["resolution"] = 3
    (copy / "run.json").write_text(json.dumps(record))
    is_one_clear_line(convatlas("evaluate", copy), "3 px")


def test_a_folder_that_holds_a_run(convatlas: Callable, copy: Path) -> None:
    before = (copy / "weights.safetensors").read_bytes()
    is_one_clear_line(convatlas("train", "lenet5", "--out", copy), "holds a run already")
    assert (copy / "weights.safetensors").read_bytes() == before


def test_a_file_where_the_run_folder_should_be(convatlas: Callable, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    is_one_clear_line(convatlas("train", "lenet5", "--out", tmp_path / "notes"), "is a file")
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_image_that_is_not_there(convatlas: Callable, run: Run, tmp_path: Path) -> None:
    is_one_clear_line(convatlas("predict", run.folder, tmp_path / "no.png"), "no.png: there is no such file")


def test_a_folder_without_images(convatlas: Callable, run: Run, tmp_path: Path) -> None:
    is_one_clear_line(convatlas("predict", run.folder, tmp_path), "has no images in it")


def test_a_loss_that_is_no_number(convatlas: Callable, tmp_path: Path) -> None:
    is_one_clear_line(
        convatlas("train", "lenet5", "--lr", "1e30", "--out", tmp_path / "run", "--quiet"),
        "the loss is not a number",
        "--lr",
    )
