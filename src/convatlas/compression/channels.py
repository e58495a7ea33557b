"""Pruning whole channels: a narrower network of the same family, which takes less of everything.

torch-pruning finds which channels can only go together (Fang et al. 2023). How many each layer keeps becomes a spec of
the family, and the network is built from that, so that nothing of the original is needed to use it.
"""

from __future__ import annotations

import bisect
import copy
import enum
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convatlas.compression.stages import FineTuning, TrainedModel, calibration_batch, derive_model
from convatlas.compression.target import CostTarget, Latency, Macs
from convatlas.errors import UserError
from convatlas.formatting import plural
from convatlas.measure.table import call, no_images, weightless
from convatlas.measure.trace import Trace
from convatlas.networks.blocks import LocalResponseNorm
from convatlas.networks.resnet import ZeroPadded
from convatlas.runs.options import WeightConstraint
from convatlas.spec import Spec, Variant

MULTIPLE = 8
"""Of channels in layers that have as many: what processors compute at once."""
LEAST = 8
"""No group of channels loses more than all but this part of it at once: of a mean, a small score says little."""
TINY = 1e-30
"""Of a mean, where all channels are worth nothing."""


class Importance(enum.StrEnum):
    """What a channel is worth."""

    MAGNITUDE = "magnitude"
    """The mean square of the weights that make it and read it (Li et al. 2017; Fang et al. 2023)."""
    TAYLOR = "taylor"
    """About how much the loss on training images changes without it (Molchanov et al. 2019)."""
    BATCH_NORM = "batch-norm"
    """The scale that batch normalization learned for it (Liu et al. 2017)."""


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that stand side by side in some layers, where each can only go from all of them."""

    root: nn.Module
    """One of these layers."""
    layers: tuple[str, ...]
    """Those of them that the spec counts."""
    places: Tensor
    """Of the channels in the root (towers, n)."""
    scores: Tensor
    """What each is worth (n,), the mean over towers; 1 in the mean."""

    def num_kept(self, threshold: float) -> int:
        """How many channels of a tower stay if those below the threshold go, rounded up."""
        return self.at_least(int((self.scores >= threshold).sum()), len(self.scores))

    def at_least(self, worthy: int, num: int) -> int:
        """How many channels of a tower stay of so many of which so many are worth it."""
        towers = len(self.places)
        step = max(MULTIPLE // towers, 1) if num * towers >= MULTIPLE else 1
        # One map a tower would make a depthwise convolution of it.
        least = max(worthy, -(-num // LEAST), 2 if towers > 1 else 1)
        return min(-(-least // step) * step, num)

    def fewest(self, rounds: int) -> int:
        """How many channels of a tower stay at least after so many rounds of pruning."""
        num = len(self.scores)
        for _ in range(rounds):
            num = self.at_least(0, num)
        return num

    def gone(self, threshold: float) -> Tensor:
        """The places in the root of the channels that go then."""
        worst = self.scores.argsort()[: len(self.scores) - self.num_kept(threshold)]
        return self.places[:, worst].flatten()


class Joined(nn.Module):
    """`ZeroPadded` as torch-pruning can follow it: new maps come from a layer, in place of zeros."""

    def __init__(self, padded: ZeroPadded, below: int) -> None:
        super().__init__()
        self.stride = padded.stride
        self.missing = nn.Conv2d(below, padded.missing, 1, padded.stride, bias=False)
        nn.init.zeros_(self.missing.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :, :: self.stride, :: self.stride], self.missing(x)], dim=1)


def torch_pruning() -> Any:
    """
    Raises:
        UserError: it is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise UserError("pruning channels takes torch-pruning; pip install 'convatlas[compress]' brings it") from error
    return torch_pruning


def traceable(network: nn.Module) -> nn.Module:
    """A copy whose channels torch-pruning can follow."""
    traced = copy.deepcopy(network).requires_grad_()
    for module in list(traced.modules()):
        for name, part in module.named_children():
            if isinstance(part, LocalResponseNorm):
                # It divides each map by something and moves none.
                setattr(module, name, nn.Identity())
            elif isinstance(part, ZeroPadded) and part.missing:
                below = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d)).in_channels
                setattr(module, name, Joined(part, below))
    return traced


def graph_of(traced: nn.Module, spec: Spec) -> Any:
    """torch-pruning's graph of a network's dependencies."""
    image = torch.zeros(2, spec.in_channels, spec.resolution, spec.resolution)
    with warnings.catch_warnings(), torch.random.fork_rng(), torch.enable_grad():
        # Of parameters in layers that it does not know, which stay as they are.
        warnings.simplefilter("ignore")
        return torch_pruning().DependencyGraph().build_dependency(traced, image, forward_fn=in_training)


def in_training(network: nn.Module, image: Tensor) -> Any:
    """The outputs in training, those of auxiliary classifiers among them; of normalization nothing is learned."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network(image)


def asked_for(spec: Spec) -> dict[str, int]:
    """The layers whose outputs the spec counts."""
    found = {}

    def note(name: str, num: int) -> int:
        found[name] = num
        return num

    spec.mapped(note)
    return found


def groups_of(graph: Any, traced: nn.Module, spec: Spec, score: Callable[[Any], Tensor | None]) -> list[ChannelGroup]:
    """All channels that can go.

    Args:
        score: what each channel of a group of torch-pruning's is worth (n,); None where that means nothing.
    """
    names = {module: name for name, module in traced.named_modules()}
    counted = asked_for(spec)
    found = []
    for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
        root = group[0].dep.target.module
        touching: dict[int, list[str]] = {place: [] for place in group[0].root_idxs}
        towers = 1
        for item in group:
            module = item.dep.target.module
            if isinstance(module, nn.Conv2d) and 1 < module.groups < module.in_channels:
                towers = module.groups
            name = names.get(module)
            if name in counted and graph.is_out_channel_pruning_fn(item.dep.handler):
                for place in item.root_idxs:
                    touching[place].append(name)
        scores = score(group) if any(touching.values()) else None
        if scores is None:
            continue
        # Where a wider layer takes over a narrower one's channels, those are a group of their own.
        for layers in dict.fromkeys(map(tuple, touching.values())):
            places = torch.tensor([place for place, names in touching.items() if tuple(names) == layers])
            worth = scores.detach().float()[places].view(towers, -1).mean(0)
            if layers:
                found.append(ChannelGroup(root, layers, places.view(towers, -1), worth / worth.mean().clamp_min(TINY)))
    return found


def narrowed(spec: Spec, groups: list[ChannelGroup], kept: Callable[[ChannelGroup], int]) -> Spec:
    """The spec with as many channels of a tower of each group as that."""
    gone: dict[str, int] = {}
    for group in groups:
        for layer in group.layers:
            gone[layer] = gone.get(layer, 0) + group.places.numel() - len(group.places) * kept(group)
    return spec.mapped(lambda name, num: num - gone.get(name, 0))


def above(threshold: float) -> Callable[[ChannelGroup], int]:
    """Without the channels that are worth less than the threshold."""
    return lambda group: group.num_kept(threshold)


def form(variant: Variant, spec: Spec) -> tuple[list[str], list[Any]]:
    """The names of a network's tensors, and its operations: what is the same of any width."""
    network = weightless(variant.network, spec)
    with Trace() as trace:
        call(network, no_images(spec))
    return list(network.state_dict()), [operation.op for operation in trace.operations]


def threshold_for(variant: Variant, spec: Spec, groups: list[ChannelGroup], cost: CostTarget) -> float | None:
    """The least threshold that leaves a network of at most that cost; None if none does."""
    # The last leaves the least that there may be.
    thresholds = [*sorted({float(value) for group in groups for value in group.scores}), float("inf")]
    own = form(variant, spec)

    def fits(threshold: float) -> bool:
        return cost.of(variant, narrowed(spec, groups, above(threshold))) <= cost.most

    for threshold in thresholds[bisect.bisect_left(thresholds, True, key=fits) :]:
        # A count that happens to equal a neighbor's may bring a shortcut that was not there, or save a layer.
        if form(variant, narrowed(spec, groups, above(threshold))) == own:
            return threshold
    return None


def without(
    traced: nn.Module, graph: Any, groups: list[ChannelGroup], threshold: float, network: nn.Module
) -> nn.Module:
    """A network of the narrower spec with the weights that stay."""
    gone: dict[nn.Module, list[int]] = {}
    for group in groups:
        gone.setdefault(group.root, []).extend(group.gone(threshold).tolist())
    for root, places in gone.items():
        if places:
            outputs = graph.get_pruner_of_module(root).prune_out_channels
            graph.get_pruning_group(root, outputs, sorted(places)).prune()
    own = network.state_dict()
    network.load_state_dict({name: value for name, value in traced.state_dict().items() if name in own})
    return network


def prune(source: TrainedModel, network: nn.Module, cost: CostTarget, importance: Importance) -> nn.Module:
    """The network without as many of its channels as it takes to cost no more than that.

    Raises:
        UserError: it cannot cost so little at once, or has nothing that the importance is measured by.
    """
    spec = source.spec
    traced = traceable(network)
    graph, groups = grouped(source, network, traced, importance)
    threshold = threshold_for(source.variant, spec, groups, cost)
    if threshold is None:
        raise unreachable(source, groups, cost, rounds=1)
    # The caller's random numbers are the caller's.
    with torch.random.fork_rng():
        narrow = source.variant.network(narrowed(spec, groups, above(threshold)))
    return without(traced, graph, groups, threshold, narrow)


def grouped(
    source: TrainedModel, network: nn.Module, traced: nn.Module, importance: Importance
) -> tuple[Any, list[ChannelGroup]]:
    """torch-pruning's graph, and all channels that can go.

    Raises:
        UserError: there are none.
    """
    spec = source.spec
    graph = graph_of(traced, spec)
    groups = groups_of(graph, traced, spec, scorer(source, network, traced, importance))
    if not groups:
        raise UserError(f"{source.variant.name} has no channels that can go by {importance}")
    return graph, groups


def unreachable(source: TrainedModel, groups: list[ChannelGroup], cost: CostTarget, rounds: int) -> UserError:
    nearest = narrowed(source.spec, groups, lambda group: group.fewest(rounds))
    took = cost.describe(cost.of(source.variant, nearest))
    return UserError(
        f"{cost} cannot be reached in {plural(rounds, 'round')} of pruning; the narrowest network takes about {took}"
    )


def scorer(
    source: TrainedModel, network: nn.Module, traced: nn.Module, importance: Importance
) -> Callable[[Any], Tensor | None]:
    """What the channels of a group are worth."""
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
        # What only training uses, and what only tracing does, has none.
        gradient = gradients.get(name)
        value.grad = torch.zeros_like(value) if gradient is None else gradient


def prune_channels(
    source: TrainedModel,
    out: str | Path,
    cost: Macs | Latency,
    importance: Importance = Importance.TAYLOR,
    *,
    rounds: int = 1,
    fine_tuning: FineTuning | None = None,
) -> tuple[TrainedModel, ...]:
    """Prune channels and train on, until the network costs no more than that.

    Each round prunes by the same factor and leaves two run folders below `out`; what is done already stays.

    Returns:
        the runs of all rounds, first pruned and then trained; the last is as small as was asked for.

    Raises:
        UserError: the cost cannot be reached, or see `train`.
        Interrupted: see `train`; the same call goes on.
    """
    out, fine_tuning = Path(out), fine_tuning or FineTuning()
    if rounds < 1:
        raise UserError(f"{rounds} rounds prune nothing; there must be at least 1")
    before = cost.of(source.variant, source.spec)
    if before <= cost.most:
        raise UserError(f"{source.name} takes {cost.describe(before)} already, which is no more than {cost}")
    _, groups = grouped(source, source.network, traceable(source.network), importance)
    if cost.of(source.variant, narrowed(source.spec, groups, lambda group: group.fewest(rounds))) > cost.most:
        # Before hours of training, not after them.
        raise unreachable(source, groups, cost, rounds)
    out.mkdir(parents=True, exist_ok=True)
    stages = [source]
    for number in range(1, rounds + 1):
        part = replace(cost, most=before * (cost.most / before) ** (number / rounds))
        # Not for which part: a time is measured anew by each call, and what is done stays.
        name, how = f"narrowed-{number}", f"narrowed for {cost} by {importance}, round {number} of {rounds}"
        change = partial(prune, stages[-1], cost=part, importance=importance)
        pruned = derive_model(stages[-1], change, how, out / name)
        stages += [pruned, fine_tuning(pruned, WeightConstraint.NONE, out / f"{name}-tuned")]
    took = cost.of(source.variant, stages[-1].spec)
    if took > cost.most:
        fine_tuning.progress.say(
            f"{stages[-1].name} takes {cost.describe(took)} now, and not {cost}: this machine's pace varies"
        )
    return tuple(stages[1:])
