"""The Walsh-Hadamard transforms against Sylvester's matrix, entry by entry."""

from __future__ import annotations

import math

import pytest
import torch

from superlora_diffusion.adapters import hadamard
from superlora_diffusion.adapters.hadamard import (
    hadamard_matrix,
    hadamard_transform,
    transform,
    transform_first_axis,
)

from .recording import Recorder

SIZES = [2**bits for bits in range(12)]
sizes = pytest.mark.parametrize("d", SIZES)


def sylvester(d: int) -> torch.Tensor:
    """Entry (i, j) is (-1) to the number of ones that i and j share in binary, over sqrt(d)."""
    signs = [[(-1) ** (i & j).bit_count() for j in range(d)] for i in range(d)]
    return torch.tensor(signs, dtype=torch.float64) / math.sqrt(d)


MATRICES = {d: sylvester(d) for d in SIZES[:11]} | {2048: None}


def matrix(d: int) -> torch.Tensor:
    if MATRICES[d] is None:  # H_2d = [[H, H], [H, -H]] / sqrt(2), once the small ones are trusted
        half = matrix(d // 2)
        MATRICES[d] = torch.cat([torch.cat([half, half], 1), torch.cat([half, -half], 1)]) / math.sqrt(2)
    return MATRICES[d]


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(shape[0]))


def assert_equals_matrix(found, x):
    wanted = matrix(x.shape[0]) @ x.double()
    assert float(wanted.abs().max()) > 1e-3
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=2e-6)


@sizes
def test_the_readable_transform(d):
    x = numbers(d)
    assert_equals_matrix(hadamard_transform(x), x)


@sizes
@pytest.mark.parametrize("chunk", [None, 1, 2, 16, 64, 100, 512])
def test_the_fast_transform_in_one_and_in_two_levels(d, chunk, monkeypatch):
    """A chunk below d takes the two-level path, with one row at a time, several, or all."""
    levels = []
    rows = hadamard._transform_rows
    monkeypatch.setattr(hadamard, "_transform_rows", lambda *args: levels.append(0) or rows(*args))
    if chunk is not None:
        monkeypatch.setattr(hadamard, "CHUNK", chunk)
    x = numbers(d)
    assert_equals_matrix(transform(x.clone()), x)
    assert len(levels) == (2 if chunk is not None and d > chunk else 0)


@sizes
@pytest.mark.parametrize("chunk", [1, 2, 16, 64, 100, 512])
def test_a_very_long_transform_in_place(d, chunk, monkeypatch):
    monkeypatch.setattr(hadamard, "CHUNK", chunk)
    monkeypatch.setattr(hadamard, "LONG", 1)
    x = numbers(d)
    given = x.clone()
    with Recorder() as recorder:
        found = transform(given)
    assert_equals_matrix(found, x)
    if d > chunk:
        assert found.data_ptr() == given.data_ptr()
    if d == 2048:  # pieces of a chunk or of one row or column, never a second vector
        assert recorder.peak <= 4 * max(chunk, 64) + 2 * 16 * 16


@sizes
@pytest.mark.parametrize("k", [1, 2, 3, 16, 21])
def test_along_the_first_axis(d, k):
    x = numbers(d, k)
    assert_equals_matrix(transform_first_axis(x), x)


def test_along_the_first_axis_of_a_transposed_tensor():
    x = numbers(5, 64).t()
    assert not x.is_contiguous()
    assert_equals_matrix(transform_first_axis(x), x)


@pytest.mark.parametrize("function", [hadamard_transform, transform_first_axis])
def test_the_gradient_is_the_transform_itself(function):
    """H is symmetric: the gradient of <H x, z> is H z."""
    shape = (64,) if function is hadamard_transform else (64, 3)
    x, z = numbers(*shape).requires_grad_(), torch.flip(numbers(*shape), (0,))
    (function(x) * z).sum().backward()
    assert_equals_matrix(x.grad, z)


def test_twice_is_nothing_at_full_length():
    """Longer than a chunk, as it is used: H H x = x, and the first unit vector becomes a constant."""
    d = 2 * hadamard.CHUNK
    x = numbers(d)
    torch.testing.assert_close(transform(transform(x.clone())), x, rtol=1e-4, atol=1e-5)
    first = torch.zeros(d)
    first[0] = 1
    torch.testing.assert_close(transform(first), torch.full((d,), d**-0.5))
    last = torch.zeros(d)
    last[-1] = 1
    signs = torch.tensor([(-1.0) ** i.bit_count() for i in range(d)])
    torch.testing.assert_close(transform(last), signs * d**-0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_matrix_and_its_cache(dtype):
    torch.testing.assert_close(hadamard_matrix(16, dtype), matrix(16).to(dtype))
    assert hadamard_matrix(16, dtype) is hadamard_matrix(16, dtype)
    with torch.inference_mode():
        made_inside = hadamard_matrix(8, torch.float16)
    assert not made_inside.is_inference(), "it is used in training too"
