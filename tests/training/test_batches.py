"""Which images when: every one once an epoch, whatever the processes and the batch size."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from superlora_diffusion.randomness import generator_for
from superlora_diffusion.training.batches import batch_indices, bucket_batches


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


# --- several buckets ----------------------------------------------------------------------------------------


def by_definition(counts, batch_size, seed, world):
    """Batch after batch (bucket, images of each process), told as it happens: an epoch's debts, then their order."""
    together = batch_size * world
    walks = [endless_walk(count, seed) for count in counts]
    shown, epoch = [0] * len(counts), 0
    while True:
        due = []
        for bucket, count in enumerate(counts):
            while shown[bucket] < (epoch + 1) * count:
                due.append(bucket)
                shown[bucket] += together
        for place in torch.randperm(len(due), generator=generator_for("buckets", seed, epoch)):
            images = list(islice(walks[due[place]], together))
            ranks = [images[start : start + batch_size] for start in range(0, together, batch_size)]
            yield due[place], ranks
        epoch += 1


def endless_walk(count, seed):
    epoch = 0
    while True:
        yield from torch.randperm(count, generator=generator_for("epoch", seed, epoch)).tolist()
        epoch += 1


COUNTS = [(23, 40, 1, 7), (5,), (1, 1), (8, 16), (1, 100)]


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("counts", COUNTS)
def test_buckets_against_the_definition_from_any_step_on(counts, world):
    expected = list(islice(by_definition(counts, 4, 11, world), 60))
    for number in (*range(59, -1, -7), *range(60)):  # in no order: nothing is remembered between the calls
        got = [bucket_batches(list(counts), 4, number, 11, rank, world) for rank in range(world)]
        assert {bucket for bucket, _ in got} == {expected[number][0]}
        assert [indices.tolist() for _, indices in got] == expected[number][1]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize(("count", "batch_size"), [(37, 4), (5, 16), (12, 3), (1, 2)])
def test_one_bucket_is_batch_indices(count, batch_size, world):
    for number in range(40):
        bucket, indices = bucket_batches([count], batch_size, number, 3, world - 1, world)
        assert bucket == 0
        torch.testing.assert_close(indices, batch_indices(count, batch_size, number, 3, world - 1, world))


def test_every_image_of_every_bucket_is_seen_once_an_epoch_and_only_filling_is_more():
    counts, batch_size, epochs = (23, 40, 1, 7), 4, 10
    steps = sum(-(-epochs * count // batch_size) for count in counts)
    seen = [[0] * count for count in counts]
    order = []
    for number in range(steps):
        bucket, indices = bucket_batches(counts, batch_size, number, 0)
        order.append(bucket)
        for index in indices.tolist():
            seen[bucket][index] += 1
    assert all(min(images) >= epochs for images in seen)
    assert all(sum(images) - epochs * len(images) < batch_size for images in seen)
    assert steps * batch_size < epochs * sum(counts) + batch_size * len(counts)
    assert order != sorted(order)


def test_seeds_give_other_orders_of_buckets():
    orders = {
        tuple(bucket_batches((40, 40), 4, number, seed)[0] for number in range(20)) for seed in range(5)
    }
    assert len(orders) == 5


def test_processes_see_different_images():
    for number in range(20):
        bucket, first = bucket_batches((24, 16), 4, number, 0, 0, 2)
        other, second = bucket_batches((24, 16), 4, number, 0, 1, 2)
        assert bucket == other and not set(first.tolist()) & set(second.tolist())
