"""Draw the mutants that `mutants.py` writes into the package: 60, by the operators of cosmic-ray, over four rooms.

    pip install cosmic-ray==8.7.0
    python benchmarks/sample_mutants.py

Each room gives mutants in proportion to its lines that an operator can change, a line one at most. What no test
should see is left out: annotations, what is raised and what it says, `TYPE_CHECKING`, and `is` for `==`.
"""

from __future__ import annotations

import ast
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mutants

SIZE = 60
SEED = 20
Place = tuple[int, int]
"""Line and column."""


def left_out(tree: ast.AST) -> list[tuple[Place, Place]]:
    """From where to where no mutant is drawn."""
    nodes: list[ast.AST | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.Raise():
                nodes.append(node)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                nodes.append(node)
            case ast.AnnAssign() | ast.arg():
                nodes.append(node.annotation)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                nodes.append(node.returns)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))  # type: ignore[attr-defined]
        for node in nodes
        if node
    ]


def places(source: str) -> Iterator[tuple[int, str, int]]:
    """The line of each mutant that there is, its operator, and the occurrence by which cosmic-ray knows it."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(source)))
    spans = left_out(ast.parse(source))
    for name in operator_names():
        # Those of variables want to be told which.
        if "Variable" in name:
            continue
        operator, occurrence = get_operator(name)(), -1
        for node in nodes:
            for start, end in operator.mutation_positions(node):
                occurrence += 1
                among_parameters = node.parent is not None and node.parent.type == "parameters"
                if not among_parameters and not any(first <= start and end <= last for first, last in spans):
                    yield start[0], name, occurrence


def drawn(file: str, line: int, operator: str, occurrence: int) -> mutants.Mutant | None:
    """The mutant, or None where it is no program or changes more than its line."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (mutants.ROOT / file).read_text()
    try:
        written = mutate_code(source, get_operator(operator)(), occurrence)
        ast.parse(written)
    except (AttributeError, SyntaxError):
        # cosmic-ray itself fails at `except a.b`.
        return None
    before, after = source.split("\n"), written.split("\n")
    if len(after) == len(before) - 1:
        after.insert(line - 1, "")
    if len(before) != len(after):
        return None
    if [i for i, pair in enumerate(zip(before, after, strict=True), 1) if pair[0] != pair[1]] != [line]:
        return None
    text = before[line - 1]
    return mutants.Mutant(file, line, before[: line - 1].count(text), operator, text, after[line - 1])


def kind(operator: str) -> str:
    """What an operator changes, of which there are many alike: `core/ReplaceBinaryOperator_Add_Sub`."""
    return operator.split("_")[0]


def main() -> None:
    draw = random.Random(SEED)
    lines: dict[tuple[str, int], dict[str, list[tuple[str, int]]]] = defaultdict(lambda: defaultdict(list))
    for room in mutants.ROOMS:
        for path in sorted((mutants.ROOT / "src" / "convatlas" / room).glob("*.py")):
            for line, operator, occurrence in places(path.read_text()):
                if not operator.endswith(("_Eq_Is", "_NotEq_IsNot")):
                    lines[str(path.relative_to(mutants.ROOT)), line][kind(operator)].append((operator, occurrence))
    rooms = Counter(Path(file).parts[2] for file, _ in lines)
    shares = {room: SIZE * rooms[room] / len(lines) for room in mutants.ROOMS}
    sizes = {room: int(share) for room, share in shares.items()}
    for room in sorted(shares, key=lambda room: shares[room] % 1, reverse=True)[: SIZE - sum(sizes.values())]:
        sizes[room] += 1
    sample: list[dict[str, Any]] = []
    for room in mutants.ROOMS:
        places_of_room = [place for place in lines if Path(place[0]).parts[2] == room]
        draw.shuffle(places_of_room)
        found: list[mutants.Mutant] = []
        for file, line in places_of_room:
            if len(found) == sizes[room]:
                break
            choices = lines[file, line]
            mutant = drawn(file, line, *draw.choice(choices[draw.choice(sorted(choices))]))
            if mutant:
                found.append(mutant)
        sample += [asdict(mutant) for mutant in sorted(found, key=lambda mutant: (mutant.file, mutant.line))]
    mutants.SAMPLE.write_text(json.dumps(sample, indent=2) + "\n")
    print({room: (rooms[room], sizes[room]) for room in mutants.ROOMS})


if __name__ == "__main__":
    main()
