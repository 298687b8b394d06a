"""Dense-rank limits: at full rank a setting can be any update at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from superlora_diffusion import SuperLoRAConfig, attach

from .networks import tree

SPEC = [("a.to_q", (6, 9)), ("a.to_v", (5, 4))]  # N = 74


def attached(**fields):
    torch.manual_seed(2)
    return attach(tree(SPEC), SuperLoRAConfig(**fields))


def goal() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {name: torch.randn(shape, generator=generator) for name, shape in SPEC}


def assert_is_goal(adapter, tolerance=1e-4):
    for name, wanted in goal().items():
        torch.testing.assert_close(adapter.deltas()[name], wanted, rtol=0, atol=tolerance)


@torch.no_grad()
def test_lora_by_its_singular_vectors():
    adapter = attached(variant="lora", rank=9)
    for g, wanted in enumerate(goal().values()):
        u, s, vh = torch.linalg.svd(wanted, full_matrices=False)
        parameters = dict(adapter.named_parameters())
        left, right = parameters[f"g{g}_k1_a1"], parameters[f"g{g}_k1_a2"]
        assert left.shape == (wanted.shape[0], 9)
        left.zero_()[:, : len(s)] = u * s
        right.zero_()[:, : len(s)] = vh.T
    assert_is_goal(adapter)


@torch.no_grad()
def test_tucker_at_full_rank_is_its_core():
    adapter = attached(order=3, core="full", rank=5)  # 5 ** 3 holds 74
    ((name, core),) = adapter.named_parameters()
    assert name == "g0_k1_core" and core.shape == (5, 5, 5)
    core.view(-1)[:74] = torch.cat([wanted.reshape(-1) for wanted in goal().values()])
    core.view(-1)[74:] = 1e6  # dropped
    assert_is_goal(adapter)


@torch.no_grad()
@pytest.mark.parametrize("core", ["identity", "diagonal"])
def test_cp_with_a_column_for_each_fibre(core):
    """A1 and A2 pick the fibre (i, j), A3 holds it: rank 25 is any 5 x 5 x 5 tensor."""
    adapter = attached(order=3, core=core, rank=25)
    tensor = torch.zeros(125)
    tensor[:74] = torch.cat([wanted.reshape(-1) for wanted in goal().values()])
    parameters = dict(adapter.named_parameters())
    first, second = torch.arange(5).repeat_interleave(5), torch.arange(5).repeat(5)
    parameters["g0_k1_a1"].copy_(torch.eye(5)[:, first])
    parameters["g0_k1_a2"].copy_(torch.eye(5)[:, second])
    parameters["g0_k1_a3"].copy_(tensor.view(25, 5).T)
    if core == "diagonal":
        parameters["g0_k1_core"].fill_(2.0)
        parameters["g0_k1_a3"].div_(2.0)
    assert_is_goal(adapter)


@torch.no_grad()
def test_lokr_is_any_kronecker_product():
    """The nearest Kronecker product by the SVD of the rearranged matrix (Van Loan and Pitsianis 1993)."""
    spec = [("a.to_q", (6, 9))]
    adapter = attach(tree(spec), SuperLoRAConfig(variant="lokr", split_factor=3, rank=3, targets=["to_q"]))
    generator = torch.Generator().manual_seed(4)
    b, a = torch.randn(3, 3, generator=generator), torch.randn(2, 3, generator=generator)
    wanted = torch.from_numpy(np.kron(b.numpy(), a.numpy()))
    rearranged = wanted.view(3, 2, 3, 3).permute(0, 2, 1, 3).reshape(9, 6)
    u, s, vh = torch.linalg.svd(rearranged, full_matrices=False)
    parameters = dict(adapter.named_parameters())
    parameters["g0_k1_b"].copy_((u[:, 0] * s[0]).view(3, 3))
    parameters["g0_k2_a1"].copy_(torch.eye(2, 3))
    parameters["g0_k2_a2"].zero_()[:, :2] = vh[0].view(2, 3).T
    torch.testing.assert_close(adapter.deltas()["a.to_q"], wanted)


@pytest.mark.parametrize(
    "fields",
    [
        dict(variant="dense"),
        dict(variant="lora", rank=6),
        dict(groups=1, rank=9),
        dict(groups=2, order=3, rank=16),
        dict(groups=2, order=3, core="full", rank=4, projection="shuffle"),
        dict(groups=1, rank=9, core="diagonal"),
        dict(groups=2, order=1, projection="fastfood"),
    ],
    ids=str,
)
def test_training_from_the_start_reaches_any_update(fields):
    """L-BFGS on the deltas alone, from the zero start: value and gradient must both be right."""
    adapter = attached(**fields)
    wanted = goal()
    optimizer = torch.optim.LBFGS(
        adapter.parameters(), max_iter=800, history_size=40, line_search_fn="strong_wolfe", tolerance_change=0
    )

    def closure():
        optimizer.zero_grad()
        loss = sum((delta - wanted[name]).pow(2).sum() for name, delta in adapter.deltas().items())
        loss.backward()
        return loss.detach()

    start = float(closure())
    optimizer.step(closure)
    assert start > 30
    assert float(closure()) < 1e-4 * start


def test_half_the_rank_cannot():
    """The same fit at rank 1 must fail, or the test above proves nothing."""
    adapter = attached(variant="lora", rank=1)
    wanted = goal()
    optimizer = torch.optim.LBFGS(adapter.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = sum((delta - wanted[name]).pow(2).sum() for name, delta in adapter.deltas().items())
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    best = sum(float(torch.linalg.svdvals(target)[1:].pow(2).sum()) for target in wanted.values())
    assert float(closure()) == pytest.approx(best, rel=1e-3)
