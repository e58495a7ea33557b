"""A page that names a verb, an option, a Python name, a variable or a file that is gone fails."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import convatlas as ca
from convatlas.cli.app import app

ROOT = Path(__file__).parents[2]
MADE = {"claims.md", "experiments.md"}
"""Pages that the command writes, which tests of theirs hold fresh."""
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name not in MADE or path.parent.name != "docs"),
]

OTHER_TOOLS = {
    # torchrun
    "--standalone", "--nnodes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--rdzv-conf",
    "--max-restarts", "--local-addr",
    # SLURM
    "--job-name", "--nodes", "--ntasks-per-node", "--gpus-per-node", "--cpus-per-task", "--time", "--signal",
    "--requeue",
    # the benchmarks' own
    "--side-by-side", "--minutes",
    # hypothesis, by pytest
    "--hypothesis-profile",
}  # fmt: skip

FENCED = re.compile(r"^( *)(```+)[^\n]*\n(.*?)^\1\2", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
COMMAND = re.compile(r"(?:^|[&|;:$] *|-m +)convatlas((?: +[^\s&|;#`)]+)*)")
"""In a line of code: where a command begins."""
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
PYTHON = re.compile(r"\b(?:ca|convatlas)(?:\.[A-Za-z_]\w*)+")
VARIABLE = re.compile(r"\bCONVATLAS_[A-Z_]+\b")
FILE = re.compile(r"(?<![\w./-])(?:src|tests|docs|benchmarks|scripts)/[\w./-]*\w")
LINK = re.compile(r"\]\(<?([^)\s>]+)")

SOURCES = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
CLASSES = {name: value for name in ca.__all__ if inspect.isclass(value := getattr(ca, name))}
MEMBER = re.compile(rf"\b({'|'.join(CLASSES)})\.([a-z_]\w*)")


def verbs(
    command: TyperCommand | TyperGroup, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Every command, the whole one and groups too, with its options."""
    yield words, {"--help", *(name for one in command.params for name in (*one.opts, *one.secondary_opts))}
    for verb, inner in command.commands.items() if isinstance(command, TyperGroup) else ():
        yield from verbs(inner, (*words, verb))


VERBS = dict(verbs(get_command(app)))
VERBS[()] |= {"--install-completion", "--show-completion"}
OPTIONS = set().union(*VERBS.values())


def mistakes(text: str, folder: Path) -> list[str]:
    """What a page names that is not there.

    Args:
        folder: where the page lies, for its links.
    """
    code = [block[3].replace("\\\n", " ") for block in FENCED.finditer(text)]
    prose = FENCED.sub("", text)
    spans = [" ".join(span[2].split()) for span in SPAN.finditer(prose)]
    lines = [line for block in code for line in block.splitlines()] + spans
    return [
        *(
            found
            for line in lines
            for match in COMMAND.finditer(line.strip())
            for found in of_command(match[1].split())
        ),
        *(f"{flag}: no option" for flag in FLAG.findall(text) if flag not in OPTIONS | OTHER_TOOLS),
        *(f"{name}: no such name" for line in lines for name in PYTHON.findall(line) if not resolves(name)),
        *(f"{one}.{name}: no such member" for one, name in MEMBER.findall(text) if not has_member(CLASSES[one], name)),
        *(f"{name}: read nowhere" for name in VARIABLE.findall(text) if f'"{name}"' not in SOURCES),
        *(f"{name}: no such file" for span in spans for name in FILE.findall(span) if not (ROOT / name).exists()),
        *(f"{link}: no such file" for link in LINK.findall(prose) if not leads_somewhere(link, folder)),
    ]


def of_command(words: list[str]) -> Iterator[str]:
    """What is wrong with the words behind `convatlas`."""
    verb: tuple[str, ...] = ()
    for word in words:
        if (*verb, word) in VERBS:
            verb = (*verb, word)
        # A group without a verb takes no arguments; what is no word of the command is text in which its name stands.
        elif not any(known[:-1] == verb for known in VERBS if known) or not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        else:
            yield f"convatlas {' '.join((*verb, word))}: no such verb"
            return
    for flag in (flag for word in words for flag in FLAG.findall(word)):
        if flag not in VERBS[verb]:
            yield f"convatlas {' '.join(verb)} {flag}: no such option"


def resolves(name: str) -> bool:
    """Whether a dotted name leads to something in the package."""
    first, *rest = name.replace("convatlas", "ca", 1).split(".") if name.startswith("convatlas") else name.split(".")
    assert first == "ca"
    for num_modules in range(len(rest), -1, -1):
        try:
            module = importlib.import_module(".".join(["convatlas", *rest[:num_modules]]))
            reduce(getattr, rest[num_modules:], module)
        except (ImportError, AttributeError):
            continue
        return True
    return False


def has_member(value: type, name: str) -> bool:
    fields = {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
    return hasattr(value, name) or name in fields


def leads_somewhere(link: str, folder: Path) -> bool:
    path = unquote(link.partition("#")[0])
    return not path or re.match(r"[a-z]+:", path) is not None or (folder / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_what_is_there(page: Path) -> None:
    assert mistakes(page.read_text(), page.parent) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("`convatlas trian lenet5`", "trian"),
        ("```sh\nconvatlas experiment walk\n```", "experiment walk"),
        ("`convatlas train lenet5 --learning-rate 1`", "train --learning-rate"),
        ("```sh\nconvatlas train lenet5 \\\n    --importance taylor\n```", "train --importance"),
        ("```sh\ntorchrun --standalone -m convatlas resume RUN --epochs 3\n```", "resume --epochs"),
        ("`--no-such-flag` helps", "--no-such-flag"),
        ("`convatlas --verbose`", "--verbose"),
        ("`ca.pretrained`", "ca.pretrained"),
        ("```python\nca.measure.weigh(network)\n```", "ca.measure.weigh"),
        ("`convatlas.training.gone.Gone`", "convatlas.training.gone.Gone"),
        ("`Run.accuracy_of`", "Run.accuracy_of"),
        ("`CONVATLAS_SPEED`", "CONVATLAS_SPEED"),
        ("`tests/test_gone.py`", "tests/test_gone.py"),
        ("[there](docs/gone.md#here)", "docs/gone.md"),
        ("![chart](docs/gone.svg)", "docs/gone.svg"),
    ],
)
def test_what_is_gone_is_found(text: str, named: str) -> None:
    assert any(named in mistake for mistake in mistakes(text, ROOT))


@pytest.mark.parametrize(
    "text",
    [
        "`convatlas train lenet5 --data digits --epochs 3 && convatlas report runs/lenet5-digits`",
        "`convatlas experiment run --all`, `convatlas --help`, `convatlas VERB --help`",
        "```sh\ntorchrun --nproc-per-node 2 -m convatlas train lenet5 \\\n    --out runs/two\n```",
        "```python\nimport convatlas as ca\n```",
        "convatlas is a package; `convatlas: stopped by SIGTERM; continue with: convatlas resume RUN`",
        "`ca.measure.layers(network).params`, `convatlas.models.codec.update`, `Run.card`, `Model.predict`",
        "`CONVATLAS_CACHE`, `scripts/check`, [the house](docs/house.md#rules), [a paper](https://doi.org/1)",
    ],
)
def test_what_is_there_is_left_alone(text: str) -> None:
    assert mistakes(text, ROOT) == []
