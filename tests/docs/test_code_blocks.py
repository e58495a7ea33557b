"""Every code block of the README and the guides runs, and prints what the page shows.

The ```sh and ```python blocks of a page run in order, in one new folder. Later ```python blocks see the names of
earlier ones. A ```text or ```json block right after is the whole output: numbers may differ, words may not, and `...`
stands for whatever a page leaves out. A comment on the line before a block says what is special about it:

    <!-- not run: why -->    it cannot run here; `NOT_RUN` lists these
    <!-- fails -->           its mistake is the point: one line, and status 2
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from convatlas.cli.app import app
from convatlas.errors import UserError

ROOT = Path(__file__).parents[2]
RUN = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
"""Pages whose blocks run."""
GENERATED = {"claims.md", "experiments.md"}
PAGES = [
    *RUN,
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")),
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path not in RUN and path.name not in GENERATED),
]
"""Pages whose commands must parse."""
NOT_RUN: dict[str, set[str]] = {
    "docs/guides/machines.md": {
        "it takes a GPU",
        "it takes two machines",
        "it takes a PostgreSQL server",
        "it takes a SLURM cluster",
    },
    "docs/guides/museum.md": {"it takes a minute", "a person stops it"},
    "docs/guides/weights.md": {"it downloads weights", "it takes a file of weights"},
    "docs/guides/train.md": {"it changes the settings of your shell", "a person stops it"},
}
"""By page, why blocks of it are not run."""
HOME = "/home/me"
"""What pages call the folder that they run in."""
SECONDS = 300
"""That a block may take."""

FENCE = re.compile(
    r"(?:^<!-- (?P<marker>[^\n]*) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
NUMBER = re.compile(r"\b[0-9a-f]{8,}\b|(?<!\w)-?\d[\d.,]*(?:e[-+]?\d+)?")
LEFT_OUT = "..."
SLOW_MACHINE = re.compile(r"^plain .* per step; chosen: .*\n", re.MULTILINE)
"""What training says where it takes long enough to be tuned; a page need not show it."""
SEPARATORS = {"&&", "||", "|", ";", "&"}


@dataclass
class Block:
    page: Path
    line: int
    language: str
    text: str
    marker: str
    """What the comment before it says."""
    output: str | None = None
    """What the page shows of its output."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_code(self) -> bool:
        return self.language in ("sh", "python")

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        return self.marker.removeprefix("not run: ") if self.marker.startswith("not run: ") else None


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """The blocks of a page that are code, each with its output."""
    content, found, last = page.read_text(), list[Block](), None
    for fence in FENCE.finditer(content):
        line = content.count("\n", 0, fence.start("text")) + 1
        block = Block(page, line, fence["language"], fence["text"], fence["marker"] or "")
        if block.is_code:
            found.append(block)
        elif block.language in ("text", "json") and last is not None and last.is_code:
            last.output = block.text
        last = block
    return tuple(found)


def runnable(text: str) -> str:
    """A shell block without set-up lines, but with what they do with the command."""
    lines = []
    for line in text.splitlines():
        if line.startswith("pip install"):
            _, _, line = line.partition(" && ")
            if not line.startswith("convatlas "):
                continue
        lines.append(line)
    return "\n".join(lines)


def run_shell(block: Block, folder: Path) -> str:
    """Run a block, and return what it prints.

    Raises:
        AssertionError: it ends with another status than the page says.
    """
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env |= {"CUDA_VISIBLE_DEVICES": "", "COLUMNS": "100"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", runnable(block.text)],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == (2 if block.marker == "fails" else 0), f"{block.where}\n{block.text}\n{done.stdout}"
    return done.stdout


def run_python(block: Block, folder: Path, names: dict[str, Any]) -> str:
    """Run a block with the names of those before it, and return what it prints."""
    printed = io.StringIO()
    mistake: type[BaseException] | tuple[()] = UserError if block.marker == "fails" else ()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), names)
        except mistake as error:
            print(f"UserError: {error}")
    return printed.getvalue()


def without_numbers(text: str) -> list[str]:
    """The lines of an output as far as they are compared."""
    return [" ".join(NUMBER.sub("0", line).split()) for line in text.strip().splitlines()]


def shows(output: str, printed: str) -> bool:
    """Whether a page may show this of what was printed."""
    if not SLOW_MACHINE.search(output):
        printed = SLOW_MACHINE.sub("", printed)
    pattern = ""
    for line in without_numbers(output):
        if line == LEFT_OUT:
            pattern += r"(?:.*\n)*"
        else:
            # Where nothing was left out, there is no space either.
            pattern += re.escape(line.replace(f" {LEFT_OUT}", LEFT_OUT)).replace(re.escape(LEFT_OUT), ".*") + r"\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in without_numbers(printed))) is not None


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_every_block_runs_and_prints_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    names: dict[str, Any] = {}
    different = []
    for block in (block for block in blocks(page) if block.reason is None):
        printed = run_shell(block, tmp_path) if block.language == "sh" else run_python(block, tmp_path, names)
        printed = printed.replace(str(tmp_path), HOME)
        if block.output is not None and not shows(block.output, printed):
            different.append(f"{block.where} shows\n{block.output}\nand prints\n{printed}")
    assert not different, "\n".join(different)


def test_an_output_is_compared_by_its_words() -> None:
    printed = "epoch  1/10  loss 1.1360  training accuracy  31.25 %\nepoch  2/10  loss 0.9\n\nrun folder  runs/cloth\n"
    assert shows(printed, printed)
    assert shows("epoch 1/8  loss 2.0e-04  training accuracy 1.00 %\n...\nrun folder runs/cloth\n", printed)
    assert shows("epoch 1/8 ... accuracy 9 %\n...", printed)
    assert not shows("epoch 1/8  loss 2.0  training accuracy 1.00 %\n", printed)
    assert not shows("...\nrun folder  runs/wool\n", printed)
    assert not shows("epoch 1/8  loss 2.0  test accuracy 1.00 %\n...", printed)
    # A number that is part of a name is a word.
    assert not shows("resnet18\n", "resnet34\n")


def test_what_is_not_run_is_known() -> None:
    reasons = {
        str(page.relative_to(ROOT)): {block.reason for block in blocks(page) if block.reason is not None}
        for page in RUN
    }
    assert {page: found for page, found in reasons.items() if found} == NOT_RUN
    markers = {block.marker for page in RUN for block in blocks(page) if block.reason is None}
    assert markers <= {"", "fails"}


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a shell block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word not in SEPARATORS:
                words.append(word)
            elif words:
                yield words
                words = []


def arguments(words: list[str]) -> list[str] | None:
    """What a command gives to convatlas; None if it calls another program, or if a variable holds it."""
    for caller in (["convatlas"], ["-m", "convatlas"]):
        for i in range(len(words) - len(caller) + 1):
            if words[i : i + len(caller)] == caller and (i == 0 or caller[0] == "-m"):
                rest = words[i + len(caller) :]
                return None if rest and rest[0].startswith("$") else rest
    return None


def parse(words: list[str]) -> None:
    """
    Raises:
        typer's errors, KeyError: the command has no such verb, option or argument.
    """
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        word, *words = words
        if any(word in parameter.opts for parameter in command.params):
            return
        command = command.commands[word]
    command.make_context(command.name, words)


SHELL = [block for page in PAGES for block in blocks(page) if block.language == "sh"]
PYTHON = [block for page in PAGES for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.where)
def test_the_commands_of_a_block_exist(block: Block) -> None:
    for words in commands(block):
        given = arguments(words)
        if given is not None:
            parse(given)
        for word in words:
            if word.startswith(("docs/", "scripts/", "benchmarks/", "src/", "tests/")):
                assert (ROOT / word).exists(), word


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_the_code_of_a_block_is_python(block: Block) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ast.parse(block.text)
