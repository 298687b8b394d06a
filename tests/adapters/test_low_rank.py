"""When two small products are cheaper than adding the update, and which targets have them."""

from __future__ import annotations

import itertools

import pytest

from superlora_diffusion import SuperLoRAConfig
from superlora_diffusion.adapters import low_rank
from superlora_diffusion.adapters.low_rank import find_low_rank, products_are_cheaper, products_threshold
from superlora_diffusion.adapters.plan import make_plan
from superlora_diffusion.errors import ConfigError

SIDES = (1, 3, 16, 77, 320, 2048)
SIZES = list(itertools.product(SIDES, SIDES, (1, 4, 10, 64)))


@pytest.mark.parametrize("training", [True, False])
def test_products_are_cheaper_exactly_below_the_threshold(training):
    kinds = set()
    for size in SIZES:
        threshold = products_threshold(*size, training)
        kinds.add(min(threshold, 2) if threshold else None)
        if threshold is None:
            assert all(products_are_cheaper(*size, tokens, training) for tokens in (1, 1000, 10**9))
            continue
        assert type(threshold) is int and threshold >= 1
        assert threshold == 1 or products_are_cheaper(*size, threshold - 1, training)
        assert not products_are_cheaper(*size, threshold, training)
        assert not products_are_cheaper(*size, threshold + 1, training)
    # Never, from some number on, and (in training, where the gradient of a matrix costs by the token) always.
    assert kinds == ({1, 2, None} if training else {1, 2})


@pytest.mark.parametrize(
    ("side", "training", "expected"),
    [(3, False, 2), (30, False, 20), (10, True, 7), (100, True, 180), (149, True, 13_410), (150, True, None)],
)
def test_thresholds_by_hand(side, training, expected, monkeypatch):
    """s x s at rank 10, 20 operations a move: 2 s / 3 tokens, in training 180 s / (300 - 2 s)."""
    monkeypatch.setattr(low_rank, "FLOPS_PER_MOVE", 20)
    assert products_threshold(side, side, 10, training) == expected


LORA = SuperLoRAConfig(variant="lora", rank=4)
TARGETS = [("a.to_q", 16, 12), ("a.to_v", 3, 12)]


def found(config, *shapes, targets=TARGETS):
    return {
        index: entry.rank
        for index, entry in find_low_rank(config, make_plan(config, targets), shapes).items()
    }


def test_one_convolution_and_no_target_has_products():
    assert found(LORA, (16, 12), (3, 12)) == {0: 4, 1: 4}
    assert found(LORA, (16, 12), (3, 3, 2, 2)) == found(LORA, (16, 12, 1, 1), (3, 12)) == {}


def test_one_vector_and_no_target_has_products():
    for shape in (
        (20,),
        (5, 4),
    ):  # a LayerNorm over two axes has a weight with two, which is no matrix either
        assert found(LORA, (16, 12), shape, targets=[*TARGETS[:1], ("a.norm:weight", 1, 20)]) == {}


def test_products_that_are_asked_for_must_be_possible():
    config = LORA.model_copy(update={"route": "products"})
    assert found(config, (16, 12), (3, 12)) == {0: 4, 1: 4}
    with pytest.raises(ConfigError, match=r"route: got 'products', which needs Linear targets"):
        found(config, (16, 12), (3, 12, 1, 1))
    with pytest.raises(ConfigError, match=r"route: got 'products'"):
        found(SuperLoRAConfig(variant="lorta", route="products"), (16, 12), (3, 12))
