"""Rows of the real images: computed once, by content; a changed byte is another entry."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from superlora_diffusion.evaluation.reference import reference_features, reference_path
from superlora_diffusion.evaluation.scores import score_features


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUPERLORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


class Counting(torch.nn.Module):
    """A network that counts the images it saw."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, 0

    def forward(self, images):
        self.seen += len(images)
        return self.inner(images)


@pytest.fixture
def counting(extractor):
    return dataclasses.replace(extractor, network=Counting(extractor.network))


def npz_files(cache):
    return sorted(path for path in cache.iterdir() if path.suffix == ".npz")


def test_the_second_time_nothing_is_computed_and_every_bit_is_the_same(counting, halves, cache):
    (first, labels), (second, other_labels) = halves
    fresh = reference_features(second[::5], other_labels[::5], counting)
    assert counting.network.seen == 200 and len(npz_files(cache)) == 1
    cached = reference_features(second[::5], other_labels[::5], counting)
    assert counting.network.seen == 200
    assert torch.equal(fresh.features, cached.features) and torch.equal(fresh.logits, cached.logits)
    drawn = reference_features(first[::5], labels[::5], counting)
    assert score_features(drawn, fresh, counting) == score_features(drawn, cached, counting)


def test_a_changed_byte_is_a_new_entry(counting, digits, cache):
    images, labels = digits[0][:12], digits[1][:12]
    before = reference_features(images, labels, counting)
    changed = images.copy()
    changed[7, 3, 3, 1] ^= 1
    after = reference_features(changed, labels, counting)
    assert counting.network.seen == 24 and len(npz_files(cache)) == 2
    assert not torch.equal(before.features[7], after.features[7])
    assert torch.equal(before.features[0], after.features[0])


def test_another_extractor_or_shape_is_another_entry(extractor, digits):
    images = digits[0][:12]
    paths = {
        reference_path(images, extractor),
        reference_path(images, dataclasses.replace(extractor, hash="0123456789ab")),
        reference_path(images, dataclasses.replace(extractor, device=torch.device("meta"))),
        reference_path(images.reshape(12, 8, 32, 3), extractor),
        reference_path(images[:11], extractor),
    }
    assert len(paths) == 5
    assert reference_path(images.copy(), extractor) in paths


@pytest.mark.parametrize("damage", ["cut", "empty", "one byte"])
def test_a_damaged_entry_is_computed_again(counting, digits, cache, damage):
    images, labels = digits[0][:12], digits[1][:12]
    fresh = reference_features(images, labels, counting)
    (file,) = npz_files(cache)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "one byte": content}[damage])
    again = reference_features(images, labels, counting)
    assert counting.network.seen == 24 and torch.equal(fresh.features, again.features)
    reference_features(images, labels, counting)
    assert counting.network.seen == 24  # mended


def test_a_cache_that_cannot_be_written_costs_no_score(counting, digits, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUPERLORA_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not kept"):
        found = reference_features(digits[0][:5], digits[1][:5], counting)
    assert len(found) == 5 and np.isfinite(found.features.numpy()).all()
