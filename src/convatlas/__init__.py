"""convatlas: the convolutional networks that made history, built as their papers print them.

    >>> import convatlas as ca
    >>> network = ca.create("lenet5")
    >>> ca.measure.layers(network).params
    60000

The public names load what they need when they are first used: importing the package loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convatlas import draw as draw
    from convatlas import experiments as experiments
    from convatlas import measure as measure
    from convatlas import museum as museum
    from convatlas.atlas import create as create
    from convatlas.atlas import families as families
    from convatlas.atlas import find as find
    from convatlas.atlas import variants as variants
    from convatlas.compression.compress import compress as compress
    from convatlas.compression.folding import fold_batch_norm as fold_batch_norm
    from convatlas.deployment.bench import bench as bench
    from convatlas.deployment.export import export as export
    from convatlas.deployment.export import export_fastest as export_fastest
    from convatlas.deployment.predictor import Artefact as Artefact
    from convatlas.errors import UserError as UserError
    from convatlas.models.model import Model as Model
    from convatlas.networks.features import features as features
    from convatlas.recipe import Recipe as Recipe
    from convatlas.runs.options import Distillation as Distillation
    from convatlas.runs.options import InitFrom as InitFrom
    from convatlas.runs.options import Runtime as Runtime
    from convatlas.runs.options import Validation as Validation
    from convatlas.runs.report import write_report as write_report
    from convatlas.runs.run import Run as Run
    from convatlas.runs.run import load as load
    from convatlas.spec import Scale as Scale
    from convatlas.training import Request as Request
    from convatlas.training import resume as resume
    from convatlas.training import train as train
    from convatlas.training.lr_finder import find_lr as find_lr
    from convatlas.training.sweep import sweep as sweep

__version__ = "0.1.0"

# The module of each public name; None: the name is a subpackage itself.
_HOMES = {
    "Artefact": "deployment.predictor",
    "Distillation": "runs.options",
    "InitFrom": "runs.options",
    "Model": "models.model",
    "Recipe": "recipe",
    "Request": "training",
    "Run": "runs.run",
    "Runtime": "runs.options",
    "Scale": "spec",
    "UserError": "errors",
    "Validation": "runs.options",
    "bench": "deployment.bench",
    "compress": "compression.compress",
    "create": "atlas",
    "draw": None,
    "experiments": None,
    "export": "deployment.export",
    "export_fastest": "deployment.export",
    "families": "atlas",
    "features": "networks.features",
    "find": "atlas",
    "find_lr": "training.lr_finder",
    "fold_batch_norm": "compression.folding",
    "load": "runs.run",
    "measure": None,
    "museum": None,
    "resume": "training",
    "sweep": "training.sweep",
    "train": "training",
    "variants": "atlas",
    "write_report": "runs.report",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'convatlas' has no attribute {name!r}")
    home = _HOMES[name]
    if home is None:
        return importlib.import_module(f"convatlas.{name}")
    return getattr(importlib.import_module(f"convatlas.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
