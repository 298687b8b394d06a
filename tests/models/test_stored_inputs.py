"""Latents and embeddings from the cache are what the base itself makes of each picture and caption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import TEXT, WORDS, load, write_family

from superlora_diffusion.data.cache import cache_root
from superlora_diffusion.models import latents
from superlora_diffusion.models.embeddings import cached_embeddings
from superlora_diffusion.models.latents import cached_latents, encode_images

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("stored")
    return {kind: write_family(kind, place / kind) for kind in TEXT}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUPERLORA_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", TEXT)
def test_every_caption_has_its_own_embeddings(folders, kind):
    base, told = load(folders[kind]), []
    embeddings = cached_embeddings(base, [*WORDS, *WORDS[:3]], CPU, told.append)
    asked = ["oak", "ash", "oak", "lime"]
    rows = embeddings.rows(asked)
    wanted = base.family.condition(base, asked, CPU)
    assert rows.keys() == wanted.keys() and sum(told) == len(WORDS)
    for name, value in wanted.items():
        torch.testing.assert_close(rows[name], value, rtol=1e-4, atol=1e-5)
        assert not torch.equal(rows[name][0], rows[name][1]) and torch.equal(rows[name][0], rows[name][2])
    cached_embeddings(base, [*WORDS, "a new one"], CPU, told.append)
    assert sum(told) == len(WORDS) + 1


def test_every_picture_has_its_own_latents_whatever_the_chunks(folders, monkeypatch):
    monkeypatch.setattr(latents, "_CHUNK", 3)
    base = load(folders["sd"])
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)
    stored = cached_latents(base, images, CPU)
    mean, std = encode_images(base, images, CPU)
    assert len(stored) == 8
    chosen = torch.tensor([7, 0, 3, 3])
    torch.testing.assert_close(stored.means(chosen), mean[chosen])
    noise = torch.randn(4, *mean.shape[1:], generator=torch.Generator().manual_seed(5))
    drawn = stored.draw(chosen, torch.Generator().manual_seed(5))
    torch.testing.assert_close(drawn, mean[chosen] + std[chosen] * noise)
    files = {path: path.stat().st_mtime_ns for path in cache_root().rglob("*.safetensors")}
    assert len(files) == 3
    more = np.concatenate([images[:6], images[:1]])  # two chunks that are known, and a new one
    cached_latents(base, more, CPU)
    after = {path: path.stat().st_mtime_ns for path in cache_root().rglob("*.safetensors")}
    assert len(after) == 4 and all(after[path] == time for path, time in files.items())
    damaged = next(iter(files))
    damaged.write_bytes(b"broken")
    torch.testing.assert_close(cached_latents(base, images, CPU).means(chosen), mean[chosen])


def test_families_with_the_same_autoencoder_keep_their_own_latents(folders):
    """Stable Diffusion 3 shifts what the same autoencoder gives."""
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    first, second = load(folders["sd"]), load(folders["sd3"])
    second.parts = type(first.parts)(folders["sd"])
    for base in (first, second):
        mean, _ = encode_images(base, images, CPU)
        torch.testing.assert_close(cached_latents(base, images, CPU).means(torch.tensor([0, 1])), mean)
    apart = encode_images(first, images, CPU)[0] - encode_images(second, images, CPU)[0]
    assert apart.abs().min() > 0.01
