"""A small convolutional net: the features behind our scores on digits of any style, or on a user's own classes.

It works at 16 pixels because that is what the embedded base draws; larger pictures are shrunk and smaller
ones enlarged inside, so that a generated and a real picture always reach the first layer the same way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from superlora_diffusion.errors import EvaluationError

INPUT_SIZE = 16
STYLE_WIDTHS = (32, 64)
SHAPE_WIDTH = 96
NUM_FEATURES = sum(STYLE_WIDTHS) + SHAPE_WIDTH
NUM_CLASSES = 10
# Written into the extractor's hash: whoever changes `preprocess` or which features are taken changes this line too.
PREPROCESSING = (
    f"uint8/255, bilinear antialiased to {INPUT_SIZE}x{INPUT_SIZE}, (x-0.5)/0.5; "
    "features: means of blocks 1, 2, 5; v2"
)


def preprocess(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> fp32 (B, 3, 16, 16) in [-1, 1].

    Raises:
        EvaluationError: another type or shape (a float picture would be scaled twice without a word).
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise EvaluationError(
            f"the extractor got images of type {images.dtype} and shape {tuple(images.shape)}; it takes "
            "uint8 (B, 3, H, W). Convert with (x * 255).round().to(torch.uint8) and repeat grey to three "
            "channels."
        )
    return normalise(images.float() / 255.0)


def normalise(pixels: Tensor) -> Tensor:
    """fp32 (B, 3, H, W) in [0, 1] -> fp32 (B, 3, 16, 16) in [-1, 1]; training enters here."""
    if pixels.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
        size = (INPUT_SIZE, INPUT_SIZE)
        pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)
    return (pixels - 0.5) / 0.5


def _block(inputs: int, outputs: int) -> nn.Sequential:
    # Batch rather than group norm: in eval mode it is a fixed scale and shift, so that contrast and
    # background stay visible to FID instead of being divided out of each picture.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class DigitsNet(nn.Module):
    """Five 3x3 convolutions at 16, 16, 8, 8 and 4 pixels, average pooling, one linear layer."""

    def __init__(self, classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(3, STYLE_WIDTHS[0]),
            _block(*STYLE_WIDTHS),
            nn.MaxPool2d(2),
            _block(STYLE_WIDTHS[1], 96),
            _block(96, 96),
            nn.MaxPool2d(2),
            _block(96, SHAPE_WIDTH),
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(SHAPE_WIDTH, classes)

    def encode(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised fp32 (B, 3, 16, 16) -> features (B, 192), logits (B, classes).

        The last block, trained to see through colour and contrast, says which digit and how well formed; alone it
        would find coloured print as good as white handwriting. The first two blocks add colour, background and
        strokes, so that FID sees the whole picture.
        """
        first, second, rest = self.body[0], self.body[1], self.body[2:]
        colour = first(inputs)
        strokes = second(colour)
        shape = rest(strokes).mean(dim=(2, 3))
        features = torch.cat([colour.mean(dim=(2, 3)), strokes.mean(dim=(2, 3)), shape], dim=1)
        return features, self.head(self.dropout(shape))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, 3, H, W) -> features fp32 (B, 192), logits fp32 (B, classes)."""
        return self.encode(preprocess(images))
