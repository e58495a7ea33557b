"""`run.json`: everything needed to rebuild a run's network, repeat the run and judge it."""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Self

import torch

from convatlas import atlas, measure
from convatlas.errors import UserError
from convatlas.pictures import Preprocessing
from convatlas.spec import Augmentation, Optimiser, Recipe, Spec

FORMAT = 1


def installed_versions() -> dict[str, str]:
    return {
        "convatlas": version("convatlas"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "pillow": version("pillow"),
    }


@dataclass(frozen=True, kw_only=True)
class Results:
    test_accuracy: float
    """A fraction."""
    test_interval: tuple[float, float]
    """Where it lies with 95 % confidence."""
    test_errors: int
    test_pictures: int
    train_pictures: int
    left_out_pictures: int
    """Damaged ones, with --skip-bad."""
    seconds: float
    """Of training, interruptions not counted."""
    params: int
    macs: int
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class Record:
    variant: str
    spec: Spec
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    data: str
    """What `data.find` brings the set back from."""
    data_checksum: str
    skip_bad: bool
    seed: int
    recipe: Recipe
    """As it was run: with the epochs, batch size and rate that the person gave."""
    device: str
    threads: int
    results: Results | None = None
    """None until the run is finished."""
    versions: dict[str, str] = field(default_factory=installed_versions)
    machine: str = field(default_factory=platform.machine)

    def to_json(self) -> bytes:
        values = {"format": FORMAT} | dataclasses.asdict(self)
        return (json.dumps(values, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Self:
        """Read what `to_json` wrote, or an older format.

        Raises:
            UserError: it is not such a file, or a newer format; `where` names it in the message.
        """
        try:
            values = _tuples(json.loads(content))
            if values.pop("format") > FORMAT:
                raise UserError("written by a newer convatlas; update this one to read it")
            missing = {part.name for part in dataclasses.fields(cls)} - values.keys()
            if missing:
                raise KeyError(*sorted(missing))
            variant = atlas.find(values["variant"])
            recipe, results = values.pop("recipe"), values.pop("results")
            spec = type(variant.spec)(**values.pop("spec"))
            measure.cost_of(variant.network, spec)
            preprocessing = Preprocessing(**values.pop("preprocessing"))
            if len(values["classes"]) != spec.num_classes:
                raise ValueError("as many classes as the network has outputs")
            if {spec.in_channels} != {preprocessing.channels, len(preprocessing.mean), len(preprocessing.deviation)}:
                raise ValueError("as many channels as the network reads")
            return cls(
                spec=spec,
                preprocessing=preprocessing,
                recipe=Recipe(
                    optimiser=Optimiser(recipe.pop("optimiser")),
                    augmentation=Augmentation(**recipe.pop("augmentation")),
                    **recipe,
                ),
                results=Results(**results) if results else None,
                **values,
            )
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            raise UserError(f"{where} is damaged or was not written by convatlas ({error})") from error


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that frozen dataclasses hold."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {name: _tuples(part) for name, part in value.items()}
    return value
