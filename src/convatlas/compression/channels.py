"""Pruning whole channels: a narrower network of the same family, with fewer parameters and multiplications.

How many channels each layer keeps becomes a spec of the family, and the network is built from that, so that nothing of
the original is needed to use it.
"""

from __future__ import annotations

import bisect
import copy
import enum
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.compression.channel_groups import (
    ChannelGroup,
    graph_of,
    groups_of,
    torch_pruning,
    traceable,
    with_channels,
)
from convatlas.compression.stages import FineTuning, TrainedModel, calibration_batch, derive_model
from convatlas.compression.target import CostTarget, LatencyTarget, MacsTarget
from convatlas.errors import UserError
from convatlas.formatting import plural
from convatlas.measure.table import build_without_memory, empty_batch, record_layer_calls
from convatlas.measure.trace import Trace
from convatlas.runs.options import WeightConstraint
from convatlas.spec import Spec, Variant


class Importance(enum.StrEnum):
    """What makes a channel important."""

    MAGNITUDE = "magnitude"
    """The mean square of the weights that make it and read it (Li et al. 2017; Fang et al. 2023)."""
    TAYLOR = "taylor"
    """An estimate of how much the loss on training images changes without it (Molchanov et al. 2019)."""
    BATCH_NORM = "batch-norm"
    """The scale that batch normalization learned for it (Liu et al. 2017)."""


def above(threshold: float) -> Callable[[ChannelGroup], int]:
    """How many channels of a group stay: those that score at least the threshold."""
    return lambda group: group.num_kept(threshold)


def structure(variant: Variant, spec: Spec) -> tuple[list[str], list[Any]]:
    """The names of a network's tensors, and its operations: what does not depend on its channel counts."""
    network = build_without_memory(variant.network, spec)
    with Trace() as trace:
        record_layer_calls(network, empty_batch(spec))
    return list(network.state_dict()), [operation.op for operation in trace.operations]


def threshold_for(variant: Variant, spec: Spec, groups: list[ChannelGroup], target: CostTarget) -> float | None:
    """The lowest importance threshold at which the network costs at most `target`; None if there is none."""
    # The last leaves as few channels as there may be.
    thresholds = [*sorted({float(value) for group in groups for value in group.scores}), float("inf")]
    own = structure(variant, spec)

    def fits(threshold: float) -> bool:
        return target.cost(variant, with_channels(spec, groups, above(threshold))) <= target.limit

    for threshold in thresholds[bisect.bisect_left(thresholds, True, key=fits) :]:
        # Where channel counts happen to become equal, a family may add an identity shortcut or drop a projection.
        if structure(variant, with_channels(spec, groups, above(threshold))) == own:
            return threshold
    return None


def without(
    traced: nn.Module, graph: Any, groups: list[ChannelGroup], threshold: float, network: nn.Module
) -> nn.Module:
    """`network`, of the narrower spec, with the weights of the channels that stay.

    Args:
        traced: its channels are removed; `graph` and `groups` are of it.
    """
    gone: dict[nn.Module, list[int]] = {}
    for group in groups:
        gone.setdefault(group.root, []).extend(group.removed(threshold).tolist())
    for root, places in gone.items():
        if places:
            outputs = graph.get_pruner_of_module(root).prune_out_channels
            graph.get_pruning_group(root, outputs, sorted(places)).prune()
    own = network.state_dict()
    network.load_state_dict({name: value for name, value in traced.state_dict().items() if name in own})
    return network


def prune(source: TrainedModel, network: nn.Module, target: CostTarget, importance: Importance) -> nn.Module:
    """A narrower network that costs no more than that, with the weights of the most important channels.

    Raises:
        UserError: one round cannot reach the cost, or the network has nothing to measure this importance by.
    """
    spec = source.spec
    traced = traceable(network)
    graph, groups = grouped(source, network, traced, importance)
    threshold = threshold_for(source.variant, spec, groups, target)
    if threshold is None:
        raise unreachable(source, groups, target, rounds=1)
    # Building draws random numbers; the caller's stay as they were.
    with torch.random.fork_rng():
        narrow = source.variant.network(with_channels(spec, groups, above(threshold)))
    return without(traced, graph, groups, threshold, narrow)


def grouped(
    source: TrainedModel, network: nn.Module, traced: nn.Module, importance: Importance
) -> tuple[Any, list[ChannelGroup]]:
    """torch-pruning's graph, and all channels that can go.

    Raises:
        UserError: none can.
    """
    spec = source.spec
    graph = graph_of(traced, spec)
    groups = groups_of(graph, traced, spec, scorer(source, network, traced, importance))
    if not groups:
        raise UserError(f"{source.variant.name} has no channels that can be pruned by {importance}")
    return graph, groups


def unreachable(source: TrainedModel, groups: list[ChannelGroup], target: CostTarget, rounds: int) -> UserError:
    nearest = with_channels(source.spec, groups, lambda group: group.fewest(rounds))
    took = target.describe(target.cost(source.variant, nearest))
    return UserError(
        f"{target} cannot be reached in {plural(rounds, 'round')} of pruning; the narrowest network takes about {took}"
    )


def scorer(
    source: TrainedModel, network: nn.Module, traced: nn.Module, importance: Importance
) -> Callable[[Any], Tensor | None]:
    """Gives the importance of each channel of one of torch-pruning's groups."""
    measures = torch_pruning().importance
    kinds: dict[Importance, Callable[..., Callable[[Any], Tensor | None]]] = {
        Importance.MAGNITUDE: measures.GroupMagnitudeImportance,
        Importance.TAYLOR: measures.GroupTaylorImportance,
        Importance.BATCH_NORM: measures.BNScaleImportance,
    }
    if importance is Importance.TAYLOR:
        put_gradients(source, network, traced)
    return kinds[importance](normalizer=None)


def put_gradients(source: TrainedModel, network: nn.Module, traced: nn.Module) -> None:
    """Give the copy's parameters the gradients of the network's loss on training images."""
    batch = calibration_batch(source)
    learning = copy.deepcopy(network).eval().requires_grad_()
    with torch.enable_grad():
        source.variant.objective.losses(learning(batch.inputs), batch.targets).mean().backward()
    gradients = {name: value.grad for name, value in learning.named_parameters()}
    for name, value in traced.named_parameters():
        # Auxiliary classifiers have none, nor do layers that are there for tracing only.
        gradient = gradients.get(name)
        value.grad = torch.zeros_like(value) if gradient is None else gradient


def prune_channels(
    source: TrainedModel,
    out: str | Path,
    target: MacsTarget | LatencyTarget,
    importance: Importance = Importance.TAYLOR,
    *,
    rounds: int = 1,
    fine_tuning: FineTuning | None = None,
) -> tuple[TrainedModel, ...]:
    """Prune channels and fine-tune, in rounds, until the network costs no more than that.

    Every round lowers the cost by the same factor and leaves two folders below `out`. Rounds that are done are not
    done again.

    Args:
        target: MACs for one image, or the latency for one image on this machine.
        rounds: more rounds of smaller cuts lose less accuracy and take longer.

    Returns:
        for each round the pruned model and the fine-tuned one; the last costs no more than `target`.

    Raises:
        UserError: the cost cannot be reached, or see `train`.
        Interrupted: see `train`; the same call goes on.
    """
    out, fine_tuning = Path(out), fine_tuning or FineTuning()
    if rounds < 1:
        raise UserError(f"{rounds} rounds prune nothing; there must be at least 1")
    before = target.cost(source.variant, source.spec)
    if before <= target.limit:
        raise UserError(f"{source.name} takes {target.describe(before)} already, which is no more than {target}")
    _, groups = grouped(source, source.network, traceable(source.network), importance)
    narrowest = with_channels(source.spec, groups, lambda group: group.fewest(rounds))
    if target.cost(source.variant, narrowest) > target.limit:
        # Before hours of training, not after them.
        raise unreachable(source, groups, target, rounds)
    out.mkdir(parents=True, exist_ok=True)
    stages = [source]
    for number in range(1, rounds + 1):
        part = replace(target, limit=before * (target.limit / before) ** (number / rounds))
        # Without the part's target: each call measures a latency anew, and must find the stages that are done.
        name = f"channels-pruned-{number}"
        how = f"channel-pruned for {target} by {importance}, round {number} of {rounds}"
        change = partial(prune, stages[-1], target=part, importance=importance)
        pruned = derive_model(stages[-1], change, how, out / name)
        stages += [pruned, fine_tuning(pruned, WeightConstraint.NONE, out / f"{name}-tuned")]
    took = target.cost(source.variant, stages[-1].spec)
    if took > target.limit:
        fine_tuning.progress.say(
            f"{stages[-1].name} now takes {target.describe(took)} instead of {target}: latencies on this machine vary"
        )
    return tuple(stages[1:])
