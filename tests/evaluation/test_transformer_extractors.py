"""DINOv2 and CLIP: tiny random models of the real classes, saved as real folders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
)

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.extractors import load_extractor
from superlora_diffusion.evaluation.scores import compute_scores

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """dinov2, a whole CLIP, a CLIP's vision half, and a config of something else."""
    place = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(image_size=56, patch_size=56, mlp_ratio=2, **SMALL)).save_pretrained(
        place / "dinov2"
    )
    vision = {"image_size": 32, "patch_size": 16, "projection_dim": 12, **SMALL}
    text = {"vocab_size": 20, "max_position_embeddings": 8, "projection_dim": 12, **SMALL}
    whole = CLIPModel(
        CLIPConfig(
            text_config=CLIPTextConfig(**text).to_dict(),
            vision_config=CLIPVisionConfig(**vision).to_dict(),
            projection_dim=12,
        )
    )
    whole.save_pretrained(place / "clip")
    half = CLIPVisionModelWithProjection(CLIPVisionConfig(**vision))
    half.vision_model.load_state_dict(whole.vision_model.state_dict())
    half.visual_projection.load_state_dict(whole.visual_projection.state_dict())
    half.save_pretrained(place / "half")
    BertConfig().save_pretrained(place / "bert")
    return place


def pictures(count=6, side=16):
    return np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def reference_pixels(images, size, mean, std):
    """What the published preprocessing is, by Pillow's bicubic resize and numpy."""
    resized = [
        np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BICUBIC))
        for image in images
    ]
    pixels = (np.array(resized) / 255 - mean) / std
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float()


def test_dinov2s_features_are_its_pooled_output(folders):
    extractor = load_extractor("dinov2", path=str(folders / "dinov2"))
    features, logits = extractor.features(pictures())
    pixels = reference_pixels(pictures(), 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        expected = Dinov2Model.from_pretrained(folders / "dinov2").eval()(pixels).pooler_output
    assert features.shape == (6, 24) == (6, extractor.num_features) and logits.shape == (6, 0)
    torch.testing.assert_close(features, expected, atol=0.02, rtol=0.02)  # Pillow rounds to whole levels
    assert features.std(dim=0).mean() > 0.02


@pytest.mark.parametrize("name", ["clip", "half"])
def test_clips_features_are_its_image_embeddings(folders, name):
    extractor = load_extractor("clip", path=str(folders / name))
    features, logits = extractor.features(pictures())
    pixels = reference_pixels(
        pictures(), 32, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    )
    with torch.no_grad():
        found = CLIPModel.from_pretrained(folders / "clip").eval().get_image_features(pixels)
    expected = found if isinstance(found, torch.Tensor) else found.pooler_output
    assert features.shape == (6, 12) == (6, extractor.num_features) and logits.shape == (6, 0)
    torch.testing.assert_close(features, expected, atol=0.02, rtol=0.02)


def test_the_hash_follows_weights_and_kind(folders, tmp_path):
    one = load_extractor("dinov2", path=str(folders / "dinov2"))
    assert one.hash == load_extractor("dinov2", path=str(folders / "dinov2")).hash and len(one.hash) == 12
    changed = Dinov2Model.from_pretrained(folders / "dinov2")
    with torch.no_grad():
        changed.layernorm.bias[3] += 0.5
    changed.save_pretrained(tmp_path / "changed")
    assert load_extractor("dinov2", path=str(tmp_path / "changed")).hash != one.hash


def test_fid_kid_and_prc_are_measured_and_is_and_accuracy_are_said_to_be_missing(folders):
    extractor = load_extractor("clip", path=str(folders / "clip"))
    images = pictures(40).transpose(0, 2, 3, 1)
    labels = np.arange(20) % 4
    scores = compute_scores(images[:20], labels, images[20:], labels, extractor, splits=2)
    assert scores.fid > 0 and scores.kid is not None and 0 <= scores.precision <= 1
    assert scores.is_mean is None and scores.is_distance is None and scores.accuracy is None
    assert sum("the extractor clip has no classes" in note for note in scores.notes) == 2
    with pytest.raises(EvaluationError, match="has no classes"):
        compute_scores(images[:20], labels, images[20:], labels, extractor, metrics=["is", "accuracy"])


def test_missing_weights_are_not_made_up(folders, tmp_path):
    model = Dinov2Model.from_pretrained(folders / "dinov2")
    kept = {name: value for name, value in model.state_dict().items() if "layer.1." not in name}
    model.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(EvaluationError, match=r"lacks weights: encoder\.layer\.1"):
        load_extractor("dinov2", path=str(tmp_path))


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
def test_what_cannot_be_loaded_is_said(folders, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for path in ("nobody/nothing-of-this-name", str(tmp_path)):
        with pytest.raises(EvaluationError, match=rf"extractor {kind}: .*--extractor-path.*HF_HUB_OFFLINE"):
            load_extractor(kind, path=path)
    with pytest.raises(EvaluationError, match=rf"extractor {kind}: .* type 'bert', expected {kind}"):
        load_extractor(kind, path=str(folders / "bert"))
    with pytest.raises(EvaluationError, match=r"facebook/dinov2-base|openai/clip-vit-base-patch32"):
        load_extractor(kind)
