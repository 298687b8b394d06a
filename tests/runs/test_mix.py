"""Several adapters on one base: which base, which names, and what their mix draws."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from tiny import run_config, write_base, write_data

from superlora_diffusion import AdapterBank, load_adapter
from superlora_diffusion.errors import AdapterError, ConfigError, RunError, SamplingError
from superlora_diffusion.runs.draw import draw, prepare_drawing
from superlora_diffusion.runs.mix import open_mixed, parse_member
from superlora_diffusion.runs.source import base_digest, open_source
from superlora_diffusion.sampling.request import SampleRequest
from superlora_diffusion.training.loop import train

CPU = torch.device("cpu")
STRONG = {"steps": 20, "batch_size": 8, "learning_rate": 0.3, "lr_schedule": "constant"}


def trained(folder, name, **sections):
    values = {"train": STRONG, "sampling": {"steps": 3, "guidance_scale": 2.0}, **sections}
    train(run_config(folder, output=str(folder / name), **values), "cpu", quiet=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny base and three runs on it: two of one kind, the third with other settings and targets."""
    folder = tmp_path_factory.mktemp("mixing")
    write_base(folder / "base")
    write_data(folder / "data.npz")
    trained(folder, "one")
    trained(folder, "two", seed=5, train={**STRONG, "learning_rate": 0.2})
    group = {"variant": "lorta", "rank": 3, "targets": ["to_q", "to_k"]}
    trained(folder, "three", adapter=group, sampling={"steps": 2})
    return folder


def images(place, path=None, adapters=(), base=None, out=None, **request):
    """Images of an npz, and what samples.json says."""
    asked = {"sampling": {"steps": 3, "guidance_scale": 2.0}, "count": 6, "format": "npz", **request}
    path = None if path is None else str(place / path)
    adapters = [str(place / text) for text in adapters]
    drawing = prepare_drawing(path, base, SampleRequest(**asked), CPU, out or place / "drawn", adapters)
    written = draw(drawing)
    with np.load((out or place / "drawn") / "samples.npz") as stored:
        return stored["images"].astype(int), written


def apart(one, two) -> float:
    return np.abs(one[0] - two[0]).mean()


# ---------------------------------------------------------------- what it draws


def test_a_mix_differs_from_each_alone_and_from_the_base(place):
    alone = [images(place, name) for name in ("base", "one", "two", "three")]
    mixed = images(place, adapters=["one=0.7", "three=0.3"])
    assert all(apart(mixed, other) > 1 for other in alone)
    assert apart(images(place, adapters=["three=0.3", "one=0.7"]), mixed) < 0.1
    assert apart(images(place, "base", ["one=0.7", "three=0.3"]), mixed) == 0
    assert apart(images(place, "one", ["three=0.3"]), images(place, adapters=["one", "three=0.3"])) == 0
    assert apart(images(place, "one/adapter", ["two=0"]), alone[1]) == 0


def test_weights_one_and_nothing_are_the_single_one(place):
    single = images(place, "two")
    assert apart(images(place, adapters=["two"]), single) == 0
    assert apart(images(place, adapters=["one=0", "two=1", "three=0.0"]), single) == 0
    assert apart(images(place, "base", ["two=1e0"]), single) == 0
    assert apart(images(place, adapters=["one=0", "two=0"]), images(place, "base")) == 0
    assert apart(images(place, adapters=["two=0.5"]), images(place, "two", scale=0.5)) == 0


def test_the_scale_is_of_all(place):
    half = images(place, adapters=["one=0.5", "three=-0.25"])
    scaled = images(place, adapters=["one", "three=-0.5"], scale=0.5)
    assert apart(half, scaled) == 0 and scaled[1]["scale"] == 0.5
    assert apart(images(place, adapters=["one", "three"], scale=0.0), images(place, "base")) == 0


def test_merging_several_changes_only_the_rounding_and_is_undone_exactly(place, tmp_path):
    adapters = ["one=0.5", "two=0.5", "three"]
    plain, merged = images(place, adapters=adapters), images(place, adapters=adapters, merge=True)
    assert np.abs(plain[0] - merged[0]).max() <= 1 and merged[1]["merged"]
    source = open_mixed(None, None, [str(place / text) for text in adapters])
    before = base_digest(source.base)
    deltas = source.adapter.deltas()
    weights = {name: source.base.network.get_submodule(name).weight.clone() for name in deltas}
    source.adapter.merge()
    assert base_digest(source.base) != before
    for name, weight in weights.items():
        now = source.base.network.get_submodule(name).weight
        torch.testing.assert_close(now, weight + deltas[name], rtol=1e-5, atol=1e-6)
    source.adapter.unmerge()
    assert base_digest(source.base) == before


def test_the_mix_is_the_weighted_sum_of_the_stored_updates(place):
    source = open_mixed(str(place / "one"), None, [str(place / "three=-2")])
    assert isinstance(source.adapter, AdapterBank)
    plain = copy.deepcopy(open_source(str(place / "base")).base.network)
    total: dict = {}
    for name, weight in (("one", 1.0), ("three", -2.0)):
        loaded = load_adapter(plain, place / name / "adapter", name=name)
        for target, delta in loaded.deltas().items():
            total[target] = total.get(target, 0) + weight * delta
    found = source.adapter.deltas()
    assert found.keys() == total.keys()
    for target, delta in found.items():
        torch.testing.assert_close(delta, total[target], rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- what is told


def test_the_record_names_all_adapters_and_weights(place, tmp_path):
    _, written = images(place, "base", ["one=0.7", "three"], out=tmp_path)
    assert json.loads((tmp_path / "samples.json").read_text()) == written
    one, three = written["adapters"]
    assert (one["name"], one["source"], one["weight"]) == ("one", str(place / "one"), 0.7)
    assert (three["name"], three["weight"]) == ("three", 1.0)
    assert one["digest"] == open_source(str(place / "one")).weights != three["digest"]
    assert written["parameters"] == one["parameters"] + three["parameters"] and one["parameters"] == 512
    assert written["source"] == "base+one+three" and written["scale"] == 1.0
    assert "adapters" not in images(place, "one", out=tmp_path)[1]


def test_what_it_is_called_and_where_it_goes(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = SampleRequest(count=1, sampling={"steps": 1})
    drawing = prepare_drawing(str(place / "one"), None, request, CPU, None, [str(place / "two")])
    assert str(drawing.folder) == "samples-one+two", "not among the run's own samples"
    many = [str(place / name) for name in ("one", "two", "three", "one", "two")]
    source = open_mixed(None, None, many)
    assert source.name == "one+two+three+2-more"
    assert source.adapter.names == ("one", "two", "three", "one-2", "two-2")


def test_which_weights_it_has_is_told_by_all_of_them(place):
    def weights(*adapters):
        return open_mixed(None, None, [str(place / text) for text in adapters]).weights

    assert weights("one") == open_source(str(place / "one")).weights
    several = {weights("one=0.5"), weights("one", "two"), weights("one", "two=0.5"), weights("two", "one")}
    assert len(several | {weights("one"), weights("two")}) == 6
    assert weights("one", "two=0.5") == weights("one=1.0", "two=.5") and len(weights("one", "two")) == 12


def test_adapter_folders_of_the_same_name(place):
    source = open_mixed(None, None, [str(place / f"{name}/adapter=0.5") for name in ("one", "three", "one")])
    assert source.adapter.active == {"adapter": 0.5, "adapter-2": 0.5, "adapter-3": 0.5}
    assert [one.source for one in source.mixed] == [
        str(place / f"{name}/adapter") for name in ("one", "three", "one")
    ]


def test_the_source_or_the_first_adapter_says_how_to_sample(place):
    def steps(path, *adapters):
        path = None if path is None else str(place / path)
        request, adapters = SampleRequest(), [str(place / text) for text in adapters]
        return prepare_drawing(path, None, request, CPU, place / "drawn", adapters).settings.steps

    assert steps(None, "three", "one") == 2 and steps(None, "one", "three") == 3
    assert steps("three", "one") == 2 and steps("base", "three") == 10


# ---------------------------------------------------------------- which base


def test_the_common_base_by_whatever_path(place, tmp_path):
    (tmp_path / "linked").symlink_to(place / "base")
    moved = tmp_path / "moved"
    shutil.copytree(place / "one/adapter", moved)
    file = moved / "adapter_config.json"
    described = json.loads(file.read_text())
    described["base"]["id"] = str(tmp_path / "linked")
    file.write_text(json.dumps(described))
    assert open_mixed(None, None, [str(place / "two"), str(moved)]).base.name == str(place / "base")
    described["base"]["id"] = None
    file.write_text(json.dumps(described))
    assert open_mixed(None, None, [str(moved), str(place / "two")]).base.name == str(place / "base")
    with pytest.raises(RunError, match="none of the adapters says which base"):
        open_mixed(None, None, [str(moved)])
    assert open_mixed(None, str(place / "base"), [str(moved)]).base.name == str(place / "base")


def test_adapters_of_different_bases_need_to_be_told(place, tmp_path):
    write_base(tmp_path / "other")
    other = tmp_path / "fourth"
    shutil.copytree(place / "one/adapter", other)
    file = other / "adapter_config.json"
    described = json.loads(file.read_text())
    described["base"]["id"] = str(tmp_path / "other")
    file.write_text(json.dumps(described))
    adapters = [str(place / "one"), str(other)]
    with pytest.raises(ConfigError, match=r"different bases; give the one to use as SOURCE") as caught:
        open_mixed(None, None, adapters)
    assert str(place / "base") in str(caught.value) and str(tmp_path / "other") in str(caught.value)
    assert open_mixed(str(tmp_path / "other"), None, adapters).base.name == str(tmp_path / "other")
    assert open_mixed(None, str(tmp_path / "other"), adapters).base.name == str(tmp_path / "other")
    assert open_mixed(adapters[0], None, adapters[1:]).base.name == str(place / "base")


def test_a_base_that_does_not_fit_and_one_too_many(place, tmp_path):
    write_base(tmp_path / "wide", block_out_channels=(8, 32))
    with pytest.raises(AdapterError, match="Is this the right base"):
        open_mixed(str(tmp_path / "wide"), None, [str(place / "one")])
    with pytest.raises(ConfigError, match="goes with an adapter"):
        open_mixed(str(place / "base"), str(place / "base"), [str(place / "one")])


# ---------------------------------------------------------------- what is refused


def test_members_and_their_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rank=4").mkdir()
    assert parse_member("runs/demo") == ("runs/demo", 1.0)
    assert parse_member("runs/demo=-0.5") == ("runs/demo", -0.5)
    assert parse_member("rank=4") == ("rank=4", 1.0), "a folder that is there"
    assert parse_member("rank=4=0.5") == ("rank=4", 0.5)
    for text in ("runs/demo=", "runs/demo=half", "runs/demo=nan", "runs/demo=inf", "=0.5"):
        with pytest.raises(ConfigError, match="ADAPTER=WEIGHT"):
            parse_member(text)


def test_what_holds_no_adapter(place, tmp_path):
    whole = run_config(place, output=str(tmp_path / "full"), method="full", train={"steps": 1})
    train(whole, "cpu", quiet=True)
    for path in (place / "base", tmp_path / "full", place):
        with pytest.raises(AdapterError, match=f"--adapter {path} holds no adapter"):
            open_mixed(None, None, [str(path)])
    assert open_mixed(str(tmp_path / "full"), None, [str(place / "one=0")]).config.method == "full"
    with pytest.raises(ConfigError, match="nothing to draw from"):
        open_mixed(None)


def test_an_unfinished_run(place, tmp_path):
    shutil.copytree(place / "one", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapter")
    with pytest.raises(RunError, match="not finished"):
        open_mixed(None, None, [str(tmp_path / "run")])


def test_another_librarys_adapter_cannot_be_mixed(place, tmp_path):
    peer = str(tmp_path / "peer")
    method = {"method": "peft", "peft": {"tuner": "lora", "options": {"r": 2}}, "train": {"steps": 1}}
    train(run_config(place, output=peer, **method), "cpu", quiet=True)
    for path, adapters in (
        (None, [peer]),
        (peer, [str(place / "one")]),
        (str(place / "one"), [f"{peer}=0.5"]),
    ):
        with pytest.raises(AdapterError, match=r"method 'peft', and only SuperLoRA adapters can be mixed"):
            open_mixed(path, None, adapters)


def test_a_base_alone_has_still_nothing_to_scale(place):
    with pytest.raises(SamplingError, match="has no adapter"):
        images(place, "base", scale=0.5)
