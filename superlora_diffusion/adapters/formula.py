"""A parameter count as a formula with its numbers filled in. Imports no torch.

A group's numbers are the sum of its tensors' sizes: A_i is the factor matrix of mode i, B_k a small Kronecker factor,
"core" the core tensor (arXiv 2403.11887, section 3).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .config import SuperLoRAConfig
from .naming import as_targets
from .plan import GroupPlan, plan_alike_groups


@dataclass(frozen=True)
class Term:
    """One trained tensor of a group."""

    label: str
    shape: tuple[int, ...]

    @property
    def product(self) -> str:
        """Its size, written out: ``83 x 5``."""
        return " x ".join(f"{side:,}" for side in self.shape)

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class GroupFormula:
    """The count of one group, and which groups have the same one."""

    indices: Sequence[int]
    n: int
    """Weights of a group."""
    m: int
    """Numbers generated for them."""
    folded: tuple[tuple[int, ...], ...]
    """Shapes whose Kronecker product holds the m numbers; a single one without splits."""
    cut: tuple[int, int] | None
    """What the Kronecker product is cut to before its entries are read."""
    terms: tuple[Term, ...]

    @property
    def count(self) -> int:
        """Trained numbers of one such group."""
        return sum(term.count for term in self.terms)

    @property
    def text(self) -> str:
        """``A_1: 83 x 5 + A_2: 83 x 5 + A_3: 83 x 5 + core: 5 x 5 x 5 = 1,370``."""
        sum_of_products = " + ".join(f"{term.label}: {term.product}" for term in self.terms)
        return f"{sum_of_products} = {self.count:,}"

    @property
    def products(self) -> str:
        """``3 x 83 x 5 + 5 x 5 x 5``: without labels, equal terms taken together."""
        return _join_alike(term.product for term in self.terms)


@dataclass(frozen=True)
class Formula:
    """The count of a whole adapter."""

    groups: tuple[GroupFormula, ...]
    """One for each kind of group."""

    @property
    def count(self) -> int:
        """How many numbers train."""
        return sum(len(group.indices) * group.count for group in self.groups)

    @property
    def text(self) -> str:
        """From groups to the whole: ``12 x 1,024 + 30 x 2,048 = 73,728``."""
        sums = (f"{len(group.indices):,} x {group.count:,}" for group in self.groups)
        return f"{' + '.join(sums)} = {self.count:,}"

    @property
    def products(self) -> str:
        """On one line: ``12 x (3 x 37 x 5 + 5 x 5 x 5)``."""
        return " + ".join(_times(len(group.indices), group.products) for group in self.groups)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "parameters": self.count,
            "formula": self.text,
            "products": self.products,
            "groups": [_group_as_dict(group) for group in self.groups],
        }


def write_formula(config: SuperLoRAConfig, targets: Iterable[Sequence]) -> Formula:
    """The formula of an adapter's count.

    Args:
        config: its settings.
        targets: (name, out_features, in_features) triples, in order.

    Raises:
        ConfigError: if the settings do not fit the targets.
    """
    kinds = plan_alike_groups(config, as_targets(targets))
    return Formula(tuple(_group_formula(plan, indices) for plan, indices in kinds))


def _group_formula(plan: GroupPlan, indices: Sequence[int]) -> GroupFormula:
    if plan.vector is not None:
        folded: tuple[tuple[int, ...], ...] = (plan.vector.shape,)
    else:
        folded = tuple(part.sides for part in plan.parts)
    return GroupFormula(indices, plan.n, plan.m, folded, plan.crop, tuple(_terms(plan)))


def _terms(plan: GroupPlan) -> Iterator[Term]:
    """Factors before their core, as the method is written: A_1, A_2, core."""
    if plan.vector is not None:
        yield Term("vector", plan.vector.shape)
    for k, part in enumerate(plan.parts, start=1):
        if not part.factors:
            yield Term(f"B_{k}", part.core.shape)
            continue
        prefix = f"B_{k}." if k < len(plan.parts) else ""
        for mode, factor in enumerate(part.factors, start=1):
            if factor is not None:
                yield Term(f"{prefix}A_{mode}", factor.shape)
        if part.core is not None:
            yield Term(f"{prefix}core", part.core.shape)


def _join_alike(products: Iterable[str]) -> str:
    """Products as a sum; an equal one is written once, with how often it comes."""
    counted = Counter(products)
    return " + ".join(product if times == 1 else f"{times} x {product}" for product, times in counted.items())


def _times(count: int, products: str) -> str:
    if count == 1:
        return products
    return f"{count:,} x ({products})" if "+" in products else f"{count:,} x {products}"


def _group_as_dict(group: GroupFormula) -> dict[str, Any]:
    return {
        "count": len(group.indices),
        "indices": list(group.indices),
        "n": group.n,
        "m": group.m,
        "folded": [list(shape) for shape in group.folded],
        "cut": list(group.cut) if group.cut else None,
        "tensors": [
            {"label": term.label, "shape": list(term.shape), "count": term.count} for term in group.terms
        ],
        "parameters": group.count,
        "formula": group.text,
    }
