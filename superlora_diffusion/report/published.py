"""The thirteen published points (arXiv 2403.11887), for comparison by eye.

They were measured on the paper's U-Net (565,248 target weights, SVHN to MNIST), another base and other data than a
user's runs: a layer of their own, never part of a front.
"""

from __future__ import annotations

from typing import NamedTuple


class PublishedPoint(NamedTuple):
    """One row of the paper."""

    setting: str
    is_distance: float
    parameters: int


PUBLISHED: tuple[PublishedPoint, ...] = (
    PublishedPoint("LoRA, rank 8", 0.0325, 75_776),
    PublishedPoint("G 8, M 2, no fold, rank 13", 0.0305, 70_720),
    PublishedPoint("G 4, M 2, square, side_multiple 32, rank 24", 0.0263, 73_728),
    PublishedPoint("G 1, M 2, square, side_multiple 32, rank 7", 0.0294, 10_752),
    PublishedPoint("G 4, M 2, square, rho 0.5, rank 4", 0.0273, 8_512),
    PublishedPoint("LoRTA G 12, M 3, rank 5", 0.0272, 8_160),
    PublishedPoint("LoRTA G 12, M 4, rank 5", 0.0360, 11_100),
    PublishedPoint("LoNKr K 2, split_factor 6, rank 10, G 2, targets q,k,v,out", 0.0360, 5_112),
    PublishedPoint("LoNKr K 2, split_factor 6, rank 2, G 2, targets q,k,v,out", 0.0471, 1_080),
    PublishedPoint("LoRTA G 1, M 3, rank 4", 0.0565, 1_060),
    PublishedPoint("LoRTA G 4, M 3, rank 4, rho 0.01", 0.0607, 832),
    PublishedPoint("LoRTA G 1, M 5, rank 1", 0.1131, 76),
    PublishedPoint("LoRTA G 1, M 5, rank 1, rho 0.01", 0.0871, 31),
)
