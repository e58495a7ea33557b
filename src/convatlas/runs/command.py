"""The command that repeats a run."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path

from convatlas.images import ResizeMode
from convatlas.runs.options import Distillation, InitFrom, Runtime, Validation
from convatlas.runs.run import Run
from convatlas.spec import Scale

NAMES = {"path": "--from"}
"""Options whose names on the command line are others than those of their fields."""


def command(run: Run) -> str | None:
    """The command that trains the same network in the same way, with every number written out.

    None if there is none: records of format 1 do not have the multipliers of the spec, and a program may have given a
    spec, a recipe, a constraint or a training error to stop at.
    """
    record = run.record
    init_from = record.init_from
    if record.scale is None or record.stop_at_error is not None:
        return None
    if init_from is not None and init_from.constraint is not None:
        return None
    recipe, provenance, mode = record.recipe, run.card.provenance, run.card.preprocessing.mode
    words = [
        *options(record.scale),
        *("--data", record.data, "--recipe", recipe.name, "--epochs", str(recipe.epochs)),
        *("--batch-size", str(recipe.batch_size), "--lr", repr(recipe.lr), "--seed", str(record.seed)),
        *(("--class-weights", record.class_weights) if record.class_weights else ()),
        *(("--labels", str(Path(record.data) / provenance.labels)) if provenance.labels else ()),
        *(("--group-by", provenance.group_by) if provenance.group_by else ()),
        # Fine-tuning chooses by the images, and they may be others by then.
        *(("--resize", mode) if init_from is not None or mode is not ResizeMode.CROP else ()),
    ]
    for group in (record.validation, init_from, record.distillation, record.runtime):
        words += options(group) if group is not None else []
    if provenance.skip_bad:
        words.append("--skip-bad")
    program = ["convatlas"]
    if record.num_processes > 1:
        program = ["torchrun", "--nproc-per-node", str(record.num_processes), "-m", "convatlas"]
    return shlex.join([*program, "train", run.card.variant, *words])


def options(group: Scale | Validation | InitFrom | Distillation | Runtime) -> list[str]:
    """The options of a group that say something; those of `Validation` always."""
    words: list[str] = []
    for field in fields(group):
        value = getattr(group, field.name)
        if value == field.default and field.name != "val_split":
            continue
        name = NAMES.get(field.name, f"--{field.name.replace('_', '-')}")
        if isinstance(value, bool):
            words.append(name if value else f"--no-{name.removeprefix('--')}")
        else:
            words += [name, value if isinstance(value, str) else repr(value)]
    return words
