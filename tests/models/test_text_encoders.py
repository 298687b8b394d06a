"""Counting on shapes alone finds what an adapter of denoiser and text encoders really gets."""

from __future__ import annotations

import pytest
from families import TEXT, write_family

from superlora_diffusion import SuperLoRAConfig, attach, find_targets
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.models.shapes import network_on_meta
from superlora_diffusion.models.storage import load_base


@pytest.mark.parametrize("kind", TEXT)
def test_shapes_of_denoiser_and_text_encoders(tmp_path, kind):
    folder = write_family(kind, tmp_path / "base")
    config = SuperLoRAConfig(variant="lora", targets=["to_q", "q_proj"])
    settings = BaseSettings(path=str(folder), text_encoders=True)
    on_meta = find_targets(network_on_meta(settings), config)
    network = load_base(settings).network
    assert on_meta == find_targets(network, config)
    parts = {target.name.split(".")[0] for target in on_meta}
    assert len(parts) == (2 if kind == "sd" else 3) and "text_encoder" in parts
    adapter = attach(network, config)
    assert adapter.num_parameters == sum(8 * (rows + columns) for _, rows, columns in on_meta)
    alone = find_targets(network_on_meta(BaseSettings(path=str(folder))), SuperLoRAConfig(targets=["to_q"]))
    assert not any(target.name.startswith(("unet.", "transformer.", "text_encoder")) for target in alone)
