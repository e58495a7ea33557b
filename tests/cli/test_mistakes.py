"""Whatever a person gets wrong is one line on standard error and exit status 2, and nothing of theirs is lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from convatlas.files.sealed_json import unsealed
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
        (["resume", "nowhere"], ["there is no nowhere"]),
        (["report", "nowhere"], ["there is no nowhere"]),
        (["evaluate", "nowhere"], ["there is no nowhere"]),
        (["predict", "nowhere", "x.png"], ["there is no nowhere"]),
    ],
)
def test_a_mistake_in_the_words(
    arguments: list[str], words: list[str], convatlas: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    is_one_clear_line(convatlas(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


# Errors of the library name arguments; the command line names its options.
NAMED: list[tuple[list[str], str]] = [
    (["--epochs", "0"], "--epochs 0 trains nothing; it must be at least 1"),
    (["--batch-size", "0"], "--batch-size 0 trains nothing"),
    (["--lr", "0"], "--lr 0 trains nothing; it must be a number above 0"),
    (["--lr", "nan"], "--lr nan trains nothing"),
    (["--seed", "-1"], "--seed -1 is out of range"),
    (["--val-split", "1"], "--val-split 1 splits nothing; it must be between 0 and 1"),
    (["--patience", "0"], "--patience 0 does not work"),
    (["--class-weights", "heavy"], "--class-weights 'heavy' is unknown; the only choice is balanced"),
    (["--micro-batch", "0"], "--micro-batch 0 does not work"),
    (["--checkpoint-steps", "0"], "--checkpoint-steps 0 does not work"),
    (["--teacher", "x", "--temperature", "0"], "--temperature 0 does not work"),
    (["--teacher", "x", "--distill-weight", "2"], "--distill-weight 2 does not work"),
    (["--teacher", "x", "--attention-weight", "-1"], "--attention-weight -1 does not work"),
    (["--freeze"], "--freeze trains the head of a trained network; name its weights with --from"),
    (["--from", "x", "--freeze", "--recipe", "paper"], "--freeze takes the default recipe"),
    (["--from", "x", "--freeze", "--teacher", "y"], "--freeze computes features once"),
    (["--storage", "sqlite:///x"], "--storage is where a sweep keeps its trials; name what to vary with --sweep"),
    (["--sweep", "lr=0.1", "--storage", "study"], "--storage is not the URL of a database; write it as sqlite:///FILE"),
]


@pytest.mark.parametrize(("options", "message"), NAMED, ids=[" ".join(options) for options, _ in NAMED])
def test_an_option_is_named_as_it_is_typed(
    options: list[str], message: str, convatlas: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = convatlas("train", "lenet5", *options)
    is_one_clear_line(answer, message)
    assert "`" not in answer[2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prune", "2"], "--prune 2 is not a fraction of the MACs"),
        (["--prune", "0.5", "--rounds", "0"], "--rounds 0 prunes nothing"),
        (["--bits", "9"], "--bits 9 is out of range"),
        (["--sparse", "most"], "--sparse 'most' is not a fraction of the weights"),
        (["--to", "1 KB", "--int8"], "leave --int8 or --to out"),
        ([], "--to '2 MB', --prune 0.5 for half of the MACs, --int8, --bits 4"),
        (["--to", "5 ms", "--importance", "luck"], "--importance 'luck' is unknown"),
        (["--int8", "--epochs", "0"], "--epochs 0 trains nothing"),
    ],
)
def test_an_option_of_compress_is_named_as_it_is_typed(
    options: list[str], message: str, convatlas: Callable, run: Run, tmp_path: Path
) -> None:
    answer = convatlas("compress", run.folder, "--out", tmp_path / "out", *options)
    is_one_clear_line(answer, message)
    assert "`" not in answer[2]


@pytest.mark.parametrize(
    "option", ["--hold-out", "--balance", "--no-tune", "--tune", "--hints=1", "--val-split=", "--class-weights="]
)
def test_options_of_earlier_versions_and_empty_ones_are_one_line(option: str, convatlas: Callable) -> None:
    is_one_clear_line(convatlas("train", "lenet5", option), option.partition("=")[0])


SIZES = [
    *(("--width", value, f"width {float(value):g} ") for value in ("0", "-1", "nan", "inf", "-inf", "1e9")),
    *(("--depth", value, f"depth {float(value):g} ") for value in ("0", "-1", "nan", "inf", "-inf", "1e9")),
    *(("--resolution", value, f"{value} px") for value in ("0", "-1", "23", "1000000000")),
    # What phi makes of width, depth and resolution may be what cannot work.
    *(("--phi", value, "") for value in ("nan", "inf", "-inf", "1e9", "-100")),
]


@pytest.mark.parametrize(("option", "value", "word"), SIZES)
@pytest.mark.parametrize(
    "verb",
    # Other networks' sizes are the library's tests.
    [
        ["show", "mobilenet"],
        pytest.param(["compare", "alexnet", "resnet50"], marks=pytest.mark.slow),
        ["train", "resnet20-cifar"],
    ],
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
    ("verb", "typed", "meant"),
    [
        (["show"], "alexnet-nb", "alexnet-bn"),
        (["compare"], "vgg-16", "vgg16"),
        (["compare", "lenet5"], "googlnet", "googlenet"),
        (["claims"], "resnet51", "resnet50"),
        (["train"], "MobileNet", "mobilenet"),
    ],
    ids=str,
)
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
    is_one_clear_line(convatlas("train", "lenet5", "--data", folder), "has only one class")


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
    is_one_clear_line(convatlas("evaluate", copy), "not this model's")


damaged = pytest.mark.parametrize(
    "content",
    ["{", '{"format": 99}', "\x00\xff"]
    + [pytest.param(content, marks=pytest.mark.slow) for content in ("", "[]", "{}", '{"format": 1}')],
)


@damaged
def test_a_damaged_record(content: str, convatlas: Callable, copy: Path) -> None:
    (copy / "run.json").write_text(content)
    for verb in ("evaluate", "resume"):
        is_one_clear_line(convatlas(verb, copy), "run.json")


@damaged
def test_a_damaged_card(content: str, convatlas: Callable, copy: Path) -> None:
    (copy / "model.json").write_text(content)
    for verb in ("evaluate", "resume", "report"):
        is_one_clear_line(convatlas(verb, copy), "model.json")


def test_a_card_whose_network_cannot_be(convatlas: Callable, copy: Path) -> None:
    card = unsealed(json.loads((copy / "model.json").read_text()))
    (copy / "model.json").write_text(json.dumps(card | {"spec": card["spec"] | {"resolution": 3}}))
    is_one_clear_line(convatlas("evaluate", copy), "model.json", "3 px")
    (copy / "model.json").write_text(json.dumps(card | {"classes": card["classes"][1:]}))
    is_one_clear_line(convatlas("evaluate", copy), "it names 9 classes, and its network has 10 outputs")


def test_a_folder_that_holds_a_run(convatlas: Callable, copy: Path) -> None:
    before = (copy / "weights.safetensors").read_bytes()
    is_one_clear_line(convatlas("train", "lenet5", "--out", copy), "holds a run already")
    assert (copy / "weights.safetensors").read_bytes() == before


def test_a_file_where_the_run_folder_should_be(convatlas: Callable, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    is_one_clear_line(convatlas("train", "lenet5", "--out", tmp_path / "notes"), "is a file")
    assert (tmp_path / "notes").read_text() == "mine"


def test_an_image_that_is_not_there(convatlas: Callable, run: Run, tmp_path: Path) -> None:
    is_one_clear_line(convatlas("predict", run.folder, tmp_path / "no.png"), "no.png: there is no such file")


def test_a_folder_without_images(convatlas: Callable, run: Run, tmp_path: Path) -> None:
    is_one_clear_line(convatlas("predict", run.folder, tmp_path), "has no images in it")


def test_a_loss_that_is_not_finite(convatlas: Callable, tmp_path: Path) -> None:
    is_one_clear_line(
        convatlas("train", "lenet5", "--lr", "1e30", "--out", tmp_path / "run", "--quiet"),
        "the loss is not a finite number",
        "a new run with a lower learning rate than 1e+30 may help",
    )
