"""The shipped extractor is as good as its card says; names, weights and hashes are checked."""

from __future__ import annotations

import json
import urllib.error

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from superlora_diffusion.adapters.fingerprint import exact_digest
from superlora_diffusion.errors import ConfigError, EvaluationError
from superlora_diffusion.evaluation import extractors
from superlora_diffusion.evaluation.digits_net import INPUT_SIZE, DigitsNet, normalise, preprocess
from superlora_diffusion.evaluation.extractors import (
    ASSETS,
    DIGITS_WEIGHTS,
    choose_extractor,
    load_extractor,
)
from superlora_diffusion.evaluation.perturb import perturb

from .helpers import channels_first

CARD = json.loads((ASSETS / DIGITS_WEIGHTS).with_suffix(".json").read_text())


def share_right(extractor, images: torch.Tensor, labels: np.ndarray) -> float:
    return float((extractor.features(images)[1].argmax(1).numpy() == labels).mean())


def test_shipped_extractor_reads_held_out_digits(extractor, digits):
    images, labels = digits
    clean = share_right(extractor, channels_first(images), labels)
    assert clean >= 0.97
    assert clean == pytest.approx(CARD["held_out"]["mnist-mini"]["clean"], abs=0.002)


def test_shipped_extractor_reads_perturbed_digits(extractor, digits):
    images, labels = digits
    pixels = perturb(channels_first(images).float() / 255, INPUT_SIZE, torch.Generator().manual_seed(5))
    changed = (pixels * 255).round().to(torch.uint8)
    assert (
        changed.float() - channels_first(images).float()
    ).abs().mean() > 20  # grey levels: really perturbed
    assert share_right(extractor, changed, labels) >= 0.92


@pytest.mark.parametrize("change", ["inverted", "red ground", "enlarged"])
def test_style_and_size_change_little(extractor, digits, change):
    images, labels = digits
    changed = {
        "inverted": 255 - images,
        "red ground": np.stack([255 - images[..., 0] // 4, images[..., 1], images[..., 2]], axis=-1),
        "enlarged": images.repeat(2, axis=1).repeat(2, axis=2),
    }[change]
    assert share_right(extractor, channels_first(changed), labels) >= 0.96


def test_noise_is_no_digit(extractor):
    """Pictures of nothing get no confident class, or they would score."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (200, 3, 16, 16), generator=generator, dtype=torch.uint8)
    assert extractor.features(noise)[1].softmax(1).amax(1).mean() < 0.35


def test_card_and_file_fit(extractor):
    file = ASSETS / DIGITS_WEIGHTS
    assert file.stat().st_size <= 1_000_000
    assert CARD["hash"] == extractor.hash
    assert CARD["parameters"] == sum(parameter.numel() for parameter in DigitsNet().parameters())
    for row in CARD["held_out"].values():
        assert row["clean"] >= 0.97 and row["perturbed"] >= 0.92
    assert set(CARD["held_out"]) == {"mnist-mini", "digits", "synthdigits"}


def test_features_do_not_depend_on_the_batch(extractor, digits):
    images = channels_first(digits[0][::20])
    features, logits = extractor.features(images, batch_size=100)
    assert features.shape == (100, extractor.num_features) and logits.shape == (100, extractor.num_classes)
    assert features.dtype == logits.dtype == torch.float32
    assert features.std() > 0.1
    for batch_size in (1, 7, 1000):
        other_features, other_logits = extractor.features(images, batch_size=batch_size)
        torch.testing.assert_close(other_features, features, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other_logits, logits, rtol=1e-4, atol=1e-4)


def test_arrays_and_tensors_are_the_same(extractor, digits):
    images = channels_first(digits[0][:8])
    torch.testing.assert_close(extractor.features(images.numpy())[0], extractor.features(images)[0])
    # Usable afterwards in a graph: not marked as inference tensors.
    (extractor.features(images)[0] * torch.ones(1, requires_grad=True)).sum().backward()


def test_preprocessing_is_bilinear_and_antialiased():
    # A white line in every fourth column, right between the points that plain bilinear would look at.
    lines = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    lines[..., ::4] = 255
    shrunk = preprocess(lines)
    assert shrunk.shape == (1, 3, 16, 16)
    torch.testing.assert_close(shrunk, torch.full_like(shrunk, -0.5), atol=0.25, rtol=0)
    flat = preprocess(torch.full((1, 3, 16, 16), 51, dtype=torch.uint8))
    torch.testing.assert_close(flat, torch.full_like(flat, -0.6))
    torch.testing.assert_close(normalise(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 16, 16))


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 16, 16),
        torch.zeros(2, 1, 16, 16, dtype=torch.uint8),
        torch.zeros(0, 3, 16, 16, dtype=torch.uint8),
        torch.zeros(3, 16, 16, dtype=torch.uint8),
    ],
    ids=["floats", "grey", "none", "one picture"],
)
def test_wrong_images_are_refused(extractor, images):
    with pytest.raises(EvaluationError, match=r"it takes at least one uint8 RGB image, \(N, 3, H, W\)"):
        extractor.features(images)


def test_a_batch_size_below_one_is_refused(extractor):
    with pytest.raises(EvaluationError, match="batch_size is 0"):
        extractor.features(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), batch_size=0)
    with pytest.raises(EvaluationError, match="takes uint8"):
        preprocess(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("name", ["mnist-mini", "mnist", "usps", "svhn", "digits", "synthdigits"])
def test_auto_takes_ours_for_digits(name, extractor):
    assert load_extractor("auto", data_name=name).hash == extractor.hash


def test_auto_takes_inception_for_the_rest():
    for name in ("cifar10", "fashionmnist", "imagefolder:x", ""):
        assert choose_extractor(name) == "inception"


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match=r"'incepton' is not known.*Did you mean 'inception'"):
        load_extractor("incepton")


def test_the_hash_follows_weights_and_preprocessing(extractor, tmp_path):
    stored = load_file(ASSETS / DIGITS_WEIGHTS)
    assert exact_digest(stored, "other") != extractor.hash
    stored["head.bias"][3] += 0.5
    save_file(stored, tmp_path / "changed.safetensors")
    changed = load_extractor("digits", path=str(tmp_path / "changed.safetensors"))
    assert changed.hash != extractor.hash and len(changed.hash) == len(extractor.hash) == 12


@pytest.mark.parametrize("content", [None, b"", b"not weights", "other net"])
def test_missing_or_foreign_digits_weights_are_refused(tmp_path, content):
    file = tmp_path / "weights.safetensors"
    if content == "other net":
        save_file({"head.bias": torch.zeros(10)}, file)
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"weights\.safetensors: no weights of the digits extractor"):
        load_extractor("digits", path=str(file))


def test_missing_inception_weights_say_where_and_how(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(EvaluationError) as caught:
        load_extractor("inception")
    message = str(caught.value)
    assert str(tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth") in message
    assert "https://github.com/toshas/torch-fidelity" in message and "give its path" in message


def test_inception_weights_are_taken_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: pytest.fail("fetched"))
    cached = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"damaged")
    with pytest.raises(EvaluationError, match=r"6726825d\.pth: these are no Inception weights"):
        load_extractor("inception")


def test_a_given_inception_path_is_used(tmp_path, monkeypatch):
    with pytest.raises(EvaluationError, match=r"nowhere\.pth: there is no such file"):
        load_extractor("inception", path=str(tmp_path / "nowhere.pth"))
    from torch_fidelity import feature_extractor_inceptionv3

    given = []

    class Recorder(torch.nn.Module):
        def __init__(self, name, features, feature_extractor_weights_path):
            super().__init__()
            given.append((name, features, feature_extractor_weights_path))
            self.weight = torch.nn.Parameter(torch.ones(2))

    monkeypatch.setattr(feature_extractor_inceptionv3, "FeatureExtractorInceptionV3", Recorder)
    file = tmp_path / "mine.pth"
    torch.save({"weight": torch.ones(2)}, file)
    loaded = load_extractor("inception", path=str(file))
    assert given == [("inception-v3-compat", ["2048", "logits_unbiased"], str(file))]
    assert (loaded.name, loaded.num_features, loaded.num_classes) == ("inception", 2048, 1008)
    assert not loaded.predicts_labels


class Harmful:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    file = tmp_path / "harmful.pth"
    torch.save({"fc.weight": Harmful(tmp_path / "ran")}, file)
    with pytest.raises(EvaluationError, match=r"harmful\.pth: these are no Inception weights"):
        load_extractor("inception", path=str(file))
    assert not (tmp_path / "ran").exists()


def test_assets_are_found_beside_the_module():
    assert extractors.ASSETS.name == "assets" and extractors.ASSETS.parent.name == "evaluation"
