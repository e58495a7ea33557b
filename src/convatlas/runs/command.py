"""The command that repeats a run."""

from __future__ import annotations

import shlex

from convatlas.runs.record import Record


def command(record: Record) -> str | None:
    """What a person types to train the same network in the same way again, with every number written out.

    None where no command does: the first format of records had the network's spec without its multipliers, and a
    program may have given a spec or a recipe of its own.
    """
    if record.width is None or record.depth is None or record.phi is None:
        return None
    recipe = record.recipe
    multipliers = (("width", record.width, 1.0), ("depth", record.depth, 1.0), ("phi", record.phi, 0.0))
    options = {
        **{f"--{name}": repr(value) for name, value, usual in multipliers if value != usual},
        "--resolution": str(record.spec.resolution),
        "--data": record.data,
        "--recipe": recipe.name,
        "--epochs": str(recipe.epochs),
        "--batch-size": str(recipe.batch_size),
        "--lr": repr(recipe.lr),
        "--seed": str(record.seed),
        "--device": record.device,
    }
    distilled = record.distillation
    given = {"--micro-batch": record.micro_batch, "--patience": record.patience, "--from": record.start}
    if distilled is not None:
        given |= {
            "--teacher": distilled.teacher,
            "--temperature": f"{distilled.temperature:g}",
            "--attention_weight": f"{distilled.attention_weight:g}",
        }
    options |= {name: str(value) for name, value in given.items() if value is not None}
    switches = {
        "--balance": record.balance,
        "--hold-out": record.hold_out,
        "--freeze": record.freeze,
        "--skip-bad": record.skip_bad,
    }
    program = ["convatlas"]
    if record.processes > 1:
        program = ["torchrun", "--nproc-per-node", str(record.processes), "-m", "convatlas"]
    return shlex.join(
        [
            *program,
            "train",
            record.variant,
            *(word for option in options.items() for word in option),
            *(name for name, on in switches.items() if on),
        ]
    )
