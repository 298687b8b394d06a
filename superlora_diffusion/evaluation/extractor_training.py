"""Training the small net on labelled pictures so that it reads imperfect ones too, and measuring it.

Every picture is perturbed anew (`perturb.py`), and a share of each batch shows nothing of any class, whose label is
"any of them": without these, noise and fragments would be given a class with confidence, and would score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from superlora_diffusion.data.preparation import prepare
from superlora_diffusion.data.records import ImageSet
from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.digits_net import INPUT_SIZE, DigitsNet, normalise
from superlora_diffusion.evaluation.perturb import perturb, recolour

WORKING_SIZE = 32  # pictures are moved at this size and only then shrunk to what the net sees
OPTIMIZER = "AdamW, one-cycle learning rate, weights averaged (EMA 0.998)"

Pictures = tuple[Tensor, Tensor]  # uint8 (N, 3, S, S), int64 (N,)
Batch = tuple[
    Tensor, Tensor, Tensor
]  # fp32 (B, 3, S, S) in [0, 1], int64 (B,), how sure to be of each label (B,)


@dataclass(frozen=True)
class TrainingOptions:
    """How long and how fast."""

    steps: int = 2500
    batch: int = 128
    junk: int = 16
    """Pictures of no class in a batch, besides."""
    lr: float = 3e-3
    """The highest learning rate."""
    weight_decay: float = 1e-2
    seed: int = 0

    def described(self) -> dict[str, Any]:
        """For the card."""
        return asdict(self) | {"optimizer": OPTIMIZER}


def as_pictures(image_set: ImageSet, size: int) -> Pictures:
    """A split as RGB of the given size, with its own labels."""
    prepared = prepare(image_set, size=size, channels=3, classes=None)
    images = torch.from_numpy(prepared.images).permute(0, 3, 1, 2).contiguous()
    return images, torch.from_numpy(prepared.labels)


def draw_pictures(pool: Pictures, count: int, generator: Generator) -> Pictures:
    """``count`` of them, with replacement."""
    chosen = torch.randint(len(pool[0]), (count,), generator=generator)
    return pool[0][chosen], pool[1][chosen]


def draw_from(pool: Pictures, batch: int) -> Callable[[Generator], Batch]:
    """Batches of one set, all labels sure."""

    def draw(generator: Generator) -> Batch:
        images, labels = draw_pictures(pool, batch, generator)
        return images.float() / 255, labels, torch.ones(batch)

    return draw


def shuffle_patches(pixels: Tensor, generator: Generator) -> Tensor:
    """Pictures (B, 3, S, S) cut into 4 x 4 patches and put together at random: strokes, but no picture."""
    batch, channels, side, _ = pixels.shape
    patch = side // 4
    patches = F.unfold(pixels, patch, stride=patch)  # (B, 3 * patch^2, 16)
    order = torch.rand(batch, 1, patches.shape[-1], generator=generator).argsort(-1).expand_as(patches)
    return F.fold(patches.gather(-1, order), (side, side), patch, stride=patch).view(
        batch, channels, side, side
    )


def clouds(batch: int, generator: Generator) -> Tensor:
    """Random colours on a grid of 2 to 16 cells a side, smoothly enlarged: (B, 3, 16, 16) in [0, 1]."""
    cells = int(2 ** torch.randint(1, 5, (), generator=generator))
    grid = 0.5 + 0.3 * torch.randn(batch, 3, cells, cells, generator=generator)
    return F.interpolate(
        grid.clamp(0, 1), size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False
    )


def draw_junk(pictures: Tensor, count: int, generator: Generator) -> Tensor:
    """(count, 3, 16, 16) pictures of no class: half of them patchwork of perturbed pictures, half clouds."""
    patchwork = shuffle_patches(pictures[: count // 2], generator)
    return torch.cat([patchwork, recolour(clouds(count - count // 2, generator), generator)])


def loss_on(net: DigitsNet, pictures: Tensor, labels: Tensor, sure: Tensor, junk: Tensor) -> Tensor:
    """Cross-entropy, a mean over all pictures: the label as surely as ``sure`` (B,) says, all classes alike for the
    rest of it and for junk.
    """
    _, logits = net.encode(normalise(torch.cat([pictures, junk])))
    right = F.cross_entropy(logits[: len(pictures)], labels, reduction="none")
    any_class = -F.log_softmax(logits[: len(pictures)], dim=1).mean(dim=1)
    known = (sure * right + (1 - sure) * any_class).sum()
    unknown = -F.log_softmax(logits[len(pictures) :], dim=1).mean(dim=1).sum()
    return (known + unknown) / len(logits)


def train_net(
    draw: Callable[[Generator], Batch],
    classes: int,
    options: TrainingOptions,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> DigitsNet:
    """AdamW with a one-cycle learning rate; returns the moving average of the weights.

    Args:
        draw: a batch of pictures at WORKING_SIZE.
        on_step: called with each finished step and its loss.

    Raises:
        EvaluationError: the loss stops being finite.
    """
    torch.manual_seed(options.seed)
    generator = Generator().manual_seed(options.seed)
    net = DigitsNet(classes)
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.steps)
    for step in range(1, options.steps + 1):
        pixels, labels, sure = draw(generator)
        pictures = perturb(pixels, INPUT_SIZE, generator)
        loss = loss_on(net, pictures, labels, sure, draw_junk(pictures, options.junk, generator))
        if not math.isfinite(loss.item()):
            raise EvaluationError(
                f"the extractor's loss became {loss.item()} at step {step}; look at the images."
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        averaged.update_parameters(net)
        on_step(step, loss.item())
    _refresh_statistics(averaged, draw, options, generator)
    return averaged.module.eval()


def _refresh_statistics(
    averaged: AveragedModel,
    draw: Callable[[Generator], Batch],
    options: TrainingOptions,
    generator: Generator,
) -> None:
    """Batch norm's means and variances for the averaged weights, over 100 fresh batches (or as many as steps)."""
    batches = []
    for _ in range(min(100, options.steps)):
        pictures = perturb(draw(generator)[0], INPUT_SIZE, generator)
        together = torch.cat([pictures, draw_junk(pictures, options.junk, generator)])
        batches.append((together * 255).round().to(torch.uint8))
    update_bn(batches, averaged)


def perturbed(images: Tensor, seed: int) -> Tensor:
    """uint8 (N, 3, S, S) -> uint8 (N, 3, 16, 16), changed as in training, the same at every call."""
    pixels = perturb(images.float() / 255, INPUT_SIZE, Generator().manual_seed(seed))
    return (pixels * 255).round().to(torch.uint8)


def measure(extractor, small: Pictures, large: Tensor, seed: int) -> dict[str, float]:
    """Accuracies on held-out pictures: as they are (``small``), and changed as in training (``large``)."""
    images, labels = small
    return {
        "images": len(labels),
        "clean": round(share_right(extractor, images, labels), 4),
        "perturbed": round(share_right(extractor, perturbed(large, seed), labels), 4),
    }


def share_right(extractor, images: Tensor, labels: Tensor) -> float:
    """Share of pictures whose largest logit is their label's."""
    _, logits = extractor.features(images, batch_size=512)
    return float((logits.argmax(1) == labels).double().mean())
