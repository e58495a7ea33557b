"""`run.json`: everything needed to rebuild a run's network, repeat the run and judge it."""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Self

import torch
from torch import nn

from convatlas import atlas, measure
from convatlas.errors import UserError
from convatlas.files import tuples
from convatlas.formatting import plural
from convatlas.images import Preprocessing
from convatlas.images.preprocessing import from_format_2 as preprocessing_from_format_2
from convatlas.networks.low_bits import LayerBits, LowBits, attach_fake_quant
from convatlas.recipe import (
    SCHEDULES,
    Augmentation,
    Decayed,
    Distillation,
    LinearDecay,
    Optimizer,
    Recipe,
    Steps,
    WeightConstraint,
)
from convatlas.spec import Spec

FORMAT = 3
ADDED = {"kept": None, "distillation": None, "made": None, "low_bits": None}
"""What records of this format have had since later, and what each was before."""


def installed_versions() -> dict[str, str]:
    return {
        "convatlas": version("convatlas"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "pillow": version("pillow"),
    }


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a step is computed. It changes rounding, and the order in memory also which units dropout leaves out."""

    threads: int
    """Of each process on the CPU."""
    channels_last: bool = True
    """The order of weights and images in memory; else contiguous."""
    bfloat16: bool = False
    """Convolutions and products in half precision (`torch.autocast`)."""
    compiled: bool = False
    """By `torch.compile`."""

    @property
    def describe(self) -> str:
        return ", ".join(
            [
                "bfloat16" if self.bfloat16 else "float32",
                "channels last" if self.channels_last else "contiguous",
                plural(self.threads, "thread"),
                *["compiled"] * self.compiled,
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Results:
    test_accuracy: float
    """A fraction."""
    test_interval: tuple[float, float]
    """Where it lies with 95 % confidence."""
    test_errors: int
    test_images: int
    train_images: int
    skipped_images: int
    """Damaged ones, with --skip-bad."""
    epochs: int
    """Those that were trained: with patience, they may be fewer than the recipe's."""
    best_epoch: int | None
    """The one whose weights these are, where images were held out."""
    seconds: float
    """Of training, interruptions not counted."""
    params: int
    macs: int
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class Record:
    format: int = field(default=FORMAT, compare=False)
    """Of the file that it was read from; it is written in the newest."""
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
    execution: Execution
    autotuned: bool = True
    """Whether `execution` is what was measured to be fastest, or to be taken as it is."""
    processes: int = 1
    """How many trained together."""
    micro_batch: int | None = None
    """Images whose gradients are computed at once, where the batch would not fit."""
    balance: bool = False
    """Whether each class weighs the same, however many images it has."""
    hold_out: bool = False
    """Whether a seeded tenth of the training images is held out, and the best epoch by it is what stays."""
    patience: int | None = None
    """Epochs without a better one after which training stops early."""
    checkpoint_steps: int | None = None
    start: str | None = None
    """The weights that training began from."""
    freeze: bool = False
    """Whether the head alone is trained."""
    kept: WeightConstraint | None = None
    """What stays of the weights at `start`, all of which training then begins from; None: a new head is put on them."""
    distillation: Distillation | None = None
    """What is learned from another run."""
    low_bits: LowBits | None = None
    """Of the weights and of what layers read; None: 32 of each."""
    made: str | None = None
    """How the weights were made of those at `start`, where that was no training."""
    width: float | None = None
    """What the spec came from; None in records of the first format, and where a spec or a recipe of the person's own
    was given, which no command can repeat. The same of depth and phi."""
    depth: float | None = None
    phi: float | None = None
    results: Results | None = None
    """None until the run is finished."""
    versions: dict[str, str] = field(default_factory=installed_versions)
    machine: str = field(default_factory=platform.machine)

    @property
    def resumable(self) -> bool:
        """Whether an unfinished run can go on. Those of the first format left other checkpoints and drew otherwise."""
        return self.format > 1

    def network(self) -> nn.Module:
        """What the run trains, with new weights."""
        network = atlas.find(self.variant).network(self.spec)
        return attach_fake_quant(network, self.low_bits) if self.low_bits else network

    def to_json(self) -> bytes:
        values = dataclasses.asdict(self) | {"format": FORMAT}
        values["recipe"]["schedule"]["kind"] = type(self.recipe.schedule).__name__
        return (json.dumps(values, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Self:
        """Read what `to_json` wrote, or an older format.

        Raises:
            UserError: it is not such a file, or a newer format; `where` names it in the message.
        """
        try:
            values = tuples(json.loads(content))
            written = values["format"]
            if written > FORMAT:
                raise UserError("written by a newer convatlas; update this one to read it")
            if written == 1:
                _from_format_1(values)
            if written <= 2:
                _from_format_2(values)
            values = {**ADDED, **values}
            missing = {part.name for part in dataclasses.fields(cls)} - values.keys()
            if missing:
                raise KeyError(*sorted(missing))
            variant = atlas.find(values["variant"])
            recipe, results, distillation = (values.pop(name) for name in ("recipe", "results", "distillation"))
            kept, low_bits = values.pop("kept"), values.pop("low_bits")
            spec = type(variant.spec)(**values.pop("spec"))
            measure.cost_of(variant.network, spec)
            preprocessing = Preprocessing(**values.pop("preprocessing"))
            if len(values["classes"]) != spec.num_classes:
                raise ValueError("as many classes as the network has outputs")
            if spec.in_channels != preprocessing.channels:
                raise ValueError("as many channels as the network reads")
            return cls(
                spec=spec,
                preprocessing=preprocessing,
                recipe=_recipe(recipe),
                execution=Execution(**values.pop("execution")),
                results=Results(**results) if results else None,
                kept=WeightConstraint(kept) if kept else None,
                low_bits=tuple(LayerBits(**layer) for layer in low_bits) if low_bits else None,
                distillation=Distillation(**distillation) if distillation else None,
                **values,
            )
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        except Exception as error:
            # Whatever a network may say to a spec that no version wrote.
            raise UserError(f"{where} is damaged or was not written by convatlas ({error})") from error


def _recipe(values: dict[str, Any]) -> Recipe:
    schedule = values.pop("schedule")
    return Recipe(
        optimizer=Optimizer(values.pop("optimizer")),
        schedule=SCHEDULES[schedule.pop("kind")](**schedule),
        decayed=Decayed(values.pop("decayed")),
        augmentation=Augmentation(**values.pop("augmentation")),
        **values,
    )


def _from_format_1(values: dict[str, Any]) -> None:
    """Bring the values of the first format, of before there were other ways of computing a step, to this one."""
    recipe = values["recipe"]
    steps, warm_up = recipe.pop("schedule"), recipe.pop("warm_up")
    recipe["schedule"] = {"kind": Steps.__name__, "rates": steps} if steps else {"kind": "Cosine", "warm_up": warm_up}
    source = recipe.pop("source")
    recipe["sources"] = (("all", source),) if source else ()
    recipe["decayed"] = Decayed.WEIGHTS
    values["execution"] = {"threads": values.pop("threads")}
    if values["results"]:
        values["results"] |= {"epochs": recipe["epochs"], "best_epoch": None}
    defaults = (part for part in dataclasses.fields(Record) if part.default is not dataclasses.MISSING)
    for part in defaults:
        values.setdefault(part.name, part.default)


def _from_format_2(values: dict[str, Any]) -> None:
    """Bring the values of the second format to the field's words."""
    recipe = values["recipe"]
    values["preprocessing"] = preprocessing_from_format_2(values["preprocessing"])
    _rename(recipe, {"optimiser": "optimizer", "smoothing": "alpha"})
    _rename(recipe["schedule"], {"warm_up": "warmup", "climb": "warmup"})
    if recipe["schedule"]["kind"] == "Linear":
        recipe["schedule"]["kind"] = LinearDecay.__name__
    _rename(values, {"hold_out": "val_split", "tuned": "autotuned"})
    if values.get("distillation"):
        _rename(values["distillation"], {"soft": "distill_weight", "hints": "attention_weight"})
    if values["results"]:
        _rename(
            values["results"],
            {"test_pictures": "test_images", "train_pictures": "train_images", "left_out_pictures": "skipped_images"},
        )


def _rename(values: dict[str, Any], names: dict[str, str]) -> None:
    for old, new in names.items():
        if old in values:
            values[new] = values.pop(old)
