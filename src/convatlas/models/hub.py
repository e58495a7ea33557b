"""Models on the Hugging Face hub: read from there, and folders that can be uploaded as they are."""

from __future__ import annotations

import json
import logging
import re
import textwrap
from pathlib import Path
from typing import Any

from convatlas.errors import UserError
from convatlas.formatting import count, percent
from convatlas.models.card import CARD, Card, Provenance
from convatlas.models.folder import WEIGHTS

PREFIX = "hf:"
NAME = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
README = "README.md"
LICENSES = ("apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "mit")
"""Of published weights, those that the hub knows by these names."""
TIMM = "timm"
"""The library that has its weights on the hub, under its own names."""
MAX_QUOTED = 300
"""Characters of the hub's own message that ours quotes."""


def is_on_hub(name: str) -> bool:
    """Whether that is the name of a model on the hub."""
    return name.startswith(PREFIX)


def fetch_from_hub(name: str) -> Path:
    """The folder, in the hub's own cache, of a model on the hub; what is not there yet is downloaded.

    Args:
        name: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`; a revision is a branch, a tag or a commit.

    Raises:
        UserError: it is no such name, there is no such model, or it cannot be downloaded.
    """
    match = NAME.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise UserError(
            f"{name} is not the name of a model; it must be {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME@REVISION"
        )
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise UserError("models of the hub need huggingface_hub: pip install 'convatlas[hf]'") from error
    # Its bars and log lines would run through ours.
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        card = Path(hf_hub_download(match["repo"], CARD, revision=match["revision"]))
        # Of the same commit, whatever a branch is by now: the folder is called like it.
        hf_hub_download(match["repo"], WEIGHTS, revision=card.parent.name)
        return card.parent
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        quoted = textwrap.shorten(str(error) or type(error).__name__, MAX_QUOTED, placeholder=" …")
        raise UserError(f"{name} cannot be fetched: {quoted}") from error


def readme_of(card: Card) -> bytes:
    """The page of a model folder, with the front matter by which the hub sorts models."""
    provenance, score = card.provenance, card.score
    origin = provenance.imported or provenance.started_from
    title = f"{card.variant} on {provenance.data}"
    front: dict[str, Any] = {
        "library_name": "convatlas",
        "pipeline_tag": "image-classification",
        "tags": ["convatlas", card.variant, "image-classification"],
    }
    if origin is not None:
        front |= license_fields(origin.license) | base_model_fields(origin.weights)
    if score is not None:
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": provenance.data, "type": "image-classification"},
            "metrics": [{"type": "accuracy", "value": round(score.accuracy, 6)}],
        }
        front |= {"model-index": [{"name": title, "results": [result]}]}
    # YAML reads JSON's values as they are.
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", f"# {title}", ""]
    facts = [
        ("network", card.variant),
        ("parameters", count(card.params)),
        ("MACs", count(card.macs)),
        ("classes", count(len(card.classes))),
        ("input", f"{card.preprocessing.crop} px, {'gray' if card.preprocessing.channels == 1 else 'color'}"),
        ("weights", weights_in_words(provenance)),
    ]
    if score is not None:
        low, high = score.interval
        facts.append(
            (
                "test accuracy",
                f"{percent(score.accuracy)} of {count(score.num_images)} images (95 % interval {percent(low)} to "
                f"{percent(high)})",
            )
        )
    if origin is not None and origin.license:
        facts.append(("license of the weights", origin.license))
    lines += ["| | |", "|---|---|", *(f"| {name} | {cell(value)} |" for name, value in facts), ""]
    lines += [
        "```python",
        "import convatlas as ca",
        "",
        'model = ca.load("FOLDER")  # or "hf:OWNER/NAME" once it is on the hub',
        'print(model.predict("photo.jpg"))',
        "```",
        "",
    ]
    return "\n".join(lines).encode(errors="backslashreplace")


def weights_in_words(provenance: Provenance) -> str:
    """How a model's weights were made, as "trained, from torchvision:resnet18"."""
    imported, started = provenance.imported, provenance.started_from
    if imported is not None and imported.weights:
        return f"of {imported.weights}"
    if started is not None and started.weights:
        return f"{provenance.method}, from {started.weights}"
    return provenance.method


def base_model_fields(weights: str) -> dict[str, str]:
    """The field of the front matter for the model on the hub that weights are from; none if they are from elsewhere.

    Args:
        weights: as `StartedFrom.weights` says whose they are.
    """
    library, _, name = weights.partition(":")
    if library == TIMM:
        return {"base_model": f"timm/{name}"}
    match = NAME.fullmatch(weights.removeprefix(PREFIX)) if is_on_hub(weights) else None
    return {} if match is None else {"base_model": match["repo"]}


def license_fields(name: str) -> dict[str, str]:
    """The fields of the front matter for a license; none for one that is not known.

    Args:
        name: by its SPDX identifier, or in words.
    """
    identifier = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    if not identifier:
        return {}
    return {"license": identifier} if identifier in LICENSES else {"license": "other", "license_name": identifier}


def cell(text: str) -> str:
    """Text in a table of Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")
