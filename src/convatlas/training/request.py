"""What a person asks for, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convatlas.errors import UserError, check_within
from convatlas.images import ResizeMode
from convatlas.images.resize import member
from convatlas.recipe import Recipe
from convatlas.runs.options import ClassWeights, Distillation, InitFrom, Runtime, Validation
from convatlas.spec import Scale, Spec

UNSCALED = Scale()
DEFAULT_RUNTIME = Runtime()


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `train`, which explains them."""

    network: str
    data: str | Path = "digits"
    recipe: str | Recipe = "default"
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    seed: int = 0
    scale: Scale = UNSCALED
    spec: Spec | None = None
    class_weights: ClassWeights | None = None
    validation: Validation | None = None
    stop_at_error: float | None = None
    init_from: InitFrom | None = None
    distillation: Distillation | None = None
    runtime: Runtime = DEFAULT_RUNTIME
    resize: ResizeMode | None = None
    skip_bad: bool = False

    @property
    def is_fine_tuned(self) -> bool:
        """Whether a new head is trained and then the pretrained layers below it with it."""
        start = self.init_from
        return start is not None and not start.freeze and start.constraint is None

    def __post_init__(self) -> None:
        if self.class_weights not in (None, "balanced"):
            raise UserError(f"`class_weights` {self.class_weights!r} is unknown; the only choice is 'balanced'")
        check_within(self, stop_at_error=(0, 1))
        if self.resize is not None:
            # A string too, as people write it.
            object.__setattr__(self, "resize", member(ResizeMode, "`resize`", self.resize))
        if self.init_from is not None and self.init_from.freeze:
            if self.recipe == "paper":
                raise UserError("`freeze` takes the default recipe: the papers' recipes train whole networks")
            if self.distillation is not None:
                raise UserError("`freeze` computes features once, so that no teacher sees the images; use one of both")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"`seed` {self.seed} is out of range; it must be an integer from 0 to 2**63 - 1")
