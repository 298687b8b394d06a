"""A peer is a run like any other: counted, trained, sampled, scored, through the verbs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import make_base, run_config, run_values, write_base, write_data
from typed import call

from superlora_diffusion.adapters.storage import load_adapter
from superlora_diffusion.errors import AdapterError, ConfigError
from superlora_diffusion.models.storage import save_base
from superlora_diffusion.peers import load_peer
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.runs.loading import load_config
from superlora_diffusion.runs.source import open_source
from superlora_diffusion.training.loop import train
from superlora_diffusion.training.plan import count_trained, describe_plan

METHODS = {
    "peft": {"method": "peft", "peft": {"tuner": "vera", "options": {"r": 8}}},
    "lycoris": {"method": "lycoris", "lycoris": {"algo": "loha", "options": {"lora_dim": 2}}},
    "bitfit": {"method": "bitfit"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny base, data, and a config and a finished run for each method."""
    folder = tmp_path_factory.mktemp("peers")
    write_base(folder / "base")
    write_data(folder / "data.npz")
    for name, sections in METHODS.items():
        values = run_values(folder, output=str(folder / name), **sections)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
        result = call("train", "--config", folder / f"{name}.yaml", "--device", "cpu")
        assert result.exit_code == 0 and result.stdout.startswith("Finished: the adapter is in")
        (folder / f"{name}.txt").write_text(result.stderr)
    return folder


def values_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())


@pytest.mark.parametrize("method", METHODS)
def test_what_trains_is_said_counted_and_stored(method, place):
    config, base = RunConfig(**yaml.safe_load((place / f"{method}.yaml").read_text())), make_base()
    count = count_trained(config, base)
    assert f"Training {count:,} numbers (" in (place / f"{method}.txt").read_text()
    stored = load_file(place / method / "adapter" / "adapter_model.safetensors")
    assert sum(value.numel() for value in stored.values()) == count
    described, plan = values_of(place / method / "adapter"), describe_plan(config)
    assert (described["kind"], described["method"], described["parameters"]) == ("peer", method, count)
    assert described["trains"] == plan["trains"] and plan["parameters"] == count
    assert described["training"]["steps"] == 6 and described["base"]["id"] == str(place / "base")
    assert ("peft" in described["libraries"]) == (method == "peft")


@pytest.mark.parametrize(
    "sections", [*METHODS.values(), {"method": "full"}, {"method": "difffit"}, {}], ids=str
)
def test_counting_leaves_the_base_untouched(sections, tmp_path):
    base = make_base()
    before = {name: value.clone() for name, value in base.network.state_dict().items()}
    flags = [p.requires_grad for p in base.network.parameters()]
    state = torch.random.get_rng_state()
    assert count_trained(run_config(tmp_path, **sections), base) > 0
    after = base.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    assert flags == [p.requires_grad for p in base.network.parameters()]
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("method", METHODS)
def test_sample_draws_from_the_run_and_from_its_adapter_folder_alike(method, place, tmp_path):
    images = {}
    for name, source in {"run": method, "adapter": f"{method}/adapter", "base": "base"}.items():
        words = (
            "--count",
            4,
            "--steps",
            2,
            "--guidance-scale",
            1,
            "--format",
            "npz",
            "--device",
            "cpu",
            "-q",
        )
        result = call("sample", place / source, "--out", tmp_path / name, *words)
        assert (result.exit_code, result.stdout) == (0, ""), result.stderr
        images[name] = np.load(tmp_path / name / "samples.npz")["images"].astype(int)
    assert np.array_equal(images["run"], images["adapter"])
    assert np.abs(images["run"] - images["base"]).max() > 0
    written = json.loads((tmp_path / "run" / "samples.json").read_text())
    assert written["parameters"] == values_of(place / method / "adapter")["parameters"]


@pytest.mark.parametrize("method", METHODS)
def test_scale_and_merge_are_refused(method, place):
    for words in (["--scale", "0.5"], ["--merge"]):
        result = call("sample", place / method, *words)
        assert result.exit_code == 1 and f"method {method!r}" in result.stderr
        assert result.stdout == "" and "Traceback" not in result.stderr


@pytest.mark.parametrize("method", METHODS)
def test_eval_is_scores_base_and_peer(method, place):
    result = call("eval-is", place / method, "--json", "-q", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    base, peer = json.loads(result.stdout)
    assert (base["name"], base["parameters"]) == ("base", 0)
    assert (peer["name"], peer["parameters"]) == (method, values_of(place / method / "adapter")["parameters"])
    # The base is the same measurement under each method: known by its weights, whatever a library renames.
    assert base["settings"]["weights"] == digest_of_base(place)
    assert peer["settings"]["weights"] not in ("", base["settings"]["weights"])


def digest_of_base(place):
    from superlora_diffusion.runs.source import base_digest

    return base_digest(open_source(str(place / "base")).base)


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_is_finished(method, place):
    result = call("train", "--config", place / f"{method}.yaml", "--device", "cpu")
    assert result.stdout.startswith("Already finished: the adapter is in")


def test_a_dry_run_says_what_trains(place):
    said = call("train", "--config", place / "peft.yaml", "--dry-run").stdout
    assert "numbers train, at learning rate 0.02: PEFT vera on 8 layers" in said and "mid_block" in said
    plan = json.loads(call("train", "--config", place / "bitfit.yaml", "--dry-run", "--json").stdout)
    assert plan["trains"].startswith("all ") and plan["targets"] == [] and plan["learning_rate"] == 0.01


def test_mixed_precision_trains_the_tuner_whose_gradients_pass_a_hook(place, tmp_path):
    sections = {"method": "peft", "peft": {"tuner": "osf"}, "train": {"mixed_precision": "bf16", "steps": 1}}
    config = run_config(place, **{**sections, "output": str(tmp_path / "run")})
    assert train(config, "cpu", quiet=True)


def test_a_peer_on_another_base_warns_and_keeps_its_numbers(place, tmp_path):
    other = make_base()
    with torch.no_grad():
        for parameter in other.network.parameters():
            parameter.add_(torch.randn_like(parameter))
    save_base(other, tmp_path / "other")
    with pytest.warns(UserWarning, match="was trained on another base"):
        source = open_source(str(place / "bitfit"), str(tmp_path / "other"))
    stored = load_file(place / "bitfit" / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(value, source.adapter.parameters[name]) for name, value in stored.items())


def test_a_peer_is_no_adapter_of_ours_and_a_broken_one_is_named(place, tmp_path):
    with pytest.raises(AdapterError, match="method 'bitfit'; open it with load_peer"):
        load_adapter(make_base().network, place / "bitfit" / "adapter")
    other = make_base(block_out_channels=(8, 24)).network
    with pytest.raises(
        AdapterError, match=r"adapter_model.safetensors does not fit: .* is \(16,\), expected \(24,\)"
    ):
        load_peer(other, place / "bitfit" / "adapter")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((place / "peft" / "adapter" / name).read_bytes())
    with pytest.raises(AdapterError, match=r"fixed.safetensors cannot be read"):
        load_peer(make_base().network, tmp_path)


def test_without_the_library_the_extra_is_named_and_the_others_work(place, monkeypatch):
    import sys

    for name in ("peft", "lycoris", "lycoris.wrapper"):
        monkeypatch.setitem(sys.modules, name, None)
    for method in ("peft", "lycoris"):
        with pytest.raises(ConfigError, match=rf"method: got '{method}'.*superlora-diffusion\[peers\]"):
            count_trained(run_config(place, method=method), make_base())
    assert count_trained(run_config(place, method="bitfit"), make_base()) > 0


def test_a_random_base_is_no_base_for_a_peer(place):
    with pytest.raises(ConfigError, match=r"base.build: method 'bitfit' on a randomly built base"):
        run_config(place, method="bitfit", base={"path": None, "build": {"unet": {}}})


def test_another_tuner_starts_its_options_anew(place):
    again = load_config(str(place / "peft.yaml"), ["peft.options.n_frequency=9", "peft.tuner=fourierft"])
    assert again.peft.tuner == "fourierft" and again.peft.options == {"n_frequency": 9}
    assert load_config(str(place / "peft.yaml"), ["peft.options.r=2"]).peft.options == {"r": 2}


def test_wrong_options_reach_the_user_as_a_message(place):
    result = call("train", "--config", place / "peft.yaml", "peft.options.rr=3", f"output={place}/none")
    assert result.exit_code == 2 and "peft.options.rr: unknown name 'rr'. Did you mean 'r'?" in result.stderr
    assert not (place / "none" / "config.yaml").exists()
    assert "Did you mean" in call("configs", "validate", place / "peft.yaml", "peft.options.rr=3").stderr
