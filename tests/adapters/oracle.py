"""A slow, obvious twin of the method, written from the specification with numpy alone.

Nothing here is shared with the package. Every weight is a *slot* (which target, which entry); a group is
a list of slots; a group's numbers are made by ``np.einsum``, ``np.kron`` and explicit matrices in double
precision, and written into their slots one after the other.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, reduce

import numpy as np
import torch

DEFAULTS = dict(
    targets=["to_q", "to_v"], groups=1, order=2, fold="square", side_multiple=1, rank=4, core="identity",
    splits=1, split_factor=6, factor_all_splits=False, projection="none", directions=8, ratio=1, seed=0,
    scale=1, init_std=None, step="plain",
)  # fmt: skip

VARIANTS = {
    "dense": dict(groups="weight", order=1),
    "lora": dict(groups="weight", fold="none", rank=8),
    "group_lora": dict(groups=4, rank=8),
    "lokr": dict(groups="weight", fold="none", splits=2, split_factor=8, rank=8),
    "lonkr": dict(splits=3, split_factor=6, rank=4),
    "lotr": dict(groups="shape", fold="stack", order=3, core="full", rank=4),
    "lorta": dict(groups=1, order=3, core="full", rank=5),
    "spectral": dict(groups=1, order=1, projection="singular", directions=8),
}


def resolve(fields: dict) -> dict:
    """What the user wrote, on the variant, on the defaults."""
    given = {name: value for name, value in fields.items() if name != "variant"}
    return DEFAULTS | VARIANTS.get(fields.get("variant"), {}) | given


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def ceil_root(m: int, order: int) -> int:
    """The smallest whole s with s ** order >= m."""
    high = 1
    while high**order < m:
        high *= 2
    low = 0  # low ** order < m <= high ** order
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**order < m else (low, middle)
    return high


# ---------------------------------------------------------------- grouping


@dataclass
class Group:
    n: int
    slots: list[tuple[str, int]]  # (target, entry); fewer than n in a truncated last run
    shape: tuple[int, ...] | None  # (out, in) of a "weight" group, (how many, out, in) of a "shape" group
    grid: tuple[int, int]  # (out, in) of a group that is one matrix, (1, n) of any other


def _layer(name: str, patterns: list[str]) -> str:
    if ":" in name:
        return name.partition(":")[0]
    for pattern in patterns:
        if name == pattern:
            return ""
        if name.endswith("." + pattern):
            return name.removesuffix("." + pattern)
    raise AssertionError(f"{name} matches none of {patterns}")


def grouping(fields: dict, targets) -> list[Group]:
    slots = [(name, entry) for name, rows, columns in targets for entry in range(rows * columns)]
    how = fields["groups"]
    if isinstance(how, int):
        n = ceil_div(len(slots), how)
        return [Group(n, slots[g * n : (g + 1) * n], None, (1, n)) for g in range(how)]
    keys = {}
    for name, rows, columns in targets:
        key = {"weight": name, "layer": _layer(name, fields["targets"]), "shape": (rows, columns)}[how]
        keys.setdefault(key, []).append((name, rows, columns))
    groups = []
    for members in keys.values():
        mine = [(name, entry) for name, rows, columns in members for entry in range(rows * columns)]
        _, rows, columns = members[0]
        shape = {"weight": (rows, columns), "shape": (len(members), rows, columns), "layer": None}[how]
        grid = (rows, columns) if len(members) == 1 else (1, len(mine))
        groups.append(Group(len(mine), mine, shape, grid))
    return groups


def generated(fields: dict, group: Group, targets) -> int:
    """m = max(1, ceil(rho * n)), with rho the decimal the user wrote; under singular by the targets' stretches."""
    if fields["projection"] == "singular":
        return sum(room for _, room in stretches(fields, group, targets).values())
    return max(1, math.ceil(Fraction(str(fields["ratio"])) * group.n))


def stretches(fields: dict, group: Group, targets) -> dict[str, tuple[int, int]]:
    """{target of the group: (how many numbers it takes, in how many)}: rows of one length make a matrix."""
    mine = {name for name, _ in group.slots}
    lengths = {
        name: columns if rows == 1 else min(fields["directions"], rows, columns)
        for name, rows, columns in targets
        if name in mine
    }
    rows_of_a_matrix = fields["order"] == 2 and fields["fold"] == "none"
    longest = max(lengths.values())
    return {name: (length, longest if rows_of_a_matrix else length) for name, length in lengths.items()}


# ---------------------------------------------------------------- folding and factoring


@dataclass
class Part:
    """One Kronecker factor: dense, or a core with factor matrices."""

    k: int
    sides: tuple[int, ...]
    ranks: tuple[int, ...] | None  # None: dense

    def names(self, g: int, core: str) -> dict[str, tuple[int, ...]]:
        stem = f"g{g}_k{self.k}_"
        if self.ranks is None:
            return {stem + "b": self.sides}
        found = {}
        if core == "diagonal":
            found[stem + "core"] = (self.ranks[0],)
        if core == "full":
            found[stem + "core"] = self.ranks
        for i, (side, rank) in enumerate(zip(self.sides, self.ranks, strict=True), start=1):
            if not (core == "full" and rank == side):
                found[stem + f"a{i}"] = (side, rank)
        return found

    def tensor(self, g: int, core: str, numbers) -> np.ndarray:
        stem = f"g{g}_k{self.k}_"
        if self.ranks is None:
            return numbers[stem + "b"]
        modes = "ijklm"[: len(self.sides)]
        factors = [
            numbers[stem + f"a{i}"] if stem + f"a{i}" in numbers else np.eye(side)
            for i, side in enumerate(self.sides, start=1)
        ]
        if core == "full":
            inner = "abcde"[: len(self.sides)]
            terms = [inner, *(mode + rank for mode, rank in zip(modes, inner, strict=True))]
            operands = [numbers[stem + "core"], *factors]
        else:
            weights = numbers[stem + "core"] if core == "diagonal" else np.ones(self.ranks[0])
            terms, operands = ["r", *(mode + "r" for mode in modes)], [weights, *factors]
        return np.einsum(",".join(terms) + "->" + modes, *operands, optimize=True)


def folding(fields: dict, group: Group, targets) -> tuple[int, ...]:
    """The folded tensor's shape, before any Kronecker split."""
    m, order = generated(fields, group, targets), fields["order"]
    if fields["fold"] == "stack":
        return group.shape
    if fields["fold"] == "none":
        if fields["groups"] == "weight" and m == group.n:
            return group.shape
        widest = max(columns for _, _, columns in targets)
        if fields["projection"] == "singular":
            widest = max(length for length, _ in stretches(fields, group, targets).values())
        return ceil_div(m, widest), widest
    return (ceil_root(m, order),) * order


def parts(fields: dict, group: Group, targets) -> list[Part]:
    folded, splits, f = folding(fields, group, targets), fields["splits"], fields["split_factor"]
    sides = tuple(ceil_div(side, f ** (splits - 1)) for side in folded)
    if fields["fold"] == "square":
        sides = tuple(ceil_div(side, fields["side_multiple"]) * fields["side_multiple"] for side in sides)
    rank = fields["rank"]
    if not isinstance(rank, list):
        rank = [rank] * len(sides)
        if fields["fold"] == "stack" and fields["core"] == "full":
            rank[0] = "full"

    def ranks(sides, cap=None):
        wanted = [side if r == "full" else r for side, r in zip(sides, rank, strict=True)]
        if cap is not None:
            wanted = [min(r, cap) for r in wanted]
        if fields["core"] == "full":
            wanted = [min(r, side) for r, side in zip(wanted, sides, strict=True)]
        return tuple(wanted)

    small = [
        Part(k, (f, f), ranks((f, f), cap=f) if fields["factor_all_splits"] else None)
        for k in range(1, splits)
    ]
    return [*small, Part(splits, sides, ranks(sides))]


def parameter_shapes(fields: dict, targets) -> dict[str, tuple[int, ...]]:
    """Every trainable tensor by its name."""
    fields = resolve(fields)
    found = {}
    for g, group in enumerate(grouping(fields, targets)):
        found |= group_shapes(fields, group, g, targets)
    return found


def group_shapes(fields: dict, group: Group, g: int, targets) -> dict[str, tuple[int, ...]]:
    """Those of one group."""
    if fields["order"] == 1:
        return {f"g{g}_vector": (generated(fields, group, targets),)}
    found = {}
    for part in parts(fields, group, targets):
        found |= part.names(g, fields["core"])
    return found


def zero_tensors(fields: dict, targets) -> set[str]:
    """The one tensor a group that starts at zero."""
    fields = resolve(fields)
    return {zero_tensor(fields, g) for g in range(len(grouping(fields, targets)))}


def zero_tensor(fields: dict, g: int) -> str:
    if fields["order"] == 1:
        return f"g{g}_vector"
    which = "a1" if fields["core"] == "identity" else "core"
    return f"g{g}_k{fields['splits']}_{which}"


def count(fields: dict, targets) -> int:
    return sum(math.prod(shape) for shape in parameter_shapes(fields, targets).values())


# ---------------------------------------------------------------- projection


@cache
def hadamard(d: int) -> np.ndarray:
    """The normalised Walsh-Hadamard matrix, by Sylvester's construction."""
    matrix = np.ones((1, 1))
    while len(matrix) < d:
        matrix = np.kron(np.array([[1, 1], [1, -1]]), matrix)
    return matrix / math.sqrt(d)


def generator_of(seed: int, group: int) -> torch.Generator:
    digest = hashlib.sha256(f"superlora-projection:{seed}:{group}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def draw(seed: int, group: int, n: int, kind: str) -> dict[str, torch.Tensor]:
    """The fixed arrays of a group, drawn in the order B, P, G from a generator of their own."""
    generator = generator_of(seed, group)
    if kind == "shuffle":
        return {"permutation": torch.randperm(n, generator=generator)}
    d = 1
    while d < n:
        d *= 2
    signs = torch.randint(0, 2, (d,), generator=generator) * 2 - 1
    permutation = torch.randperm(d, generator=generator)
    gaussian = torch.randn(d, generator=generator)
    return {"signs": signs, "permutation": permutation, "gaussian": gaussian}


def permutation_matrix(permutation: np.ndarray) -> np.ndarray:
    """P with (P x)[i] = x[permutation[i]]."""
    matrix = np.zeros((len(permutation),) * 2)
    matrix[np.arange(len(permutation)), permutation] = 1
    return matrix


def with_columns_of(length: float, matrix: np.ndarray) -> np.ndarray:
    return matrix * length / np.linalg.norm(matrix, axis=0)


def gather_matrix(seed: int, group: int, m: int, n: int) -> np.ndarray:
    """A one a row, at place (random order of 0..n-1)[i] mod m; columns of norm sqrt(n / m)."""
    order = torch.randperm(n, generator=generator_of(seed, group)).tolist()
    matrix = np.zeros((n, m))
    for i, place in enumerate(order):
        matrix[i, place % m] = 1
    return with_columns_of(math.sqrt(n / m), matrix)


def fourier_matrix(seed: int, group: int, m: int, grid: tuple[int, int]) -> np.ndarray:
    """A cosine a column, of one of each pair k, -k; when there are no more, minus sines. Columns of norm sqrt(n / m).

    The pairs are listed in the order of the half spectrum (k_2 <= columns / 2), and then shuffled.
    """
    rows, columns = grid
    cosines: list[tuple[int, int]] = []
    for k in np.ndindex(rows, columns // 2 + 1):
        if (-k[0] % rows, -k[1] % columns) not in cosines or k == (-k[0] % rows, -k[1] % columns):
            cosines.append(k)
    sines = [k for k in cosines if k != (-k[0] % rows, -k[1] % columns)]
    assert len(cosines) + len(sines) == rows * columns
    generator, made = generator_of(seed, group), []
    t = np.array(list(np.ndindex(rows, columns)))
    for kind, functions in ((np.cos, cosines), (lambda angle: -np.sin(angle), sines)):
        if len(made) < m:
            for which in torch.randperm(len(functions), generator=generator).tolist():
                k_1, k_2 = functions[which]
                made.append(kind(2 * np.pi * (k_1 * t[:, 0] / rows + k_2 * t[:, 1] / columns)))
    return with_columns_of(math.sqrt(rows * columns / m), np.stack(made[:m], axis=1))


def singular_matrix(fields: dict, group: Group, targets, weights) -> np.ndarray:
    """Of each target block by block: a column c vec(u_i v_i^T) a direction, c the mean of their singular values."""
    blocks = []
    for name, (length, room) in stretches(fields, group, targets).items():
        weight = np.asarray(weights[name], dtype=np.float64).reshape(len(weights[name]), -1)
        block = np.zeros((weight.size, room))
        if len(weight) == 1:
            block[:, :length] = np.eye(length)
        else:
            u, s, vt = np.linalg.svd(weight)
            for i in range(length):
                block[:, i] = s[:length].mean() * np.outer(u[:, i], vt[i]).reshape(-1)
        blocks.append(block)
    n, m = (sum(block.shape[axis] for block in blocks) for axis in (0, 1))
    matrix, row, column = np.zeros((n, m)), 0, 0
    for block in blocks:
        matrix[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return matrix


@cache
def projection_matrix(kind: str, seed: int, group: int, m: int, grid: tuple[int, int]) -> np.ndarray:
    """The n x m matrix of F (before the tanh)."""
    n = math.prod(grid)
    if kind == "none":
        return np.eye(n)
    if kind == "gather":
        return gather_matrix(seed, group, m, n)
    if kind == "fourier":
        return fourier_matrix(seed, group, m, grid)
    arrays = {name: array.double().numpy() for name, array in draw(seed, group, n, kind).items()}
    permutation = permutation_matrix(arrays["permutation"].astype(int))
    if kind == "shuffle":
        return permutation
    d, gaussian = len(permutation), arrays["gaussian"]
    scaling = math.sqrt(d / m) * math.sqrt(d) / np.linalg.norm(gaussian)
    padding = np.eye(d, m)
    matrix = hadamard(d) @ np.diag(gaussian) @ permutation @ hadamard(d) @ np.diag(arrays["signs"]) @ padding
    return scaling * matrix[:n]


# ---------------------------------------------------------------- step


def step_factor(fields: dict, group: Group, g: int, targets) -> float:
    """1 (plain), 1/rms (rms), sqrt(max(1, n/p))^T / rms (gain, T tensors), or (50 sqrt(m/p))^T / rms (singular).

    rms: of the numbers after +-1 where the zeros were.

    All terms of an entry are uncorrelated, so that its mean square is the same multilinear form of mean squares.
    By default the starts are chosen so that it is 1.
    """
    if fields["step"] == "plain":
        return 1.0
    shapes = group_shapes(fields, group, g, targets)
    rms = 1.0
    if fields["init_std"] is not None and fields["order"] > 1:
        zero = zero_tensor(fields, g)
        squares = {
            name: np.full(shape, 1.0 if name == zero else fields["init_std"] ** 2)
            for name, shape in shapes.items()
        }
        pieces = [part.tensor(g, fields["core"], squares) for part in parts(fields, group, targets)]
        rms = math.sqrt(reduce(np.kron, pieces).mean())
    if fields["step"] == "rms":
        return 1 / rms
    count = sum(math.prod(shape) for shape in shapes.values())
    if fields["projection"] == "singular":
        kappa = 50 * math.sqrt(max(1, generated(fields, group, targets) / count))
    else:
        kappa = math.sqrt(max(1, group.n / count))
    return kappa ** len(shapes) / rms


# ---------------------------------------------------------------- all of it


def deltas(fields: dict, targets, numbers: dict[str, np.ndarray], weights=None) -> dict[str, np.ndarray]:
    """{target: dW as an (out, in) matrix}, NaN wherever nothing was written. ``weights``: the base's."""
    fields = resolve(fields)
    out = {name: np.full(rows * columns, np.nan) for name, rows, columns in targets}
    for g, group in enumerate(grouping(fields, targets)):
        m = generated(fields, group, targets)
        if fields["order"] == 1:
            x = numbers[f"g{g}_vector"]
        else:
            pieces = [part.tensor(g, fields["core"], numbers) for part in parts(fields, group, targets)]
            whole = reduce(np.kron, pieces)
            if fields["fold"] == "none":
                rows, columns = folding(fields, group, targets)
                whole = whole[:rows, :columns]
            x = whole.reshape(-1)[:m]
        if fields["projection"] == "singular":
            matrix = singular_matrix(fields, group, targets, weights)
        else:
            matrix = projection_matrix(fields["projection"], fields["seed"], g, m, group.grid)
        y = matrix @ x
        if fields["projection"] == "fastfood_tanh":
            y = np.tanh(y)
        y = y * step_factor(fields, group, g, targets)
        for position, (name, entry) in enumerate(group.slots):
            assert np.isnan(out[name][entry]), "a weight covered twice"
            out[name][entry] = fields["scale"] * y[position]
    return {name: out[name].reshape(rows, columns) for name, rows, columns in targets}
