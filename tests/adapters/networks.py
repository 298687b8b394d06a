"""Tiny networks to attach to, and the few helpers every test here needs."""

from __future__ import annotations

import copy
import math

import torch
from diffusers import UNet2DModel
from torch import nn
from torch.utils.checkpoint import checkpoint


def tree(spec) -> nn.Module:
    """A module holding a Linear or Conv2d for each (dotted name, weight shape). It has no forward."""
    root = nn.Module()
    for name, shape in spec:
        *parents, last = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        rows, columns, *kernel = shape
        layer = nn.Conv2d(columns, rows, tuple(kernel)) if kernel else nn.Linear(columns, rows)
        module.add_module(last, layer)
    return root


def triples(spec) -> list[tuple[str, int, int]]:
    return [(name, shape[0], math.prod(shape[1:])) for name, shape in spec]


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.to_q = nn.Conv2d(width, width + 1, (3, 1), stride=1, padding=(1, 0), padding_mode="circular")
        self.to_v = nn.Conv2d(width + 1, width, 1, bias=False)
        self.to_k = nn.Linear(width, width)

    def forward(self, x):
        hidden = self.to_v(nn.functional.silu(self.to_q(self.norm(x))))
        return x + hidden + self.to_k(hidden.mean((2, 3)))[:, :, None, None]


class MixedNet(nn.Module):
    """Linear and Conv2d targets of odd sizes; calls ``torch.utils.checkpoint`` itself when told to."""

    def __init__(self, checkpointing: str | None = None, width: int = 6):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))
        self.head = nn.Linear(width, 5)
        self.checkpointing = checkpointing

    def forward(self, x):
        hidden = self.stem(x)
        for block in self.blocks:
            if self.checkpointing:
                hidden = checkpoint(block, hidden, use_reentrant=self.checkpointing == "reentrant")
            else:
                hidden = block(hidden)
        return self.head(hidden.mean((2, 3)))


class KindsBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(2, width)
        self.to_q = nn.Conv2d(width, width, 3, padding=1)
        self.to_v = nn.Linear(width, width, bias=False)

    def forward(self, x, classes):
        hidden = nn.functional.silu(self.to_q(self.norm(x) + classes[:, :, None, None]))
        return x + hidden + self.to_v(hidden.mean((2, 3)))[:, :, None, None]


class KindsNet(nn.Module):
    """Every kind of layer that has targets: Linear, Conv2d, GroupNorm, LayerNorm, Embedding, with and without bias."""

    def __init__(self, checkpointing: str | None = None, width: int = 6):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.classes = nn.Embedding(5, width)
        self.blocks = nn.ModuleList(KindsBlock(width) for _ in range(2))
        self.norm_out = nn.LayerNorm(width)
        self.bare = nn.LayerNorm(width, elementwise_affine=False)
        self.head = nn.Linear(width, 5)
        self.checkpointing = checkpointing
        with torch.no_grad():  # a norm's weight and bias as of a trained network
            for module in self.modules():
                if isinstance(module, nn.GroupNorm | nn.LayerNorm) and module.weight is not None:
                    module.weight += torch.randn(width) / 4
                    module.bias += torch.randn(width) / 4

    def forward(self, x, ids):
        hidden, classes = self.stem(x), self.classes(ids)
        for block in self.blocks:
            if self.checkpointing:
                hidden = checkpoint(block, hidden, classes, use_reentrant=self.checkpointing == "reentrant")
            else:
                hidden = block(hidden, classes)
        return self.head(self.bare(self.norm_out(hidden.mean((2, 3)))))


KINDS_TARGETS = ["to_q", "to_v", "classes", "norm", "norm_out:weight", "**:bias"]


def kinds_net(**options) -> KindsNet:
    with torch.random.fork_rng():
        torch.manual_seed(13)
        return KindsNet(**options)


MIXED_TARGETS = ["to_q", "to_v", "to_k"]


def mixed_net(**options) -> MixedNet:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return MixedNet(**options)


LINEAR_WIDTH = 24


class LinearBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q = nn.Linear(LINEAR_WIDTH, LINEAR_WIDTH + 8)
        self.to_v = nn.Linear(LINEAR_WIDTH + 8, LINEAR_WIDTH, bias=False)

    def forward(self, x):
        return x + self.to_v(nn.functional.silu(self.to_q(x)))


class LinearNet(nn.Module):
    """Three blocks of two Linear layers that are not square; checkpoints them when told to."""

    def __init__(self, checkpointing: str | None = None):
        super().__init__()
        self.blocks = nn.ModuleList(LinearBlock() for _ in range(3))
        self.checkpointing = checkpointing

    def forward(self, x):
        for block in self.blocks:
            if self.checkpointing:
                x = checkpoint(block, x, use_reentrant=self.checkpointing == "reentrant")
            else:
                x = block(x)
        return x


def linear_net(**options) -> LinearNet:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return LinearNet(**options)


def small_unet(channels=(8, 16)) -> UNet2DModel:
    with torch.random.fork_rng():
        torch.manual_seed(12)
        model = UNet2DModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=channels,
            norm_num_groups=4,
            attention_head_dim=4,
            down_block_types=("AttnDownBlock2D",) * len(channels),
            up_block_types=("AttnUpBlock2D",) * len(channels),
            num_class_embeds=11,
        )
    return model.eval()


NETWORKS = {"unet": small_unet, "mixed": mixed_net, "kinds": kinds_net}
TARGETS = {"unet": ["to_q", "to_v"], "mixed": MIXED_TARGETS, "kinds": KINDS_TARGETS}

# Fields that between them cross matrix borders, cut a last run, project, split and mix cores.
SETTINGS = {
    "lora": dict(variant="lora", rank=3),
    "group": dict(groups=5, rank=2, side_multiple=4),
    "tucker": dict(groups="layer", order=3, core="full", rank=3, projection="shuffle"),
    "kron": dict(groups=2, splits=3, split_factor=3, rank=2, core="diagonal", factor_all_splits=True),
    "fastfood": dict(groups=2, order=1, projection="fastfood", ratio=0.1),
    "singular": dict(groups=1, rank=2, fold="none", projection="singular", directions=7),
    "tanh": dict(groups="shape", order=4, rank=3, projection="fastfood_tanh", ratio=0.6, scale=-0.5),
}


def fields_for(network: str, setting: str) -> dict:
    return {"targets": TARGETS[network], **SETTINGS[setting]}


def inputs_for(network: str, dtype=torch.float32, seed: int = 5) -> dict:
    generator = torch.Generator().manual_seed(seed)
    if network == "mixed":
        return {"x": torch.randn(2, 3, 6, 5, generator=generator).to(dtype)}
    if network == "kinds":
        image = torch.randn(3, 3, 6, 5, generator=generator).to(dtype)
        return {"x": image, "ids": torch.tensor([1, 4, 1])}
    return {
        "sample": torch.randn(2, 3, 8, 8, generator=generator).to(dtype),
        "timestep": torch.tensor([7, 801]),
        "class_labels": torch.tensor([1, 9]),
    }


def output(model, inputs: dict) -> torch.Tensor:
    result = model(**inputs)
    return result if torch.is_tensor(result) else result.sample


def starting_at_zero(names) -> set[str]:
    """Of each group the vector, or the last Kronecker factor's core, or its first factor matrix."""
    found = {}
    for name in names:
        group, _, rest = name.partition("_")
        part, _, kind = rest.partition("_")
        rank = {"core": 2, "a1": 1}.get(kind, 3 if rest == "vector" else 0)
        if rank:
            found[group] = max(found.get(group, ("", 0, "")), (part, rank, name))
    return {name for _, _, name in found.values()}


@torch.no_grad()
def fill(adapter, seed: int = 0, rms: float = 0.2) -> None:
    """Seeded numbers in every trainable tensor, whatever it started with."""
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(adapter.named_parameters()):
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    # Deltas are linear in the tensor that started at zero, so it sets their size (before a tanh).
    deltas = torch.cat([delta.flatten() for delta in adapter.deltas().values()])
    for name, parameter in adapter.named_parameters():
        if name in starting_at_zero([name for name, _ in adapter.named_parameters()]):
            parameter.mul_(rms / deltas.pow(2).mean().sqrt())


def parameter_named(model: nn.Module, name: str) -> nn.Parameter:
    """What a target is called: a layer, for its weight, or ``layer:parameter``."""
    layer, _, parameter = name.partition(":")
    return model.get_parameter(f"{layer}.{parameter or 'weight'}")


def with_deltas(base: nn.Module, *many: dict[str, torch.Tensor]) -> nn.Module:
    """A plain copy of the base with the deltas added to its weights: what attaching must amount to."""
    model = copy.deepcopy(base)
    with torch.no_grad():
        for deltas in many:
            for name, delta in deltas.items():
                weight = parameter_named(model, name)
                weight.copy_(weight + delta.to(weight.dtype))
    return model


def only_adapter(model, like) -> nn.Module:
    """The adapter inside a copied model."""
    (found,) = [module for module in model.modules() if type(module) is type(like)]
    return found


def gradients(adapter) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in adapter.named_parameters()}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative distance in the 2-norm, in double precision."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())
