"""Bases of other kinds: prompts instead of classes, and nothing to ask for at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import load, write_family

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.app.serve import in_a_loop
from superlora_diffusion.app.session import Session
from superlora_diffusion.errors import ConfigError, RunError
from superlora_diffusion.sampling.request import SampleRequest

CPU = torch.device("cpu")


def write_adapter(base, folder):
    """An adapter with an update that is seen, and which does not say its base."""
    torch.manual_seed(0)
    adapter = attach(load(base).network, SuperLoRAConfig(variant="lora", rank=2))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0, 1)
    adapter.save_pretrained(folder)
    return str(folder)


def request(**values):
    return SampleRequest(**{"count": 2, "sampling": {"steps": 2, "guidance_scale": 3.0}, **values})


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """(session on a base that takes text, adapter)"""
    folder = tmp_path_factory.mktemp("text")
    base = write_family("sd", folder / "base")
    return Session(CPU, base=str(base)), write_adapter(base, folder / "adapter")


def test_prompts_are_drawn(text):
    session, adapter = text
    steps = []
    house = session.draw(
        [adapter], [1.0], request(prompts=("a red house",)), lambda *done: steps.append(done)
    )
    assert house.labels == ("a red house",) * 2 and not np.array_equal(house.base, house.adapted)
    assert steps[-1] == (4, 4)
    other = session.draw([adapter], [1.0], request(prompts=("an oak",)))
    away = {"steps": 2, "guidance_scale": 3.0, "negative_prompt": "elm"}
    negative = session.draw([adapter], [1.0], request(prompts=("a red house",), sampling=away))
    for found in (other, negative):
        assert not np.array_equal(found.base, house.base) and not np.array_equal(found.adapted, house.adapted)
    same = session.draw([adapter], [1.0], request(prompts=("a red house",), scale=0.0))
    assert np.array_equal(same.adapted, house.base)
    with pytest.raises(ConfigError, match="takes text"):
        session.draw([adapter], [1.0], request())


def test_the_page_shows_prompt_or_class(text, place, tmp_path):
    pytest.importorskip("gradio")
    from superlora_diffusion.app.page import Page
    from superlora_diffusion.app.pictures import PictureFolder
    from superlora_diffusion.app.start import Start

    session, adapter = text
    page = Page(session, PictureFolder(tmp_path), Start())
    in_a_loop(page.build)
    opened, _, line, classes, prompt, negative, count, *_ = page.open(adapter, "", None, "")
    assert opened.takes_text and "trained numbers" in line and count == 1
    assert (classes["visible"], prompt["visible"], negative["visible"]) == (False, True, True)
    sheet, *_ = page.draw(
        opened, adapter, "", 1, 1, "", "an oak", "elm", 1, 0, "ddim", 2, 2.0, 1.0, [], lambda *a, **k: None
    )
    assert sheet.endswith(".png") and page.open(adapter, "", opened, adapter)[0] == {"__type__": "update"}
    page.session = Session(CPU)
    _, _, _, classes, prompt, *_ = page.open(place.one, "", None, "")
    assert (classes["visible"], prompt["visible"], prompt["value"]) == (True, False, "")


def test_an_adapter_that_does_not_say_its_base_is_told(text):
    with pytest.raises(RunError, match="--base"):
        Session(CPU).open(text[1])


def test_a_base_with_nothing_to_ask_for(tmp_path):
    base = write_family("unconditional", tmp_path / "base")
    session = Session(CPU)
    found = session.open(str(base))
    assert (found.class_names, found.takes_text, found.can_guide, found.suggested_count) == (
        (),
        False,
        False,
        8,
    )
    assert found.sampling.guidance_scale == 1
    assert session.draw([str(base)], [1.0], request(sampling={"steps": 2})).labels == ()
