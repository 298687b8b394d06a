"""FourierFT and Uni-LoRA are settings of this adapter: with their indices and numbers it makes PEFT's own updates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from peft import FourierFTConfig, UniLoraConfig, get_peft_model
from torch import nn

from superlora_diffusion import SuperLoRAConfig
from superlora_diffusion.adapters.attaching import attach_to_targets
from superlora_diffusion.adapters.naming import Target

from .networks import tree

LAYERS = {"a.to_q": (12, 7), "a.to_v": (9, 7), "b.to_q": (10, 12)}  # even and odd sides


def ours(shapes: dict, fields: dict, numbers: list, arrays: list):
    """Our adapter of vectors on layers of these shapes, with given numbers and given fixed arrays a group."""
    targets = [Target(name, *shape) for name, shape in shapes.items()]
    config = SuperLoRAConfig(order=1, **fields)
    adapter = attach_to_targets(tree(list(shapes.items())), config, targets, "default", arrays)
    with torch.no_grad():
        for parameter, values in zip(adapter.parameters(), numbers, strict=True):
            parameter.copy_(values)
    return adapter


def ratio_for(m: int, n: int) -> float:
    """Whose ceil(ratio * n) is m."""
    return (m - 0.5) / n


def peft_layers(model) -> dict:
    return {name: model.base_model.model.get_submodule(name) for name in LAYERS}


# ---------------------------------------------------------------- FourierFT


def fourierft(n_frequency: int):
    config = FourierFTConfig(
        target_modules=["to_q", "to_v"], n_frequency=n_frequency, scaling=150.0, random_loc_seed=3
    )
    torch.manual_seed(0)
    model = get_peft_model(tree(list(LAYERS.items())), config)
    with torch.no_grad():
        for layer in peft_layers(model).values():
            layer.fourierft_spectrum["default"].normal_()
    return model


def cosines_of(layer, shape) -> tuple[list[int], list[float]]:
    """PEFT's frequencies as places in our half spectrum, and its spectrum as our numbers.

    k and -k have the same real part: where PEFT drew both, its two numbers do one number's work and are added up. The
    frequencies with k = -k have no partner, so that ours, of equal norm, are sqrt(2) smaller there.
    """
    rows, columns = shape
    first, second = (row.tolist() for row in layer.indices["default"])
    found: dict[int, float] = {}
    for k, number in zip(
        zip(first, second, strict=True), layer.fourierft_spectrum["default"].tolist(), strict=True
    ):
        opposite = (-k[0] % rows, -k[1] % columns)
        in_half = [place for place in (k, opposite) if place[1] <= columns // 2]
        place = min(in_half)
        weight = math.sqrt(2) if k == opposite else 1.0
        index = place[0] * (columns // 2 + 1) + place[1]
        found[index] = found.get(index, 0.0) + weight * number
    return list(found), list(found.values())


@pytest.mark.parametrize("n_frequency", [1, 9, 30, 63])
@pytest.mark.parametrize("name", LAYERS)
def test_pefts_fourierft(name, n_frequency):
    """scale = scaling * sqrt(m / 2) / n: the inverse transform divides by n, ours keeps the variance."""
    shape, layer = LAYERS[name], peft_layers(fourierft(n_frequency))[name]
    frequencies, numbers = cosines_of(layer, shape)
    m, n = len(numbers), math.prod(shape)
    assert m < n_frequency if n_frequency > 20 else m <= n_frequency, "PEFT drew some twice"
    fields = dict(
        groups="weight", projection="fourier", ratio=ratio_for(m, n), scale=150.0 * math.sqrt(m / 2) / n
    )
    arrays = [{"frequencies": torch.tensor(frequencies, dtype=torch.int32)}]
    adapter = ours({name: shape}, fields, [torch.tensor(numbers)], arrays)
    wanted = layer.get_delta_weight("default").detach()
    assert float(wanted.abs().max()) > 0.5
    found = adapter.deltas()[name].detach()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("ratio", [0.1, 0.45])
def test_pefts_fourierft_with_our_frequencies(ratio):
    """The other way: what we draw for a network, in PEFT's layers, is our update of every matrix."""
    fields = dict(groups="weight", projection="fourier", ratio=ratio)
    shapes = list(LAYERS.items())
    config = SuperLoRAConfig(order=1, **fields)
    adapter = attach_to_targets(tree(shapes), config, [Target(k, *v) for k, v in shapes], "default")
    layers = peft_layers(fourierft(5))
    generator = torch.Generator().manual_seed(4)
    for group, arrays, (name, (rows, columns)) in zip(
        adapter.plan.groups, adapter.arrays(), shapes, strict=True
    ):
        parameter = adapter.tensors()[group.vector.name]
        with torch.no_grad():
            parameter.normal_(generator=generator)
        frequencies = arrays["frequencies"].long()
        first, second = frequencies // (columns // 2 + 1), frequencies % (columns // 2 + 1)
        alone = (2 * first % rows == 0) & (2 * second % columns == 0)
        layer, factor = layers[name], math.sqrt(2 / group.m) * group.n / 150.0
        layer.indices["default"] = torch.stack([first, second])
        spectrum = parameter.detach() * factor * torch.where(alone, 0.5**0.5, 1.0)
        layer.fourierft_spectrum["default"] = nn.Parameter(spectrum)
        wanted = layer.get_delta_weight("default").detach()
        assert float(wanted.std()) > 0.3
        torch.testing.assert_close(adapter.deltas()[name].detach(), wanted, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- Uni-LoRA


@pytest.mark.parametrize("length", [1, 16, 45, 120, 171])
def test_pefts_unilora(length):
    """Our gather onto LoRA's factors, as the weights of layers of their shapes, gives PEFT's A and B and so B A.

    Two things are translated. Which numbers are taken once more than others PEFT draws; in ours they are the first,
    so that numbers are renamed. And PEFT's map is an isometry, |y| = |x|, where ours keeps the variance of entries:
    scale = sqrt(m / n), m numbers for n entries of all factors.
    """
    config = UniLoraConfig(target_modules=["to_q", "to_v"], r=3, theta_d_length=length, proj_seed=8)
    torch.manual_seed(0)
    model = get_peft_model(tree(list(LAYERS.items())), config)
    layers = peft_layers(model)
    theta = model.base_model.unilora_theta_d["default"].detach()
    with torch.no_grad():
        theta.normal_().add_(theta.sign())
    shapes, indices = {}, []
    for name, layer in layers.items():
        for letter, buffer in (("A", layer.unilora_indices_A), ("B", layer.unilora_indices_B)):
            shapes[f"{name}_{letter}".replace(".", "_")] = tuple(buffer["default"].shape)
            indices.append(buffer["default"].reshape(-1))
    indices = torch.cat(indices).long()
    n = len(indices)
    assert n == sum(math.prod(shape) for shape in shapes.values()) == 3 * (7 + 12 + 7 + 9 + 12 + 10)

    counts = torch.bincount(indices, minlength=length)
    order = counts.argsort(descending=True, stable=True)  # those that are taken once more come first
    renamed = torch.empty_like(order)
    renamed[order] = torch.arange(length)
    arrays = [{"indices": renamed[indices].to(torch.int32)}]
    fields = dict(groups=1, projection="gather", ratio=ratio_for(length, n), scale=math.sqrt(length / n))
    adapter = ours(shapes, fields, [theta[order]], arrays)
    factors = {name: delta.detach() for name, delta in adapter.deltas().items()}
    for name, layer in layers.items():
        a, b = (factors[f"{name}_{letter}".replace(".", "_")] for letter in "AB")
        for found, wanted in zip((a, b), layer._get_lora_matrices("default"), strict=True):
            assert float(wanted.detach().abs().max()) > 0.01
            torch.testing.assert_close(found, wanted.detach())
        torch.testing.assert_close(b @ a, layer.get_delta_weight("default").detach())


@pytest.mark.parametrize(("n", "m"), [(171, 16), (171, 45), (100, 100)])
def test_pefts_assignment_is_as_balanced_as_ours(n, m):
    """Each library draws an order of its own of the same assignment: so many numbers are taken so often."""
    from peft.tuners.unilora.model import UniLoraModel

    from superlora_diffusion.adapters.gather import draw

    theirs, mine = UniLoraModel.generate_index(n, m, 5), draw(n, m, 5, 0)["indices"]
    found = [np.bincount(np.bincount(indices.numpy(), minlength=m)) for indices in (theirs, mine)]
    assert found[0].tolist() == found[1].tolist()
