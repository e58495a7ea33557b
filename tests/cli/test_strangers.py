"""A run of a stranger's: what it names is said before it is read, and of what is not its own nothing is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

WATCHED = Path(__file__).parents[1] / "watched_commands.py"
FORMATS = Path(__file__).parents[1] / "formats"
HANGS_S = 120


@dataclass(frozen=True)
class Victim:
    """Whose machine it is."""

    root: Path
    """Nothing but what follows."""
    folder: Path
    """The stranger's run."""
    photos: Path
    """Images of the same classes as the run's."""
    cache: Path
    process: subprocess.Popen[str]
    """See `watched_commands.py`."""

    def say(self, name: str, **values: Any) -> None:
        """Make a file of the run say something else."""
        path = self.folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    def watched(self, *words: object) -> tuple[int, list[str], set[str]]:
        """The status of a command, its lines on standard error, and what it touched of the victim's and outside."""
        asked = {
            "words": [*map(str, words)],
            "folder": str(self.root),
            "environment": {"CONVATLAS_CACHE": str(self.cache)},
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        watch = threading.Timer(HANGS_S, self.process.kill)
        watch.start()
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        done = json.loads(self.process.stdout.readline())
        watch.cancel()
        touched = {
            text
            for event, text in done["events"]
            if event.startswith("socket") or (text.startswith(str(self.root)) and not text.startswith(str(self.folder)))
        }
        return done["status"], done["err"].splitlines(), touched


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WATCHED)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as started:
        yield started
        started.kill()


@pytest.fixture
def victim(process: subprocess.Popen[str], tmp_path: Path) -> Victim:
    folder, photos = tmp_path / "run", tmp_path / "photos"
    shutil.copytree(FORMATS / "format-3-folder", folder)
    for name in ("disk", "square"):
        (photos / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (30, 30), (number, 0, 0)).save(photos / name / f"{number}.png")
    found = Victim(tmp_path, folder, photos, tmp_path / "cache", process)
    found.say("run.json", data=str(photos))
    return found


def said(victim: Victim, what: str) -> str:
    return f"convatlas: {what}, which {victim.folder / 'run.json'} names"


@pytest.mark.parametrize("verb", [pytest.param("evaluate", marks=pytest.mark.slow), "report"])
def test_images_that_are_not_the_runs_are_said_and_refused_before_any_is_kept(verb: str, victim: Victim) -> None:
    status, lines, touched = victim.watched(verb, victim.folder)
    assert status == 2
    first, error = lines
    assert first == said(victim, f"reading the images of {victim.photos}")
    assert "the same classes, but other images" in error
    assert touched
    assert all(text.startswith((str(victim.photos), str(victim.cache))) for text in touched)
    assert not victim.cache.exists()


def test_a_folder_of_other_classes_is_not_even_listed_below_the_first_names(victim: Victim) -> None:
    (victim.photos / "disk").rename(victim.photos / "letters")
    status, lines, touched = victim.watched("evaluate", victim.folder)
    assert (status, len(lines)) == (2, 2)
    assert "other classes (missing: disk" in lines[1]
    assert touched == {str(victim.photos)}
    assert not victim.cache.exists()


def test_another_number_of_images_is_refused_before_one_is_opened(victim: Victim) -> None:
    (victim.photos / "disk" / "0.png").unlink()
    _, lines, touched = victim.watched("evaluate", victim.folder)
    assert "19 images, and not 20" in lines[1]
    assert not [text for text in touched if text.endswith(".png")]


def test_where_bad_images_are_skipped_nothing_of_others_is_kept_either(victim: Victim) -> None:
    card = json.loads((victim.folder / "model.json").read_text())
    victim.say("model.json", provenance=card["provenance"] | {"skip_bad": True, "data_checksum": "contents:00"})
    (victim.photos / "disk" / "bad.png").write_text("not an image")
    status, lines, _ = victim.watched("evaluate", victim.folder)
    assert (status, len(lines)) == (2, 2)
    assert "other images" in lines[1]
    assert not victim.cache.exists()


def test_nothing_is_said_of_a_folder_that_a_person_names(victim: Victim) -> None:
    status, lines, _ = victim.watched("evaluate", victim.folder, "--data", FORMATS / "images")
    assert (status, lines) == (0, [])


@pytest.mark.parametrize("verb", ["evaluate", "report"])
def test_the_hub_is_asked_only_if_a_person_names_the_set(verb: str, victim: Victim) -> None:
    victim.say("run.json", data="hf:owner/name")
    status, lines, touched = victim.watched(verb, victim.folder)
    assert (status, len(lines)) == (2, 1)
    assert "reading that may connect to the Hugging Face hub; to allow it, name hf:owner/name with --data" in lines[0]
    assert touched == set()


def test_a_model_follows_no_path_of_its_card(victim: Victim) -> None:
    for name in (str(victim.photos), "hf:owner/name", f"hf:{victim.photos}", "../photos", "~", "/dev/zero"):
        card = json.loads((victim.folder / "model.json").read_text())
        victim.say("model.json", provenance=card["provenance"] | {"data": name})
        (victim.folder / "run.json").unlink(missing_ok=True)
        status, lines, touched = victim.watched("evaluate", victim.folder)
        assert (status, len(lines)) == (2, 1)
        assert "--data" in lines[0]
        assert touched == set()


def special(victim: Victim) -> dict[str, str]:
    """Names that are no files, by what they are."""
    os.mkfifo(pipe := victim.root / "pipe.safetensors")
    (loop := victim.root / "loop").symlink_to(loop)
    (link := victim.root / "link.safetensors").symlink_to("/dev/zero")
    return {
        "pipe": str(pipe), "device": "/dev/zero", "link to a device": str(link), "loop": str(loop), "root": "/",
        "home": "~", "home of nobody": "~nobody/x", "relative": "../../../..", "null": "a\0b", "long": "x" * 4000,
        "no character": "\ud800",
    }  # fmt: skip


has_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")


@has_pipes
@pytest.mark.parametrize(
    "kind", [pytest.param("data", marks=pytest.mark.slow), "init_from", pytest.param("teacher", marks=pytest.mark.slow)]
)
def test_what_is_no_file_or_folder_is_refused_and_never_waited_for(
    kind: str, victim: Victim, convatlas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(victim.cache))
    monkeypatch.chdir(victim.root)
    shutil.rmtree(victim.folder)
    shutil.copytree(FORMATS / "half-folder", victim.folder)
    for what, name in special(victim).items():
        values = {
            "data": {"data": name},
            "init_from": {"init_from": {"path": name}, "data": str(FORMATS / "images")},
            "teacher": {"distillation": {"teacher": name}, "data": str(FORMATS / "images")},
        }[kind]
        victim.say("run.json", **values)
        status, _, err = convatlas("resume", victim.folder)
        assert status == 2, (what, err)
        assert len(err.splitlines()) <= 5, err
        assert "Traceback" not in err


@has_pipes
def test_parts_of_a_folder_that_are_pipes_or_devices_are_refused(victim: Victim, convatlas: Callable[..., Any]) -> None:
    for name in ("run.json", "model.json", "weights.safetensors", "metrics.jsonl"):
        path, content = victim.folder / name, (victim.folder / name).read_bytes()
        for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
            path.unlink()
            make(path)
            status, _, err = convatlas("report", victim.folder, "--data", FORMATS / "images")
            assert (status, len(err.splitlines())) == (2, 1), err
        path.unlink()
        path.write_bytes(content)


def test_resuming_says_what_else_it_reads(victim: Victim, convatlas: Callable[..., Any]) -> None:
    shutil.rmtree(victim.folder)
    shutil.copytree(FORMATS / "half-folder", victim.folder)
    victim.say(
        "run.json",
        data=str(FORMATS / "images"),
        init_from={"path": "/nowhere/weights.safetensors"},
        distillation={"teacher": "/nowhere/teacher"},
    )
    status, _, err = convatlas("resume", victim.folder)
    assert status == 2
    for what in ("weights of /nowhere/weights.safetensors", "teacher /nowhere/teacher", f"images of {FORMATS}/images"):
        assert f"reading the {what}, which {victim.folder / 'run.json'} names\n" in err
