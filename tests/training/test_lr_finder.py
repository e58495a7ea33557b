import pytest

from convatlas.training import Request
from convatlas.training.lr_finder import LRFinding, find_lr


def test_the_suggestion_is_where_the_loss_falls_fastest() -> None:
    lrs = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    assert LRFinding(lrs, (2.3, 2.2, 1.0, 0.9, 5.0)).suggestion == 1e-3
    # A fall after the lowest loss is chance.
    assert LRFinding(lrs, (2.3, 1.9, 1.8, 9.0, 1.9)).suggestion == 1e-4


def test_learning_rates_rise_evenly_and_the_search_ends_where_the_loss_diverges() -> None:
    finding = find_lr(Request(network="lenet5-modern", batch_size=64))
    steps = [after / before for before, after in zip(finding.lrs, finding.lrs[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert 1e-4 < finding.suggestion < 1e-1
    assert len(finding.lrs) < 100
    assert max(finding.losses) <= 2 * min(finding.losses)


def test_a_seed_repeats_the_search() -> None:
    request = Request(network="lenet1", batch_size=32, seed=5)
    assert find_lr(request) == find_lr(request)
