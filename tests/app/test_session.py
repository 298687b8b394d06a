"""What the page does, without a page: what is drawn from what, and what is refused."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
import torch
from tiny import run_config

from superlora_diffusion.app.choice import look_up
from superlora_diffusion.app.session import ALL, Session
from superlora_diffusion.errors import AdapterError, BaseModelError, ConfigError, RunError, SuperLoRAError
from superlora_diffusion.runs.draw import draw, prepare_drawing
from superlora_diffusion.runs.source import open_source
from superlora_diffusion.sampling.producer import generate
from superlora_diffusion.sampling.request import SampleRequest
from superlora_diffusion.training.loop import train

CPU = torch.device("cpu")
SAMPLING = {"steps": 3, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def session():
    return Session(CPU)


def request(**values):
    return SampleRequest(**{"count": 6, "sampling": SAMPLING, **values})


def drawn(session, *paths, weights=(1.0, 1.0), **values):
    return session.draw(list(paths), list(weights)[: len(paths)], request(**values))


def apart(one, two):
    return np.abs(one.astype(int) - two.astype(int)).mean()


def sampled(path, out, adapters=(), **values):
    """The same, by the verb."""
    drawing = prepare_drawing(path, None, request(format="npz", **values), CPU, out, adapters)
    draw(drawing)
    with np.load(out / "samples.npz") as stored:
        return stored["images"]


# ---------------------------------------------------------------- what is drawn


def test_base_and_adapter_are_what_sample_draws(session, place, tmp_path):
    found = drawn(session, place.one)
    assert np.array_equal(found.base, sampled(place.base, tmp_path / "base"))
    assert apart(found.adapted, sampled(place.one, tmp_path / "one")) < 0.1
    assert apart(found.base, found.adapted) > 1
    assert found.labels == ("ash", "birch", "cedar", "oak", "ash", "birch")


def test_scale_zero_is_the_base_bit_for_bit(session, place):
    for path in (place.one, place.three):
        found = drawn(session, path, scale=0.0)
        assert np.array_equal(found.base, found.adapted)


def test_the_scale_moves_the_pictures_on_and_on(session, place):
    pictures = [drawn(session, place.one, scale=scale).adapted for scale in (0.0, 0.3, 1.0, -0.3)]
    assert all(apart(one, two) > 0.5 for i, one in enumerate(pictures) for two in pictures[:i])
    assert apart(pictures[0], pictures[1]) < apart(pictures[0], pictures[2])


def test_a_mix_is_the_sum_made_by_hand(session, place):
    found = drawn(session, place.one, place.three, weights=(0.7, -0.4), scale=0.5)
    source = open_source(place.base)
    parts = [
        (open_source(path).adapter.deltas(), weight)
        for path, weight in ((place.one, 0.35), (place.three, -0.2))
    ]
    with torch.no_grad():
        for deltas, weight in parts:
            for name, delta in deltas.items():
                layer = source.base.network.get_submodule(name)
                layer.weight += weight * delta
    settings = session.open(place.one).sampling.model_copy(update=SAMPLING)
    by_hand = generate(source.base, np.array([0, 1, 2, 3, 0, 1]), 6, settings)
    assert apart(found.adapted, by_hand) < 0.1
    assert all(apart(found.adapted, drawn(session, path).adapted) > 1 for path in (place.one, place.three))


def test_the_same_adapter_twice_counts_twice(session, place):
    twice = drawn(session, place.one, place.one, weights=(0.4, 0.3))
    assert np.array_equal(twice.adapted, drawn(session, place.one, scale=0.7).adapted)


def test_a_base_can_be_drawn_alone_and_with_an_adapter_on_it(session, place):
    alone = drawn(session, place.base)
    assert alone.adapted is None and np.array_equal(alone.base, drawn(session, place.one).base)
    on_it = drawn(session, place.base, place.two, weights=(1.0, 1.0))
    assert np.array_equal(on_it.adapted, drawn(session, place.two).adapted)


def test_what_is_asked_for_counts(session, place):
    plain = drawn(session, place.one)
    for changed in ({"seed": 1}, {"classes": "oak"}, {"sampling": {**SAMPLING, "guidance_scale": 1.0}}):
        other = drawn(session, place.one, **changed)
        assert apart(plain.adapted, other.adapted) > 0.2 and apart(plain.base, other.base) > 0.2, changed
    assert drawn(session, place.one, classes="oak", count=2).labels == ("oak", "oak")
    steps = drawn(session, place.one, sampling={"steps": 2, "sampler": "ddim"})
    assert steps.settings["sampling"]["steps"] == 2 and steps.settings["sampling"]["sampler"] == "ddim"
    assert steps.settings["sampling"]["guidance_scale"] == 2.0  # its run's, where nothing is said


def test_the_base_is_loaded_once_and_its_pictures_are_drawn_once(place, monkeypatch):
    session, loads, calls = Session(CPU), [], []
    from superlora_diffusion.app import stage

    load = stage.load_base
    monkeypatch.setattr(stage, "load_base", lambda settings: loads.append(settings) or load(settings))
    for path, scale in ((place.one, 1.0), (place.one, 0.5), (place.two, 1.0), (place.base, None)):
        session.draw([path], [1.0], request(scale=scale), lambda done, total: calls.append((done, total)))
    assert len(loads) == 1
    first = [(done, 6) for done in range(1, 7)]  # three steps of each half
    assert calls == first + 2 * [(1, 3), (2, 3), (3, 3)]
    assert np.array_equal(drawn(session, place.two, seed=3).base, drawn(session, place.base, seed=3).base)


def test_an_adapter_that_was_trained_anew_is_read_anew(session, place, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(f"{place.one}/adapter", folder)
    before = drawn(session, str(folder)).adapted
    shutil.rmtree(folder)
    shutil.copytree(f"{place.two}/adapter", folder)
    after = drawn(session, str(folder)).adapted
    assert apart(before, after) > 0.5
    assert np.array_equal(after, drawn(session, place.two).adapted)


def test_two_calls_at_once_wait_for_each_other(session, place):
    alone = [drawn(session, place.one, seed=9).adapted, drawn(session, place.three, seed=9).adapted]
    together = [None, None]

    def call(number, path):
        together[number] = drawn(session, path, seed=9).adapted

    threads = [threading.Thread(target=call, args=pair) for pair in enumerate((place.one, place.three))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, two) for one, two in zip(alone, together, strict=True))


# ---------------------------------------------------------------- what is told


def test_what_was_opened_says_what_can_be_asked(session, place):
    found = session.open(place.one)
    assert (found.name, found.base, found.class_names[0]) == ("one", "base", "ash")
    assert found.parameters == open_source(place.one).adapter.num_parameters
    assert (found.sampling.steps, found.sampling.guidance_scale) == (3, 2.0)
    assert found.can_guide and found.can_scale and not found.takes_text and found.notes == ()
    assert found.class_choices[:2] == [(ALL, ""), ("ash", "ash")] and found.suggested_count == 8
    base = session.open(place.base)
    assert (base.parameters, base.can_scale) == (0, False)
    assert not session.open(place.away).can_guide
    both = session.open(place.one, place.three)
    assert both.parameters == found.parameters + open_source(place.three).adapter.num_parameters
    assert both.name == "one + three"


def test_another_base_than_it_was_trained_on_is_told_each_time(place):
    session = Session(CPU, base=place.base)
    for _ in range(2):
        (note,) = session.open(place.away).notes
        assert "trained on" in note and session.open(place.one).notes == ()


def test_a_peer_is_drawn_and_cannot_be_scaled_or_mixed(place, tmp_path):
    run = str(tmp_path / "norms")
    values = {"method": "norms", "train": {"steps": 8, "learning_rate": 0.3, "warmup_steps": 0}}
    train(run_config(place.folder, output=run, **values), "cpu", quiet=True)
    session = Session(CPU)
    assert not session.open(run).can_scale
    found = drawn(session, run)
    assert apart(found.base, found.adapted) > 0.5
    assert np.array_equal(found.base, drawn(Session(CPU), place.one).base)
    with pytest.raises(SuperLoRAError, match="cannot be scaled"):
        drawn(session, run, scale=0.5)
    for pair in ((run, place.one), (place.one, run)):
        with pytest.raises(AdapterError, match=r"norms.*only SuperLoRA adapters can be mixed"):
            session.open(*pair)


# ---------------------------------------------------------------- what is refused


def test_bad_paths_say_what_is_wrong(session, place, tmp_path):
    with pytest.raises(ConfigError, match="nothing is chosen"):
        session.open("", "  ")
    with pytest.raises(BaseModelError, match="gone"):
        session.open("/gone/folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaseModelError, match="is no base"):
        session.open(str(tmp_path / "empty"))
    broken = tmp_path / "broken"
    shutil.copytree(f"{place.one}/adapter", broken)
    (broken / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(AdapterError):
        session.open(str(broken))
    unfinished = tmp_path / "unfinished"
    shutil.copytree(place.one, unfinished)
    shutil.rmtree(unfinished / "adapter")
    with pytest.raises(RunError, match="not finished"):
        session.open(str(unfinished))
    assert drawn(session, place.one).adapted is not None  # and nothing is left behind


def test_what_cannot_be_mixed_says_why(session, place):
    with pytest.raises(ConfigError, match=r"different bases.*base.*other-base"):
        session.open(place.one, place.away)
    with pytest.raises(AdapterError, match="no adapter to mix in"):
        session.open(place.one, place.base)


def test_settings_that_do_not_fit_are_refused(session, place):
    with pytest.raises(ConfigError, match="'elm' is unknown"):
        drawn(session, place.one, classes="elm")
    with pytest.raises(ConfigError, match="takes no prompts"):
        drawn(session, place.one, prompts=("a house",))
    with pytest.raises(ConfigError, match="steps"):
        drawn(session, place.one, sampling={"steps": 0})
    with pytest.raises(BaseModelError, match="null class"):
        drawn(session, place.away, sampling={"guidance_scale": 3.0})


def test_a_start_with_another_base_puts_adapters_on_it(place):
    assert look_up(place.one, "synthdigits-16").base.path == "synthdigits-16"
    assert look_up(place.base, "synthdigits-16").base.path == place.base
