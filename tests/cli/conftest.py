import json
import re
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import convatlas as ca
from convatlas.cli import app, main
from convatlas.cli.app import options_of, with_options
from convatlas.runs.run import Run, load_run


class Answer(NamedTuple):
    status: int
    out: str
    err: str


def check_options(said: str, typed: list[str]) -> None:
    """Fail if a message names an option that the command does not have; of another command it names the words too."""
    known = options_of(typed) | {word.partition("=")[0] for word in typed}
    for words in re.findall(r"convatlas ([a-z -]+)", said):
        known |= options_of(words.split())
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", said))
    assert named <= known, f"{sorted(named - known)} of: {said}"
    assert "`" not in said


def strictly_with_options(message: str, known: Collection[str]) -> str:
    """Fail if a library's message names an argument for which the command has no option."""
    named = {app.option_of(name) for name in re.findall(r"`(\w+)`", message)}
    assert named <= set(known), f"{sorted(named - set(known))} of: {message}"
    return with_options(message, known)


@pytest.fixture
def convatlas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command, in this process: its status and what it wrote."""

    def command(*arguments: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["convatlas", *map(str, arguments)])
        monkeypatch.setattr(app, "with_options", strictly_with_options)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as exit:
            main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        written = capsys.readouterr()
        answer = Answer(int(exit.value.code or 0), written.out, written.err)
        check_options(answer.err, [*map(str, arguments)])
        return answer

    return command


@pytest.fixture
def as_json(convatlas: Callable[..., Answer]) -> Callable[..., dict[str, Any]]:
    """The one object that the command prints with --json, and nothing else anywhere."""

    def command(*arguments: object) -> dict[str, Any]:
        status, out, err = convatlas(*arguments, "--json")
        assert (status, err) == (0, "")
        values = json.loads(out)
        assert isinstance(values, dict)
        return values

    return command


@pytest.fixture(scope="session")
def run(once: Callable[[str, Callable[[Path], None]], Path]) -> Run:
    """A finished run that no test may change."""

    def make(folder: Path) -> None:
        ca.train("lenet5-modern", epochs=12, out=folder)

    return load_run(once("run", make))
