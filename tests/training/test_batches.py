"""Which images when: every one once an epoch, whatever the processes and the batch size."""

from __future__ import annotations

import pytest
import torch

from superlora_diffusion.randomness import generator_for
from superlora_diffusion.training.batches import batch_indices


def walk(count, batch_size, steps, seed=0, world=1):
    """Indices in the order in which all processes together see them."""
    parts = [batch_indices(count, batch_size, s, seed, r, world) for s in range(steps) for r in range(world)]
    return torch.cat(parts).tolist()


@pytest.mark.parametrize(("count", "batch_size"), [(37, 4), (37, 37), (5, 16), (12, 3), (1, 2)])
def test_every_epoch_shows_each_image_once_in_an_order_of_its_own(count, batch_size):
    seen = walk(count, batch_size, -(-4 * count // batch_size))
    epochs = [seen[start : start + count] for start in range(0, 4 * count, count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert count < 5 or len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("world", [2, 3])
def test_more_processes_walk_the_same_way(world):
    assert walk(37, 4, 12, world=world) == walk(37, 4 * world, 12)


def test_accumulated_batches_walk_the_same_way():
    assert walk(37, 4, 12) == walk(37, 12, 4)


def test_seeds_decide_and_global_state_does_not():
    torch.manual_seed(0)
    first = walk(37, 4, 9, seed=1)
    torch.manual_seed(5)
    assert walk(37, 4, 9, seed=1) == first != walk(37, 4, 9, seed=2)


def test_generators_of_purposes_and_places_differ():
    places = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 11), (0, 0, 1, 1), (0, 1, 1)]
    draws = [_draw("noise", *place) for place in places] + [_draw("epoch", 0, 0, 1)]
    assert len(set(draws)) == len(draws)
    assert draws[0] == _draw("noise", 0, 0, 1)


def _draw(purpose, *numbers):
    return tuple(torch.randn(3, generator=generator_for(purpose, *numbers)).tolist())
