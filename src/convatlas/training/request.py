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
    resize: str | None = None
    labels: str | Path | None = None
    group_by: str | None = None
    skip_bad: bool = False

    @property
    def has_new_head(self) -> bool:
        """Whether training starts from weights and replaces their head."""
        return self.init_from is not None and self.init_from.constraint is None

    @property
    def is_fine_tuned(self) -> bool:
        """Whether the pretrained layers below the new head are trained too."""
        return self.has_new_head and self.init_from is not None and not self.init_from.freeze

    def __post_init__(self) -> None:
        if self.class_weights not in (None, "balanced"):
            raise UserError(f"`class_weights` {self.class_weights!r} is unknown; the only choice is 'balanced'")
        check_within(self, stop_at_error=(0, 1))
        if self.group_by is not None and self.labels is None:
            raise UserError("`group_by` is a column of a table; name the table with `labels`")
        if self.resize is not None:
            member(ResizeMode, "`resize`", self.resize)
        if self.init_from is not None and self.init_from.freeze:
            if self.recipe == "paper":
                raise UserError("`freeze` takes the default recipe: the papers' recipes train whole networks")
            if self.distillation is not None:
                raise UserError("`freeze` computes features once, so that no teacher sees the images; use one of both")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"`seed` {self.seed} is out of range; it must be an integer from 0 to 2**63 - 1")
