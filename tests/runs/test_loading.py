"""From a name and overrides to a checked config: every packaged file, every way to get it wrong."""

from __future__ import annotations

import pytest
from tiny import run_config

from superlora_diffusion.errors import ConfigError
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.runs.loading import (
    as_yaml_list,
    configs_folder,
    differences,
    find_config,
    load_config,
    packaged_configs,
    packaged_sweeps,
    parse_override,
    parse_yaml,
    to_yaml,
)


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_packaged_config_is_valid_and_comes_back_from_its_own_yaml():
    files = sorted(configs_folder().rglob("*.y*ml"))
    assert len(packaged_configs()) >= 2 and packaged_sweeps()
    assert len(packaged_configs()) + len(packaged_sweeps()) == len(files)
    for name, path in packaged_configs().items():
        config = load_config(name)
        assert config == load_config(str(path))
        assert RunConfig(**parse_yaml(to_yaml(config), name)) == config
        assert path.read_text(encoding="utf-8").startswith("# "), f"{name} does not say what it is for"


def test_overrides_reach_every_depth_and_are_yaml():
    config = load_config(
        "demo",
        [
            "train.steps=7",
            "train.learning_rate=1e-3",
            "train.betas=[0.8, 0.9]",
            "data={name: digits, class_map: {0: 1}}",
            "preview.every=null",
            "train.mixed_precision=no",
            "output=a=b",
        ],
    )
    assert config.train.steps == 7 and config.train.learning_rate == 0.001
    assert config.train.betas == (0.8, 0.9) and config.data.class_map == {0: 1}
    assert config.preview.every is None and config.output == "a=b" and config.train.mixed_precision == "no"
    assert config.train.batch_size == load_config("demo").train.batch_size


def test_another_variant_starts_the_adapter_anew_wherever_it_stands(tmp_path):
    path = write(
        tmp_path,
        "output: x\nadapter: {variant: lorta, order: 4, rank: 7, seed: 3, targets: [to_k], exclude: [a]}\n",
    )
    for overrides in (
        ["adapter.variant=lora", "adapter.scale=2"],
        ["adapter.scale=2", "adapter.variant=lora"],
    ):
        adapter = load_config(path, overrides).adapter
        assert (adapter.variant, adapter.order, adapter.rank, adapter.fold) == ("lora", 2, 8, "none")
        assert (adapter.seed, adapter.targets, adapter.scale) == (3, ("to_k",), 2)
        assert adapter.exclude == ("a",)


@pytest.mark.parametrize(
    "words", [("to_q", "to_out.0", "attention+mlp"), ("*.to_[kv]", "^a", "0", "null", "a, b", "x: y")]
)
def test_words_as_a_yaml_list_come_back(words):
    text = as_yaml_list(words)
    assert parse_override(f"x={text}")[1] == list(words)
    assert '"' not in as_yaml_list(["to_q", "to_out.0", "^mid_block.**", "attention+mlp"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("1_000", 1000),
        ("7", 7),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("-", "-"),
        ("~", None),
    ],
)
def test_scalars_mean_what_people_mean(text, value):
    parsed = parse_yaml(f"key: {text}" if text != "-" else 'key: "-"', "here")["key"]
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {steps: 1, steps: 2}", "given twice: steps"),
        ("output: a\noutput: b", "given twice: output"),
        ("a: [", "not valid YAML"),
        ("- a", "holds a list; a mapping"),
        ("", "holds a NoneType; a mapping"),
        ("1: 2", "a mapping of names"),
    ],
)
def test_files_that_are_no_config_are_named(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(path)
    assert path in str(caught.value) and caught.value.exit_code == 2


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"mine.yaml cannot be read"):
        load_config(str(path))


@pytest.mark.parametrize("override", ["train.steps", "=3", "train..steps=3", ".=1", "train.=2"])
def test_a_malformed_override_is_quoted(override):
    with pytest.raises(ConfigError, match=r"not of the form key.path=value"):
        load_config("demo", [override])


def test_an_override_that_is_no_yaml_is_quoted():
    with pytest.raises(ConfigError, match=r"'train.betas=\[1': the value is not valid YAML"):
        load_config("demo", ["train.betas=[1"])


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"'dem' is neither.*Did you mean 'demo'.*Packaged: .*demo"):
        find_config("dem")


def test_all_faults_are_told_at_once_each_with_its_path():
    overrides = [
        "train.step=3",
        "train.batch_size=0",
        "train.learning_rate=.inf",
        "train.betas=[0.9, 1.5]",
        "trian.x=1",
        "sampling.sampler=heun",
        "data.name=mnits",
        "adapter.core=square",
        "evaluation.images=one",
    ]
    with pytest.raises(ConfigError) as caught:
        load_config("demo", overrides)
    faults = dict(caught.value.faults)
    assert set(faults) == {
        "train.step",
        "train.batch_size",
        "train.learning_rate",
        "train.betas.1",
        "trian",
        "sampling.sampler",
        "data.name",
        "adapter.core",
        "evaluation.images",
    }
    assert "Did you mean 'steps'?" in faults["train.step"] and "batch_size" in faults["train.step"]
    assert (
        "got 0" in faults["train.batch_size"] and "greater than or equal to 1" in faults["train.batch_size"]
    )
    assert "Did you mean 'train'?" in faults["trian"]
    assert "zero terminal SNR" in faults["sampling.sampler"]
    assert "'mnits'" in faults["data.name"] and "mnist" in faults["data.name"]
    assert "'identity', 'diagonal' or 'full'" in faults["adapter.core"]
    assert "'one'" in faults["evaluation.images"]
    message = str(caught.value)
    assert message.startswith("config demo:") and all(f"{path}: " in message for path in faults)


def test_a_missing_output_and_an_adapter_on_a_fresh_base_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"output: is required"):
        load_config(write(tmp_path, "seed: 1"))
    with pytest.raises(ConfigError, match=r"output: got an empty name"):
        load_config(write(tmp_path, "output: ' '"))
    with pytest.raises(ConfigError, match=r"base.build: an adapter on a randomly built base"):
        load_config(write(tmp_path, "output: x\nbase: {path: null, build: {unet: {}}}"))


def test_the_learning_rate_defaults_to_the_methods_own(tmp_path):
    rates = {
        run_config(tmp_path, adapter={"variant": variant}).learning_rate for variant in ("lora", "dense")
    }
    assert len(rates) == 2
    assert run_config(tmp_path, method="full").learning_rate == 1e-3
    assert run_config(tmp_path, train={"learning_rate": 0.5}).learning_rate == 0.5


def test_differences_name_the_path_and_both_values():
    old = {"a": 1, "b": {"c": [1], "d": 2}, "gone": 0}
    new = {"a": 1, "b": {"c": [2], "d": 2}, "fresh": "x"}
    assert differences(old, new) == ["b.c: [1] -> [2]", "gone: 0 -> None", "fresh: None -> 'x'"]
    assert differences(old, old) == []
