"""Every family learns eight pictures by heart, and goes on after a stop as if there had been none."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from families import EVERYTHING, KINDS, asked_of, family_config, through_autoencoder, write_family
from safetensors.torch import load_file

from superlora_diffusion.evaluation.evaluate import Request, evaluate_run
from superlora_diffusion.runs.source import open_source
from superlora_diffusion.sampling.config import SamplingSettings
from superlora_diffusion.sampling.producer import generate
from superlora_diffusion.training import loop
from superlora_diffusion.training.loop import train
from superlora_diffusion.training.untrained import untrained_loss


@pytest.fixture(scope="module", params=KINDS)
def base(request, tmp_path_factory):
    return write_family(request.param, tmp_path_factory.mktemp(request.param) / "base")


def targets_of(base) -> dict:
    """Transformers have no convolution but the one that cuts patches."""
    has_unet = (base / "unet").is_dir()
    return {"targets": EVERYTHING if has_unet else ("all-linear",)}


def nearest(images: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance of each image to the nearest of those that are wanted."""
    apart = np.abs(images[:, None].astype(float) - wanted[None]).mean(axis=(2, 3, 4))
    return float(apart.min(axis=1).mean())


def test_eight_pictures_are_learnt_by_heart(base, tmp_path):
    settings = {"steps": 200, "class_dropout": 0.0}
    config = family_config(tmp_path, base, train=settings, adapter=targets_of(base))
    before = untrained_loss(config, "cpu")
    train(config, "cpu", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    after = [line["validation_loss"] for line in lines if "validation_loss" in line][-1]
    assert after < before / 3
    source = open_source(str(tmp_path / "run"))
    drawn = []
    for context in (source.adapter.disabled, source.adapter.cached):
        with context():
            settings = SamplingSettings(steps=10, guidance_scale=1)
            drawn.append(generate(source.base, asked_of(source.base), 8, settings))
    away, near = (nearest(images, through_autoencoder(source.base)) for images in drawn)
    assert near < 0.9 * away


def adapter_numbers(folder) -> dict:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_a_stopped_run_goes_on_exactly_and_its_scores_are_told(base, tmp_path, monkeypatch):
    """Both runs see the same batches, noise and dropped captions; previews and scores draw as the base does."""
    extra = {"preview": {"every": 6, "per_class": 1}, "checkpoint": {"every": 2}}
    whole, parted = (
        family_config(tmp_path, base, output=str(tmp_path / name), adapter=targets_of(base), **extra)
        for name in ("whole", "parted")
    )
    train(whole, "cpu", quiet=True)
    real, calls = loop.Trainer._optimise, []

    def stop_at_the_fourth(self):
        calls.append(self.step)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(loop.Trainer, "_optimise", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        train(parted, "cpu", quiet=True)
    monkeypatch.undo()
    train(parted, "cpu", quiet=True)
    one, other = (adapter_numbers(tmp_path / name) for name in ("whole", "parted"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert max(value.abs().max() for value in one.values()) > 0
    assert (tmp_path / "whole" / "samples" / "step-000006.png").is_file()
    records = evaluate_run(str(tmp_path / "whole"), Request(sampling={"steps": 2}), [])
    assert [record.name for record in records] == ["base", "whole"]
    assert records[0].fid != records[1].fid and all(record.n == 8 for record in records)
