import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import convatlas as ca
from convatlas.data import find as find_data
from convatlas.errors import UserError
from convatlas.runs import Run
from convatlas.training import Interrupted, Progress


class StopAt(Progress):
    """Sends this process a signal after a number of steps, as a person would."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGINT) -> None:
        self.left, self.number = step, number

    def advance(self, num_pictures: int) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(self.number)


def weights(run: Run) -> bytes:
    return (run.folder / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ca.train("lenet1", epochs=3, out=tmp_path_factory.mktemp("undisturbed") / "run")


def test_a_run_folder_holds_what_the_readme_says(undisturbed: Run) -> None:
    names = {path.name for path in undisturbed.folder.iterdir()}
    assert names == {"weights.safetensors", "run.json", "metrics.jsonl", "curves.svg", "confusion.svg"}
    lines = [json.loads(line) for line in (undisturbed.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["loss"] < lines[0]["loss"]
    record = json.loads((undisturbed.folder / "run.json").read_text())
    assert record["variant"] == "lenet1"
    assert record["seed"] == 0
    assert record["recipe"]["epochs"] == 3
    assert record["versions"]["torch"] == torch.__version__
    assert record["results"]["test_pictures"] == 355
    assert record["results"]["train_pictures"] == 1442


@pytest.mark.parametrize("name", [variant.name for variant in ca.variants()])
def test_every_variant_learns(name: str, tmp_path: Path) -> None:
    # A tenth would be chance.
    assert ca.train(name, epochs=12, out=tmp_path / "run").test_accuracy > 0.6


def test_a_seed_repeats_a_run_bit_for_bit(undisturbed: Run, tmp_path: Path) -> None:
    again = ca.train("lenet1", epochs=3, out=tmp_path / "again")
    other = ca.train("lenet1", epochs=3, seed=1, out=tmp_path / "other")
    assert weights(again) == weights(undisturbed)
    assert weights(other) != weights(undisturbed)


@pytest.mark.parametrize("name", ["lenet1", "lenet5-modern"])
def test_interrupted_at_any_step_a_run_goes_on_to_the_same_weights(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = ca.train(name, epochs=3, out=tmp_path_factory.mktemp("whole") / "run")

    @settings(max_examples=4)
    @given(step=st.integers(1, 35), number=st.sampled_from([signal.SIGINT, signal.SIGTERM]))
    def holds(step: int, number: signal.Signals) -> None:
        folder = tmp_path_factory.mktemp("interrupted") / "run"
        with pytest.raises(Interrupted) as stopped:
            ca.train(name, epochs=3, out=folder, progress=StopAt(step, number))
        assert stopped.value.signal == number
        with pytest.raises(UserError, match=r"is not finished; convatlas resume"):
            _ = ca.load(folder).network
        resumed = ca.resume(folder)
        assert weights(resumed) == weights(whole)
        for ours, theirs in zip(metrics(resumed), metrics(whole), strict=True):
            assert ours | {"seconds": 0} == theirs | {"seconds": 0}

    holds()


def metrics(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def test_the_signals_handlers_come_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        ca.train("lenet1", epochs=1, out=tmp_path / "run", progress=StopAt(2))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_finished_run_is_not_run_again(undisturbed: Run) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in undisturbed.folder.iterdir()}
    ca.resume(undisturbed.folder)
    assert {path.name: path.stat().st_mtime_ns for path in undisturbed.folder.iterdir()} == before


def test_training_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    ca.train("lenet1", epochs=1, out=tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_a_loss_that_is_no_number_stops_before_the_update_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step \d+ in epoch 1; .*lower --lr"):
        ca.train("lenet5", epochs=2, lr=1e30, out=tmp_path / "run")
    from safetensors.torch import load_file

    kept = tmp_path / "run" / "checkpoint.safetensors"
    assert not kept.exists() or all(value.isfinite().all() for value in load_file(kept).values())


def test_the_recipe_of_the_paper_trains(tmp_path: Path) -> None:
    run = ca.train("lenet1", recipe="paper", epochs=2, out=tmp_path / "run")
    assert run.record.recipe.batch_size == 1
    assert metrics(run)[1]["loss"] < metrics(run)[0]["loss"]


def test_one_wide_deep_and_large_trains_and_comes_back(tmp_path: Path) -> None:
    run = ca.train("lenet5", epochs=1, width=0.5, depth=2, resolution=40, out=tmp_path / "run")
    network = ca.load(run.folder).network
    assert network.spec == run.record.spec
    assert (run.record.spec.resolution, run.record.spec.same) == (40, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "--epochs 0 trains nothing; it must be at least 1"),
        ({"epochs": -1}, "--epochs -1 trains nothing"),
        ({"batch_size": 0}, "--batch-size 0 trains nothing"),
        ({"lr": 0.0}, "--lr 0 trains nothing"),
        ({"lr": float("nan")}, "--lr nan trains nothing"),
        ({"width": 0}, "the smallest width that works"),
        ({"depth": 0}, "depth 0 leaves no layer"),
        ({"resolution": 20}, "the smallest that works is 28 px"),
        ({"seed": -1}, "--seed -1 is out of range"),
        ({"seed": 2**70}, "is out of range"),
        ({"data": "~nobody-of-that-name/x"}, "there is no folder"),
        ({"device": "tpu"}, "there is no device 'tpu'"),
        ({"recipe": "secret"}, "there is no recipe 'secret'"),
        ({"data": "mnits"}, "did you mean mnist"),
        ({"data": "no/such/folder"}, "there is no folder no/such/folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as mistake:
        ca.train("lenet5", out=tmp_path / "run", **arguments)
    assert message in str(mistake.value)
    assert "\n" not in str(mistake.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_never_overwritten(undisturbed: Run) -> None:
    before = weights(undisturbed)
    with pytest.raises(UserError, match="holds a run already"):
        ca.train("lenet1", epochs=1, seed=5, out=undisturbed.folder)
    assert weights(undisturbed) == before


def test_a_folder_with_a_persons_own_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"mine")
    with pytest.raises(UserError, match="has other files in it"):
        ca.train("lenet1", epochs=1, out=tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == b"mine"


def test_a_new_run_never_goes_on_from_an_old_checkpoint(undisturbed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        ca.train("lenet1", epochs=3, seed=5, out=folder, progress=StopAt(20))
    (folder / "run.json").unlink()
    with pytest.raises(UserError, match="has other files in it"):
        ca.train("lenet1", epochs=3, out=folder)


def test_resuming_a_finished_run_clears_what_a_kill_at_its_very_end_left(undisturbed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.folder, folder)
    (folder / "checkpoint.safetensors").write_bytes(b"")
    ca.resume(folder)
    assert not (folder / "checkpoint.safetensors").exists()


def test_resume_leaves_the_callers_threads_alone(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        ca.train("lenet1", epochs=1, out=tmp_path / "run", progress=StopAt(2))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        ca.resume(tmp_path / "run")
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_weights_that_the_last_update_ruined_are_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lower --lr"):
        ca.train("lenet5", epochs=1, batch_size=2000, lr=3e38, out=tmp_path / "run")
    assert ca.load(tmp_path / "run").record.results is None


def test_predict_sees_the_sets_own_pictures_as_evaluate_does(undisturbed: Run) -> None:
    pictures = find_data("digits").load(8).test
    answers = [undisturbed.predict(Image.fromarray(picture[0])).classes[0] for picture in pictures.pictures]
    right = sum(answer == str(label) for answer, label in zip(answers, pictures.labels, strict=True))
    assert right / len(pictures) == undisturbed.test_accuracy


def test_a_long_thin_stroke_is_framed_in_little_memory(undisturbed: Run, tmp_path: Path) -> None:
    strip = np.full((20, 80000), 255, np.uint8)
    strip[8:12, 100:-100] = 0
    Image.fromarray(strip).save(tmp_path / "strip.png")
    assert len(undisturbed.predict(tmp_path / "strip.png").classes) == 5


def test_runs_without_a_name_get_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [ca.train("lenet1", epochs=1).folder for _ in range(3)]
    assert [str(folder) for folder in folders] == ["runs/lenet1-digits", "runs/lenet1-digits-2", "runs/lenet1-digits-3"]


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Upright and level stripes, in colour."""
    generator = np.random.default_rng(0)
    for name, axis in (("level", 0), ("upright", 1)):
        (tmp_path / "stripes" / name).mkdir(parents=True)
        for i in range(30):
            wave = np.sin(np.arange(48) / generator.uniform(1.5, 3) + generator.uniform(0, 6)) * 100 + 128
            picture = np.broadcast_to(np.expand_dims(wave, 1 - axis), (48, 48))
            colour = np.stack([picture, generator.uniform(0, 1) * picture, picture], 2).astype(np.uint8)
            Image.fromarray(colour).save(tmp_path / "stripes" / name / f"{i}.png")
    return tmp_path / "stripes"


def test_a_folder_of_ones_own_pictures_is_learned(stripes: Path, tmp_path: Path) -> None:
    run = ca.train("lenet5-modern", data=stripes, epochs=25, batch_size=16, out=tmp_path / "run")
    assert run.test_accuracy == 1.0
    assert run.record.classes == ("level", "upright")
    assert run.record.spec.in_channels == 3
    assert run.predict(stripes / "level" / "3.png").classes == ("level", "upright")
    assert run.evaluate().accuracy == 1.0


def test_pictures_that_changed_since_are_noticed(stripes: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        ca.train("lenet1", data=stripes, epochs=2, out=tmp_path / "run", progress=StopAt(1))
    Image.new("RGB", (48, 48)).save(stripes / "level" / "0.png")
    with pytest.raises(UserError, match="have changed since"):
        ca.resume(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet5", "lenet5-modern"])
def test_the_main_job_reaches_98_percent(name: str, tmp_path: Path) -> None:
    accuracies = [ca.train(name, seed=seed, out=tmp_path / str(seed)).test_accuracy for seed in range(5)]
    assert sum(accuracies) / 5 >= 0.98
