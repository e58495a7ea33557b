"""An artefact, told from a run or a model by those who take none."""

from __future__ import annotations

import os
from pathlib import Path

from convatlas.errors import UserError
from convatlas.files.names import CARD, RECORD

MANIFEST = "artefact.json"
ENTRANCE = "preprocessing"
"""Of the file of the preprocessing, without its suffix."""
NETWORK_SUFFIXES = (".onnx", ".xml", ".bin")


def check_no_artefact(path: Path) -> None:
    """
    Raises:
        UserError: it is an artefact, one without its manifest, or a file of one.
    """
    # All of these are false, too, where there can be no such path.
    if any(os.path.isfile(path / name) for name in (RECORD, CARD)):
        return
    if os.path.isfile(path / MANIFEST):
        raise UserError(
            f"{path} is an artefact already, for convatlas predict and bench; name the run or model that it was "
            "exported from"
        )
    if any(os.path.isfile(path / f"{ENTRANCE}{suffix}") for suffix in NETWORK_SUFFIXES):
        raise UserError(f"{path} is an artefact without its {MANIFEST}; export the model again")
    if path.suffix in (*NETWORK_SUFFIXES, Path(MANIFEST).suffix) and os.path.isfile(path.parent / MANIFEST):
        raise UserError(f"{path} is a file of an artefact; name its folder, {path.parent}")
