"""Updates as pairs of narrow matrices: exact where they can be, else within what was asked for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.errors import AdapterError, ConfigError
from superlora_diffusion.exchange.factors import Precision, factor, factor_adapter, report_errors

from .adapting import fill


def small_net():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"wide": nn.Linear(12, 8), "tall": nn.Linear(6, 10), "conv": nn.Conv2d(3, 6, 3, padding=1)}
    )


def factored(precision=None, targets=("wide", "tall"), scale=1.0, **config):
    adapter = fill(attach(small_net(), SuperLoRAConfig(targets=list(targets), **config)))
    adapter.set_scale(scale)
    return adapter, {target.name: target for target in factor_adapter(adapter, precision)}


def product(target):
    """dW as the layers of other tools would add it up."""
    up, down = target.weights()
    if up.dim() == 2:
        return up @ down
    return torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)


LOW_RANK = [
    {"variant": "lora", "rank": 3},
    {"variant": "lora", "rank": 3, "core": "diagonal"},
    {"variant": "lora", "rank": 3, "core": "full"},
]


@pytest.mark.parametrize("config", LOW_RANK)
@pytest.mark.parametrize("targets", [("wide", "tall"), ("conv",), ("wide", "tall", "conv")])
def test_low_rank_settings_are_stored_exactly_with_their_scale(config, targets):
    adapter, found = factored(targets=targets, scale=-0.7, **config)
    deltas = adapter.deltas()
    assert list(found) == list(targets)
    for name, delta in deltas.items():
        assert found[name].rank == 3
        assert float(delta.norm()) > 0.5
        torch.testing.assert_close(product(found[name]), delta, rtol=1e-5, atol=1e-6)
        assert found[name].weights().down.shape[1:] == delta.shape[1:]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("norm:bias", "norm:bias is a bias of a GroupNorm"),
        ("norm", "norm:weight is a weight of a GroupNorm"),
        ("wide:bias", "wide:bias is a bias of a Linear"),
        ("table", "table is a weight of a Embedding"),
    ],
)
def test_what_no_lora_format_holds_is_refused(target, says):
    net = small_net()
    net.norm, net.table = nn.GroupNorm(2, 6), nn.Embedding(5, 6)
    adapter = attach(net, SuperLoRAConfig(targets=["wide", target], groups=1, order=1))
    with pytest.raises(AdapterError, match=f"^{says}; .* Use format merged"):
        factor_adapter(adapter)


def test_the_numbers_of_lora_itself_are_kept_to_the_bit():
    adapter, found = factored(variant="lora", rank=3)
    assert torch.equal(found["wide"].pair.up, adapter.tensors()["g0_k1_a1"])
    assert torch.equal(found["wide"].pair.down, adapter.tensors()["g0_k1_a2"].t())


def test_slices_of_a_stack_are_exact():
    net = nn.ModuleDict({"a": nn.Linear(9, 7), "b": nn.Linear(9, 7)})
    adapter = fill(attach(net, SuperLoRAConfig(variant="lotr", targets=["a", "b"], rank=2)))
    for target in factor_adapter(adapter):
        assert target.rank == 2 and target.error < 1e-6
        torch.testing.assert_close(product(target), adapter.deltas()[target.name], rtol=1e-4, atol=1e-6)


def test_other_settings_are_within_one_per_cent_unless_asked_otherwise():
    _, found = factored(variant="dense")
    for target in found.values():
        assert 0 < target.error <= 0.01
        smaller = factor(target.name, product(target), Precision(rank=target.rank - 1))
        assert smaller.error > 0.01, "a lower rank would have done"


@pytest.mark.parametrize("max_error", [0.0, 1e-4, 0.2, 0.6])
def test_the_smallest_rank_within_the_wished_error_is_taken(max_error):
    adapter, found = factored(Precision(max_error=max_error), variant="dense")
    for name, delta in adapter.deltas().items():
        values = torch.linalg.svdvals(delta.double())
        lost = [float(values[rank:].norm() / values.norm()) for rank in range(len(values) + 1)]
        expected = next(rank for rank, error in enumerate(lost) if error <= max(max_error, 1e-9))
        assert found[name].rank == max(1, expected)
        assert found[name].error == pytest.approx(lost[found[name].rank], abs=1e-6)


def test_a_rank_is_a_limit_for_every_setting_and_the_best_approximation():
    for config in ({"variant": "dense"}, {"variant": "lora", "rank": 5}):
        adapter, found = factored(Precision(rank=2), **config)
        for name, delta in adapter.deltas().items():
            values = torch.linalg.svdvals(delta.double())
            best = float(values[2:].norm() / values.norm())
            assert found[name].rank == 2 and best > 0.05
            assert found[name].error == pytest.approx(best, rel=1e-4)


def test_a_wished_error_cuts_a_low_rank_setting_too():
    _, found = factored(Precision(max_error=0.9), variant="lora", rank=5)
    assert all(target.rank < 5 for target in found.values())


def test_a_matrix_gets_no_more_than_it_needs():
    left, right = torch.randn(30, 2), torch.randn(2, 20)
    assert factor("a", left @ right, Precision(rank=10)).rank == 2
    assert factor("a", left @ right, Precision(max_error=0)).rank == 2
    _, found = factored(variant="lora", rank=40)
    assert found["wide"].rank == 8 and found["tall"].rank == 6
    assert all(target.error < 1e-6 for target in found.values())


@pytest.mark.parametrize(
    "config", [{"variant": "lora", "rank": 3}, {"variant": "lorta"}, {"variant": "dense"}]
)
@pytest.mark.parametrize("precision", [None, Precision(rank=2), Precision(max_error=0.5)])
def test_updates_that_are_zero_have_no_error_and_no_nan(config, precision):
    adapter = attach(small_net(), SuperLoRAConfig(targets=["wide", "tall", "conv"], **config))
    targets = factor_adapter(adapter, precision)
    for target in targets:
        assert target.rank == 1 and target.error == 0
        assert not product(target).any()
    report = report_errors(targets, adapter.num_parameters)
    assert report.overall == 0 and report.worst[1] == 0


def test_the_report_weighs_matrices_by_their_size():
    adapter, found = factored(Precision(rank=2), variant="dense")
    report = report_errors(list(found.values()), adapter.num_parameters)
    deltas = adapter.deltas()
    lost = {name: float((product(found[name]) - delta).norm()) for name, delta in deltas.items()}
    norms = {name: float(delta.norm()) for name, delta in deltas.items()}
    expected = math.hypot(*lost.values()) / math.hypot(*norms.values())
    assert report.overall == pytest.approx(expected, rel=1e-4)
    worst = max(norms, key=lambda name: lost[name] / norms[name])
    assert report.worst == (worst, pytest.approx(lost[worst] / norms[worst], rel=1e-4))
    assert report.errors[worst] == report.worst[1] > min(report.errors.values())
    assert report.ranks == {"wide": 2, "tall": 2}
    assert report.stored == 2 * (12 + 8) + 2 * (6 + 10)
    assert report.parameters == 12 * 8 + 6 * 10


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"rank": 2, "max_error": 0.1}, "one of them"),
        ({"rank": 0}, "at least 1"),
        ({"max_error": 1}, "below 1"),
    ],
)
def test_impossible_wishes_are_refused(values, word):
    with pytest.raises(ConfigError, match=word):
        Precision(**values)


def test_what_no_lora_holds_is_refused_by_name():
    net = nn.ModuleDict({"grouped": nn.Conv2d(4, 4, 3, groups=2)})
    with pytest.raises(AdapterError, match=r"grouped is a convolution in 2 groups.*merged"):
        factor_adapter(attach(net, SuperLoRAConfig(targets=["grouped"], variant="lora")))
    adapter = attach(small_net(), SuperLoRAConfig(targets=["wide"], variant="dense"))
    with torch.no_grad():
        next(adapter.parameters()).fill_(math.nan)
    with pytest.raises(AdapterError, match=r"wide holds .* NaN"):
        factor_adapter(adapter)
