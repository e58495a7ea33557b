"""What the shell offers when somebody presses Tab: verbs, options, and the names of networks and topics, at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import convatlas as ca
from convatlas.cli.completion import level_names, network_names, topic_names
from convatlas.draw.levels import LEVELS


def test_names_that_are_completed_are_those_that_there_are() -> None:
    # After a change copy them: they stand in a file that needs no torch.
    assert network_names() == [variant.name for variant in ca.variants()]
    assert level_names() == list(LEVELS)
    assert topic_names() == [topic.id for topic in ca.experiments.TOPICS]


LENETS = ["lenet5", "lenet5-modern"]
OFFERED = {
    "tr": ["train"],
    "experiment r": ["run", "report"],
    "train lenet5 --re": ["--recipe", "--resolution", "--resize"],
    "train lenet5 --no-auto": ["--no-autotune"],
    "train lenet5": LENETS,
    "find-lr lenet5": LENETS,
    "show lenet5": LENETS,
    "show lenet5 --level st": ["stages"],
    "claims lenet5": LENETS,
    "compare vgg16 lenet5": LENETS,
    "experiment run se": ["separable"],
    "experiment run compound se": ["separable"],
    # Where a shell hears nothing, it offers files.
    "evaluate ru": [],
    "predict run a": [],
    "train lenet5 --data f": [],
}


PRESSING_TAB = """
import contextlib, io, json, os, sys
from convatlas.cli import main

sys.argv = ["convatlas"]
os.environ["_CONVATLAS_COMPLETE"] = "complete_bash"
offered = {}
for typed in json.load(sys.stdin):
    os.environ |= {"COMP_WORDS": f"convatlas {typed}", "COMP_CWORD": str(len(typed.split()))}
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as said:
        main()
    offered[typed] = said.getvalue().split()
json.dump([offered, "torch" in sys.modules], sys.stdout)
"""


def test_what_is_begun_is_completed_without_torch() -> None:
    # In a process of its own: in this one torch is loaded.
    done = subprocess.run(
        [sys.executable, "-c", PRESSING_TAB], input=json.dumps([*OFFERED]), capture_output=True, text=True, check=True
    )
    offered, with_torch = json.loads(done.stdout)
    assert offered == OFFERED
    assert not with_torch


TAB = {
    "bash": ". ~/.bashrc; COMP_WORDS=(convatlas train lenet5-m); COMP_CWORD=2; _convatlas_completion convatlas; "
    "echo ${COMPREPLY[*]}",
    "fish": "complete -C 'convatlas train lenet5-m'",
}
"""What a shell that has just been opened does when Tab is pressed."""


@pytest.mark.skipif(os.name == "nt", reason="Windows starts no file by its first line")
@pytest.mark.parametrize("shell", TAB)
def test_a_shell_completes_after_the_installation(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "bin" / "convatlas"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom convatlas.cli import main\n\nmain()\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HOME": str(tmp_path)}
    environment.pop("XDG_CONFIG_HOME", None)

    def typed(line: str) -> str:
        # With more than one command in it the shell stays there, and is known by that.
        words = [shell, "-c", f"{line}; true"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout

    assert f"{shell} completion installed" in typed("convatlas --install-completion")
    assert typed(TAB[shell]) == "lenet5-modern\n"
