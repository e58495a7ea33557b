"""An artefact in its own runtime, in a process of its own: what the gate compares with the model. No torch is loaded.

    python -P -m convatlas.deployment.gate_child ARTEFACT FOLDER

The folder has `request.json`, `prepared.npy` and, for lower precision, `held_out.npy`; `answers.json` and
`answers.npz` are written into it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from convatlas.deployment.predictor import LOGITS, PROBABILITIES, Artefact
from convatlas.deployment.runtimes import Array, executed
from convatlas.errors import UserError

REQUEST, PREPARED, HELD_OUT = "request.json", "prepared.npy", "held_out.npy"
ANSWERS, ARRAYS = "answers.json", "answers.npz"
HELD_OUT_BATCH = 32


def answer(artefact: Artefact, folder: Path) -> tuple[dict[str, object], dict[str, Array]]:
    """What the artefact answers to a request."""
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    prepared = np.load(folder / PREPARED)
    arrays: dict[str, Array] = {}
    for size in request["batch_sizes"]:
        parts = [artefact.network.run(prepared[i : i + size]) for i in range(0, len(prepared), size)]
        for name in parts[0]:
            arrays[f"batch {size}, {name}"] = np.concatenate([part[name] for part in parts])
    own = np.concatenate([artefact.prepare(path) for path in request["images"]])
    arrays["own"] = own
    answered = [artefact.network.run(one[None]) for one in own]
    arrays |= {f"own, {name}": np.concatenate([one[name] for one in answered]) for name in (LOGITS, PROBABILITIES)}
    if (folder / HELD_OUT).exists():
        squares = np.load(folder / HELD_OUT, mmap_mode="r")
        normalize = artefact.manifest.card.preprocessing.normalize
        batches = (squares[i : i + HELD_OUT_BATCH] for i in range(0, len(squares), HELD_OUT_BATCH))
        arrays["held out"] = np.concatenate(
            [artefact.network.run(normalize(batch))[LOGITS].argmax(1) for batch in batches]
        )
    products = artefact.network.products()
    return {"executed": executed(products), "products": products, "classes": artefact.classes}, arrays


def main() -> None:
    place, folder = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        answers, arrays = answer(Artefact.open(place), folder)
        np.savez(folder / ARRAYS, allow_pickle=False, **arrays)
    except UserError as error:
        answers = {"error": str(error)}
    (folder / ANSWERS).write_text(json.dumps(answers), "utf-8")


if __name__ == "__main__":
    main()
