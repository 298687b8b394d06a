"""The adapter folder: what is in it, how it is written, what loading checks."""

from __future__ import annotations

import copy
import json
import os
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from superlora_diffusion import SuperLoRAConfig, attach, load_adapter
from superlora_diffusion.errors import AdapterError, SuperLoRAError

from .folder import CONFIG, WEIGHTS, attached, edit, places, refuses, same_deltas, saved
from .networks import (
    NETWORKS,
    SETTINGS,
    distance,
    fields_for,
    fill,
    inputs_for,
    output,
    tree,
)

everywhere = pytest.mark.parametrize("network", NETWORKS)
every_setting = pytest.mark.parametrize("setting", SETTINGS)


@everywhere
@every_setting
def test_a_round_trip_in_two_plain_files(network, setting, tmp_path):
    base, model, adapter = saved(tmp_path, network, setting)
    adapter.set_scale(0.5)
    adapter.save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [CONFIG, WEIGHTS]
    numbers = {name: parameter.detach() for name, parameter in adapter.named_parameters()}
    stored = load_file(tmp_path / WEIGHTS)
    assert stored.keys() == numbers.keys(), "exactly the trained numbers"
    assert all(torch.equal(stored[name], tensor) for name, tensor in numbers.items())
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}

    torch.manual_seed(77)
    fresh = copy.deepcopy(base)
    loaded = load_adapter(fresh, tmp_path)
    inputs = inputs_for(network)
    assert same_deltas(loaded, adapter)
    assert torch.equal(output(fresh, inputs), output(model, inputs))
    assert not torch.equal(output(fresh, inputs), output(base, inputs))
    assert {id(p) for p in fresh.parameters() if p.requires_grad} == {id(p) for p in loaded.parameters()}
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / WEIGHTS).read_bytes()
    again = load_adapter(copy.deepcopy(base), str(tmp_path / "again"))
    assert same_deltas(again, adapter), "the scale is neither lost nor applied twice"


def test_the_config_says_what_is_needed(tmp_path):
    base, _model, adapter = saved(tmp_path, setting="tanh")
    content = json.loads((tmp_path / CONFIG).read_text())
    text = json.dumps(content)
    for word in ("format_version", "version", "scale", "targets", "checksum", "fingerprint"):
        assert list(places(content, word)), word
    for name, rows, columns in adapter.targets:
        assert json.dumps(name) in text
        shape = list(base.get_submodule(name).weight.shape)
        assert str(shape) in text or str([rows, columns]) in text or f"{rows}, {columns}" in text
    assert "NaN" not in text and "Infinity" not in text


@everywhere
def test_another_name_and_beside_another_adapter(network, tmp_path):
    base, model, adapter = saved(tmp_path, network)
    fresh = copy.deepcopy(base)
    first = load_adapter(fresh, tmp_path, name="first")
    second = load_adapter(fresh, tmp_path, name="second")
    second.set_scale(-1.0)
    assert distance(output(fresh, inputs_for(network)), output(base, inputs_for(network))) < 1e-5
    second.unload()
    assert torch.equal(output(fresh, inputs_for(network)), output(model, inputs_for(network)))
    assert same_deltas(first, adapter)


def test_an_adapter_scaled_to_nothing_is_refused_or_comes_back(tmp_path):
    """A config's scale may not be 0, a run-time scale may: what was saved must load."""
    base, _, adapter = attached()
    adapter.set_scale(0.0)
    try:
        adapter.save_pretrained(tmp_path)
    except SuperLoRAError:
        return
    loaded = load_adapter(copy.deepcopy(base), tmp_path)
    assert not any(delta.any() for delta in loaded.deltas().values())
    assert loaded.num_parameters == adapter.num_parameters


# ---------------------------------------------------------------- writing


class Disc:
    """os.replace and os.rename, watched, and failing from a given call on."""

    def __init__(self, monkeypatch, fail_at=None):
        self.written, self.fail_at = [], fail_at
        for call in ("replace", "rename"):
            monkeypatch.setattr(os, call, self._wrap(getattr(os, call)))

    def _wrap(self, real):
        def call(source, destination, **options):
            if self.fail_at is not None and len(self.written) >= self.fail_at:
                raise OSError(28, "No space left on device")
            self.written.append(os.path.basename(destination))
            return real(source, destination, **options)

        return call


@pytest.mark.parametrize("store_projection", [False, True])
def test_files_are_renamed_into_place_and_the_config_is_last(tmp_path, monkeypatch, store_projection):
    _, _, adapter = attached(setting="fastfood")
    disc = Disc(monkeypatch)
    adapter.save_pretrained(tmp_path / "new" / "folder", store_projection=store_projection)
    assert disc.written[-1] == CONFIG
    assert WEIGHTS in disc.written
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == sorted(disc.written), "nothing else is left"
    assert len(disc.written) == 3 if store_projection else 2
    assert all(name.endswith((".safetensors", ".json")) for name in disc.written)


def test_a_failing_first_write_leaves_the_old_adapter_intact(tmp_path, monkeypatch):
    base, _model, adapter = saved(tmp_path)
    old = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    deltas = {name: delta.detach().clone() for name, delta in adapter.deltas().items()}
    fill(adapter, seed=5)
    with monkeypatch.context() as patch:
        Disc(patch, fail_at=0)
        with pytest.raises((OSError, SuperLoRAError)):
            adapter.save_pretrained(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == old
    loaded = load_adapter(copy.deepcopy(base), tmp_path)
    assert all(torch.equal(delta, deltas[name]) for name, delta in loaded.deltas().items())


def test_a_save_that_broke_off_before_the_config_does_not_load(tmp_path, monkeypatch):
    base, _model, adapter = attached()
    with monkeypatch.context() as patch:
        Disc(patch, fail_at=1)
        with pytest.raises((OSError, SuperLoRAError)):
            adapter.save_pretrained(tmp_path)
    assert CONFIG not in os.listdir(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name != WEIGHTS], "no temporary file is left"
    with pytest.raises(SuperLoRAError, match=CONFIG.replace(".", r"\.")):
        load_adapter(copy.deepcopy(base), tmp_path)


def test_saving_while_merged_or_beside_others_stores_the_bases_fingerprint(tmp_path):
    base, model, adapter = attached()
    other = attach(model, SuperLoRAConfig(**fields_for("mixed", "lora")), name="other")
    fill(other)
    other.merge()
    adapter.merge()
    adapter.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_adapter(copy.deepcopy(base), tmp_path)
    assert same_deltas(loaded, adapter)


# ---------------------------------------------------------------- loading


SPEC = [("a.to_q", (5, 3)), ("b.to_v", (4, 7)), ("c.to_q", (2, 3, 3, 1)), ("d.to_v", (5, 3))]


@pytest.mark.parametrize(
    "fields", [dict(groups=3, rank=2), dict(groups="shape", order=1), dict(variant="lora")], ids=str
)
def test_modules_in_another_order_load_by_name(fields, tmp_path):
    model = tree(SPEC)
    adapter = attach(model, SuperLoRAConfig(**fields))
    fill(adapter)
    adapter.save_pretrained(tmp_path)
    turned = tree(SPEC[::-1])
    turned.load_state_dict(model.state_dict())
    loaded = load_adapter(turned, tmp_path)
    mine, theirs = adapter.deltas(), loaded.deltas()
    assert mine.keys() == theirs.keys()
    for name, delta in mine.items():
        assert torch.equal(theirs[name], delta) and delta.abs().sum() > 0, name
    assert [tuple(target) for target in loaded.targets] == [tuple(target) for target in adapter.targets]


def test_the_order_in_the_file_does_not_matter(tmp_path):
    base, _model, adapter = saved(tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    save_file(dict(reversed(stored.items())), tmp_path / WEIGHTS)
    assert same_deltas(load_adapter(copy.deepcopy(base), tmp_path), adapter)


def test_more_matching_modules_than_stored_do_no_harm(tmp_path):
    """The stored names decide, not what the patterns match today."""
    model = tree(SPEC)
    adapter = attach(model, SuperLoRAConfig(groups=2, rank=2))
    fill(adapter)
    adapter.save_pretrained(tmp_path)
    bigger = tree([("0.to_q", (3, 3)), *SPEC])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_adapter(bigger, tmp_path)
    assert same_deltas(loaded, adapter)


def test_a_wrong_shape_names_both(tmp_path):
    saved_model = tree(SPEC)
    attach(saved_model, SuperLoRAConfig(groups=2, rank=2)).save_pretrained(tmp_path)
    message = refuses(tree([*SPEC[:1], ("b.to_v", (4, 8)), *SPEC[2:]]), tmp_path)
    for word in ("b.to_v", "7", "8"):
        assert word in message


def test_a_kernel_of_the_same_size_but_another_shape_is_refused(tmp_path):
    """(3, 1) and (1, 3) kernels are both 9 columns; the same numbers would mean another filter."""
    attach(tree(SPEC), SuperLoRAConfig(groups=2, rank=2)).save_pretrained(tmp_path)
    message = refuses(tree([*SPEC[:2], ("c.to_q", (2, 3, 1, 3)), SPEC[3]]), tmp_path)
    assert "c.to_q" in message


def test_a_missing_target_is_named(tmp_path):
    attach(tree(SPEC), SuperLoRAConfig(groups=2, rank=2)).save_pretrained(tmp_path)
    assert "c.to_q" in refuses(tree([*SPEC[:2], SPEC[3]]), tmp_path)


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_a_broken_weights_file_names_the_tensor(fault, tmp_path):
    base, _, _ = saved(tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    name = sorted(stored)[0]
    if fault == "missing":
        del stored[name]
    elif fault == "extra":
        stored[name := "g99_vector"] = torch.zeros(3)
    else:
        stored[name] = torch.zeros(stored[name].shape[0] + 1, *stored[name].shape[1:])
    save_file(stored, tmp_path / WEIGHTS)
    assert name in refuses(base, tmp_path)


@pytest.mark.parametrize("gone", [WEIGHTS, CONFIG])
def test_a_missing_file_is_named(gone, tmp_path):
    base, _, _ = saved(tmp_path)
    (tmp_path / gone).unlink()
    assert gone in refuses(base, tmp_path)


@pytest.mark.parametrize("broken", [WEIGHTS, CONFIG])
def test_a_garbled_file_is_named(broken, tmp_path):
    base, _, _ = saved(tmp_path)
    (tmp_path / broken).write_bytes((tmp_path / broken).read_bytes()[:-40])
    assert broken in refuses(base, tmp_path)


@pytest.mark.parametrize("version", [10_000, -1])
def test_an_unknown_format_version_is_refused(version, tmp_path):
    base, _, _ = saved(tmp_path)
    edit(tmp_path, "format_version", lambda _: version)
    assert str(version) in refuses(base, tmp_path)


def test_no_pickle_is_ever_opened(tmp_path):
    base, _, _ = saved(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(AdapterError):
        load_adapter(base, tmp_path)
