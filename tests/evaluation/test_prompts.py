"""What a base that takes text is asked for when it is scored: the captions of the real images, class by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import WORDS, family_config, load, write_family
from PIL import Image

from superlora_diffusion.evaluation.protocol import make_protocol, prompts_for, score_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_family("sd", tmp_path_factory.mktemp("prompts") / "sd")


def test_each_image_gets_a_caption_of_its_class_in_turn():
    labels = np.array([0, 1, 0, 1, 1])
    captions = ["a", "b", "c", "d", "e"]
    wanted = prompts_for(np.array([1, 0, 1, 1, 0, 1, 0]), labels, captions)
    assert wanted == ["b", "a", "d", "e", "c", "b", "a"]


def test_class_names_become_prompts_and_stay_labels(folder, tmp_path):
    config = family_config(tmp_path, folder, data={"caption_template": "a picture of {}"})
    base = load(folder)
    protocol = make_protocol(base, config, config.evaluation)
    assert len(protocol.prompts) == 8 == len(protocol.classes)
    for label, prompt in zip(protocol.classes, protocol.prompts, strict=True):
        assert prompt == f"a picture of {WORDS[label]}"
    assert protocol.asked == protocol.prompts and protocol.class_names == WORDS
    assert protocol.sampling.guidance_scale == 7.5  # the family's
    scores = score_model(base, protocol, ("is",), save_to=tmp_path / "scored.npz")
    stored = np.load(tmp_path / "scored.npz")
    assert stored["images"].shape == (8, 16, 16, 3) and np.array_equal(stored["labels"], protocol.classes)
    assert tuple(stored["class_names"]) == WORDS and scores.n == 8


def test_captions_of_one_class_are_asked_for_without_labels(folder, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(10):
        Image.new("RGB", (20, 16), (index * 20, 0, 0)).save(pictures / f"{index}.png")
        (pictures / f"{index}.txt").write_text(f"caption {index}")
    config = family_config(tmp_path, folder, data={"name": f"imagefolder:{pictures}", "resolution": 16})
    protocol = make_protocol(load(folder), config, config.evaluation, device=torch.device("cpu"))
    assert protocol.classes is None and protocol.class_names == ()
    assert set(protocol.prompts) == set(protocol.real.captions) and len(protocol.prompts) == 8
    assert protocol.real.images.shape[1:] == (16, 16, 3)


def test_the_resolution_of_the_run_is_that_of_its_samples(folder, tmp_path):
    config = family_config(tmp_path, folder, data={"resolution": 24})
    protocol = make_protocol(load(folder), config, config.evaluation)
    assert (protocol.sampling.height, protocol.sampling.width) == (24, 24)
    assert protocol.real.images.shape[1:] == (24, 24, 3)
    told = make_protocol(load(folder), config, config.evaluation, {"height": 16, "width": 8})
    assert (told.sampling.height, told.sampling.width) == (16, 8)
