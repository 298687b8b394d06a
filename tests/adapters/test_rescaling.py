"""A setting on a network of another size: hand-computed counts, and what stays as it is."""

from __future__ import annotations

from fractions import Fraction

import pytest

from superlora_diffusion import SuperLoRAConfig, count_parameters
from superlora_diffusion.adapters.rescaling import rescale, trained_share
from superlora_diffusion.errors import ConfigError

# N = 2 * 30 * 20 = 1,200; LoRA of rank r trains 2 * (30 + 20) * r = 100 r.
TARGETS = [("a.to_q", 30, 20), ("a.to_v", 30, 20)]
LORA = SuperLoRAConfig(variant="lora")


def test_the_share_is_exact():
    assert trained_share(LORA, TARGETS) == Fraction(800, 1200)
    assert trained_share(SuperLoRAConfig(variant="dense"), TARGETS) == 1


@pytest.mark.parametrize(
    ("wanted", "rank"),
    [
        (300, 3),
        (120, 1),
        # Nearest by ratio: between 100 and 200 the middle is 141.4, between 200 and 300 it is 244.9.
        (141, 1),
        (142, 2),
        (244, 2),
        (245, 3),
        # Less than rank 1, more than rank 8, more than the weights.
        (1, 1),
        (1_000, 10),
        (5_000, 50),
    ],
)
def test_the_rank_is_the_nearest_by_ratio(wanted, rank):
    found = rescale(LORA, Fraction(wanted, 1200), TARGETS)
    assert found == SuperLoRAConfig(variant="lora", rank=rank)
    assert count_parameters(found, TARGETS) == 100 * rank


def test_of_two_as_near_the_lower_rank_is_taken():
    # A full core in a square of 24: ranks 1 and 2 train 48 + 1 = 49 and 96 + 4 = 100; 70 * 70 is 49 * 100.
    config, targets = SuperLoRAConfig(core="full", rank=9), [("q", 24, 24)]
    assert [rescale(config, Fraction(wanted, 576), targets).rank for wanted in (69, 70, 71)] == [1, 1, 2]


def test_it_ends_where_no_rank_adds_anything():
    # One matrix of 2 x 2 under a full core: ranks 1, 2, 3 train 2 + 2 + 1 = 5, then the matrix itself, 4.
    config, targets = SuperLoRAConfig(core="full", rank=1), [("q", 2, 2)]
    counts = [count_parameters(config.model_copy(update={"rank": r}), targets) for r in (1, 2, 3)]
    assert counts == [5, 4, 4] and rescale(config, Fraction(20, 4), targets).rank == 1


def test_tucker_by_hand():
    # 12 groups of 100, sides 5 (4^3 = 64 < 100 <= 125): 12 * (15 r + r^3): 192, 456, 864, 1,488.
    config = SuperLoRAConfig(variant="lorta", groups=12, rank=5)
    counts = {
        wanted: rescale(config, Fraction(wanted, 1200), TARGETS).rank for wanted in (200, 295, 297, 628, 700)
    }
    assert counts == {
        200: 1,
        295: 1,
        297: 2,
        628: 3,
        700: 3,
    }  # sqrt(192 * 456) = 295.9; sqrt(456 * 864) = 627.7


def test_all_but_the_rank_stays():
    config = SuperLoRAConfig(
        groups=3,
        order=3,
        core="diagonal",
        side_multiple=2,
        projection="fastfood",
        ratio=0.25,
        seed=5,
        scale=0.5,
        rank=9,
    )
    found = rescale(config, Fraction(1, 20), TARGETS)
    assert found.rank != 9 and found.model_dump(exclude={"rank"}) == config.model_dump(exclude={"rank"})
    assert config.rank == 9, "what came is not changed"
    # 3 groups of 400, m = 100, sides 5, rounded up to 6: 3 * (18 r + r) = 57 r; 60 are wanted.
    assert found.rank == 1 and count_parameters(found, TARGETS) == 57


def test_a_vector_stays_as_it_is():
    for config in (
        SuperLoRAConfig(variant="dense"),
        SuperLoRAConfig(order=1, projection="fastfood", ratio=0.01),
    ):
        assert rescale(config, 0.5, TARGETS) == config


def test_what_cannot_be_rescaled_is_told():
    with pytest.raises(ConfigError, match="share: got 0: a share above 0"):
        rescale(LORA, 0, TARGETS)
    listed = SuperLoRAConfig(groups="shape", fold="stack", order=3, core="full", rank=("full", 2, 2))
    with pytest.raises(ConfigError, match=r"rank: got \['full', 2, 2\]: one number for all modes"):
        rescale(listed, 0.1, TARGETS)
    with pytest.raises(ConfigError, match="groups"):
        rescale(SuperLoRAConfig(groups=2000), 0.1, TARGETS)
