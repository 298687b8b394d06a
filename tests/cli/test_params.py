"""``params`` as a person would type it."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import typed
import yaml
from arithmetic_text import check_equation, evaluate
from tiny import run_values, write_base

from superlora_diffusion import attach, count_parameters
from superlora_diffusion.models.config import BaseSettings
from superlora_diffusion.models.storage import load_base
from superlora_diffusion.runs.loading import load_config
from superlora_diffusion.runs.search import Search, search
from superlora_diffusion.training.setup import load_or_build_base, make_trainee

EVERY = "adapter.targets=[to_q,to_k,to_v,to_out.0]"
PAIR = "adapter.targets=[to_q,to_v]"
FASTFOOD = "adapter.projection=fastfood"
PUBLISHED = {
    f"adapter.variant=lora adapter.rank=8 {PAIR}": 75_776,
    f"adapter.variant=null adapter.groups=8 adapter.fold=none adapter.rank=13 {PAIR}": 70_720,
    f"adapter.variant=null adapter.groups=4 adapter.side_multiple=32 adapter.rank=24 {PAIR}": 73_728,
    f"adapter.variant=null adapter.side_multiple=32 adapter.rank=7 {PAIR}": 10_752,
    f"adapter.variant=group_lora {FASTFOOD} adapter.ratio=0.5 adapter.rank=4 {PAIR}": 8_512,
    f"adapter.variant=lorta adapter.groups=12 adapter.rank=5 {PAIR}": 8_160,
    f"adapter.variant=lorta adapter.groups=12 adapter.order=4 adapter.rank=5 {PAIR}": 11_100,
    f"adapter.variant=lonkr adapter.splits=2 adapter.rank=10 adapter.groups=2 {EVERY}": 5_112,
    f"adapter.variant=lonkr adapter.splits=2 adapter.rank=2 adapter.groups=2 {EVERY}": 1_080,
    f"adapter.variant=lorta adapter.rank=4 {PAIR}": 1_060,
    f"adapter.variant=lorta adapter.groups=4 adapter.rank=4 {FASTFOOD} adapter.ratio=0.01 {PAIR}": 832,
    f"adapter.variant=lorta adapter.order=5 adapter.rank=1 {PAIR}": 76,
    f"adapter.variant=lorta adapter.order=5 adapter.rank=1 {FASTFOOD} adapter.ratio=0.01 {PAIR}": 31,
}


def call(*words):
    return typed.call("params", *words)


def said(*words):
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def fails(*words, code=2):
    result = call(*words)
    assert result.exit_code == code and result.stdout == "", result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny base and the config ``mine.yaml``."""
    folder = tmp_path_factory.mktemp("counted")
    write_base(folder / "base")
    (folder / "mine.yaml").write_text(yaml.safe_dump(run_values(folder, output="runs/mine")))
    return folder


# --- counting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "published"), PUBLISHED.items(), ids=[str(n) for n in PUBLISHED.values()]
)
def test_published_points_on_the_papers_unet(overrides, published):
    words = ("--config", "demo", "--model", "paper/base-svhn", *overrides.split())
    text = said(*words)
    assert f"{published:,} numbers train" in text and " on paper/base-svhn" in text
    counts = re.findall(r"\(x (\d+)\)", text)
    groups = [line for line in text.splitlines() if re.match(r"  (A_|B_|core|vector)", line)]
    times = [int(count) for count in counts] or [1]
    found = sum(count * check_equation(line.strip()) for count, line in zip(times, groups, strict=True))
    assert found == published


def test_the_targets_are_summed_up():
    text = said("--config", "demo", "--model", "paper/base-svhn", PAIR)
    assert "to_q, to_v: 42 matrices, N = 565,248 weights" in text
    assert "32 of 128 x 128" in text and "10 of 64 x 64" in text


def test_vectors_among_the_targets_are_counted_apart():
    text = said("--config", "demo", "--model", "paper/base-svhn", "adapter.targets=[conv_in,conv_out:*]")
    assert "conv_in, conv_out:*: 2 matrices and 1 vector, N =" in text


@pytest.mark.parametrize(
    "variant", ["dense", "lora", "group_lora", "lokr", "lonkr", "lotr", "lorta", "spectral"]
)
def test_json_counts_what_is_really_attached(variant, place):
    config = str(place / "mine.yaml")
    overrides = (f"adapter.variant={variant}", "adapter.targets=[to_q,to_k,to_v,to_out.0]")
    counted = json.loads(said("--config", config, "--json", *overrides))
    adapter = attach(
        load_base(BaseSettings(path=str(place / "base"))).network, load_config(config, overrides).adapter
    )
    assert counted["parameters"] == adapter.num_parameters == check_equation(counted["formula"])
    assert evaluate(counted["products"]) == adapter.num_parameters
    assert (
        sum(group["count"] * check_equation(group["formula"]) for group in counted["groups"])
        == adapter.num_parameters
    )
    stored = {name: list(parameter.shape) for name, parameter in adapter.named_parameters()}
    for group in counted["groups"]:
        for index in group["indices"]:
            mine = sorted(shape for name, shape in stored.items() if name.startswith(f"g{index}_"))
            assert mine == sorted(tensor["shape"] for tensor in group["tensors"])
    assert counted["targets"]["matrices"] == len(adapter.targets)
    assert counted["learning_rate"] == load_config(config, overrides).learning_rate


def test_a_projection_is_told():
    text = said("-c", "demo", "adapter.variant=lorta", FASTFOOD, "adapter.ratio=0.01")
    assert "n = 126,976 weights, m = 1,270 generated, spread over n by fastfood; folded: 11 x 11 x 11" in text


@pytest.mark.parametrize(
    "overrides",
    [
        ("method=full",),
        ("method=bitfit",),
        ("method=norms",),
        ("method=difffit",),
        ("method=peft", "peft.tuner=lora", "peft.options.r=3"),
        ("method=lycoris", "lycoris.algo=loha"),
    ],
    ids=lambda overrides: overrides[0].removeprefix("method="),
)
def test_other_methods_list_what_is_attached(overrides, place):
    config = str(place / "mine.yaml")
    listed = json.loads(said("-c", config, *overrides, "--json"))
    resolved = load_config(config, overrides)
    trainee = make_trainee(resolved, load_or_build_base(resolved))
    shapes = {name: row["shape"] for row in listed["tensors"] for name in row["names"]}
    assert shapes == {name: list(value.shape) for name, value in trainee.parameters.items()}
    assert len({tuple(row["shape"]) for row in listed["tensors"]}) == len(listed["tensors"])
    assert listed["parameters"] == sum(row["parameters"] for row in listed["tensors"]) == trainee.count
    assert listed["trains"] == trainee.what and listed["notes"] == list(trainee.notes)
    text = said("-c", config, *overrides)
    tail = f"in {len(shapes)} tensors, at learning rate {resolved.learning_rate:g}"
    assert f"{trainee.count:,} numbers train {tail}" in text
    rows = re.findall(r"^ *([\d,]+) +(\d+) +(\d+(?: x \d+)*) +\S+ *$", text, re.M)
    assert len(rows) == len(listed["tensors"])
    assert all(int(count) * evaluate(shape) == evaluate(numbers) for numbers, count, shape in rows)


@pytest.mark.parametrize("chosen", ["train.learning_rate=0.03", "adapter.step=rms", "adapter.step=plain"])
def test_a_rate_or_step_that_was_chosen_stays(chosen):
    train = json.loads(said("-c", "demo", chosen, "--budget", 900, "--json", "--top", 1))["train"]
    assert "gain" not in train and shlex.split(train)[-2:] == [chosen, "output=runs/mine"]


@pytest.mark.parametrize(
    ("targets", "gains"), [("to_k,to_out.0", True), ("qkvo", True), ("all-linear", False)]
)
def test_other_layers_than_attention_keep_the_rate_of_their_variant(targets, gains):
    listed = json.loads(said("--budget", 900, "--targets", targets, "--json", "--top", 1))
    assert ("adapter.step=gain" in listed["train"]) == gains


# --- listing ---------------------------------------------------------------------------------------------


def test_every_line_of_a_list_loads_and_counts_as_said(place):
    base = str(place / "base")
    listed = json.loads(said("--budget", "700", "--model", base, "--json", "--top", 30))
    assert (
        listed["train"]
        == f"superlora-diff train --config demo output=runs/mine adapter.step=gain base.path={base}"
    )
    assert len(listed["settings"]) == 30 and listed["fitting"] > 30
    unet = load_base(BaseSettings(path=base)).network
    counts = []
    for row in listed["settings"]:
        words = shlex.split(f"{listed['train']} {shlex.join(row['overrides'])}")
        assert words[:4] == ["superlora-diff", "train", "--config", "demo"]
        config = load_config(words[3], words[4:])
        assert (config.base.path, config.output) == (base, "runs/mine")
        assert (config.adapter.step, config.learning_rate) == ("gain", 1e-2)
        adapter = attach(unet, config.adapter)
        assert adapter.num_parameters == row["parameters"] == evaluate(row["formula"]) <= 700
        assert row["share"] == row["parameters"] / 700
        adapter.unload()
        counts.append(row["parameters"])
    assert counts == sorted(counts, reverse=True)


def test_the_printed_list_can_be_pasted(place):
    config, base = str(place / "mine.yaml"), load_base(BaseSettings(path=str(place / "base"))).network
    text = said(
        "-c", config, "--budget", "1e3", "--families", "lora,lotr,lorta", "--top", 5, "adapter.targets=[to_k]"
    )
    lines = text.splitlines()
    command = shlex.split(next(line for line in lines if line.strip().startswith("superlora-diff train")))
    rows = [re.match(r" *(\d) +([\d,]+) +([\d.]+) %  (.+?)  +(.*\S)", line) for line in lines]
    rows = [row.groups() for row in rows if row]
    pasted = [shlex.split(line)[1:] for line in lines if re.match(r" \d adapter", line)]
    assert len(rows) == len(pasted) == 5
    for (_, numbers, share, _, formula), overrides in zip(rows, pasted, strict=True):
        loaded = load_config(command[3], [*command[4:], *overrides])
        adapter = attach(base, loaded.adapter)
        assert loaded.adapter.targets == ("to_k",)
        assert adapter.num_parameters == evaluate(numbers) == evaluate(formula)
        assert float(share) == pytest.approx(adapter.num_parameters / 10, abs=0.06)
        adapter.unload()


def test_targets_make_the_list(place):
    base = str(place / "base")
    listed = json.loads(
        said("--budget", 500, "--model", base, "--targets", "to_k,to_out.0", "--families", "lora", "--json")
    )
    best = listed["settings"][0]
    assert best["overrides"][-1] == "adapter.targets=[to_k,to_out.0]"
    assert listed["targets"]["patterns"] == ["to_k", "to_out.0"]
    assert listed["best_of_families"] == {"lora": best["parameters"]}


def test_patterns_and_exclusions_make_the_list_and_go_with_its_commands(place, tmp_path):
    base = load_base(BaseSettings(path=str(place / "base"))).network
    config = tmp_path / "exclude.yaml"
    values = run_values(place, adapter={"variant": "lora", "exclude": ["mid_block.**"]})
    config.write_text(yaml.safe_dump(values))
    words = (
        "-c",
        config,
        "--budget",
        600,
        "--targets",
        "[to_q,*.to_[kv]]",
        "--families",
        "lora,lorta",
        "--json",
    )
    listed = json.loads(said(*words))
    assert listed["targets"]["patterns"] == ["to_q", "*.to_[kv]"]
    assert (listed["targets"]["exclude"], listed["targets"]["matrices"]) == (["mid_block.**"], 9)
    command = shlex.split(listed["train"])
    for row in listed["settings"][:3]:
        loaded = load_config(command[3], [*command[4:], *row["overrides"]])
        adapter = attach(base, loaded.adapter)
        assert loaded.adapter.targets == ("to_q", "*.to_[kv]") and len(adapter.targets) == 9
        assert adapter.num_parameters == row["parameters"] <= 600
        adapter.unload()
    listed = json.loads(said(*words, "adapter.exclude=[]"))
    assert (listed["targets"]["exclude"], listed["targets"]["matrices"]) == ([], 12)
    assert "adapter.exclude=[]" in shlex.split(listed["train"])
    found = search(Search(600, load_config(str(config)), families=("lora",)))
    assert all(choice.config.exclude == ("mid_block.**",) for choice in found.listing.choices)


def test_a_network_that_train_cannot_take_is_listed_without_a_command(tmp_path):
    config = {"_class_name": "DiTTransformer2DModel", "num_layers": 2, "num_attention_heads": 2}
    config |= {"attention_head_dim": 8, "in_channels": 4, "sample_size": 8, "norm_type": "ada_norm_zero"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert json.loads(said("--budget", 300, "--model", path, "--json"))["train"] is None
    text = said("--budget", 300, "--model", path, "--top", 1)
    assert "train itself takes no base of this kind" in text and " 1 adapter.variant=" in text
    assert json.loads(said("--budget", 300, "--model", "paper/base-svhn", "--json"))["train"] is None


def test_a_config_for_another_method_is_turned():
    listed = json.loads(said("-c", "demo", "method=full", "--budget", 900, "--json", "--top", 1))
    words = shlex.split(listed["train"])
    assert words[-3:] == ["output=runs/mine", "adapter.step=gain", "method=superlora"]
    config = load_config(words[3], [*words[4:], *listed["settings"][0]["overrides"]])
    assert config.method == "superlora"
    targets = [("a", *shape["shape"]) for shape in listed["targets"]["shapes"] for _ in range(shape["count"])]
    assert count_parameters(config.adapter, targets) <= 900


def test_a_narrow_terminal_wraps_the_table_and_no_line_to_paste(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    lines = said("--budget", 4000, "--top", 8).splitlines()
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    pasted = [line for line in plain if re.match(r" \d adapter", line)]
    assert len(pasted) == 8 and max(map(len, pasted)) > 80
    assert all(len(line) <= 80 for line in plain if line not in pasted)


# --- mistakes --------------------------------------------------------------------------------------------


def test_mistakes_are_told(place, tmp_path):
    assert "give --config NAME to count a run, or --budget NUMBER" in fails()
    assert "budget: got 0: at least one number must train" in fails("--budget", 0)
    assert "budget: got -3: at least one" in fails("--budget", -3)
    for text in ("many", "1e-3", "0.5", "nan", "1e999"):
        assert f"got {text!r}: a whole number such as 5000" in fails("--budget", text)
    assert "Did you mean 'lora'" in fails("--budget", 100, "--families", "lorra")
    assert "Did you mean 'synthdigits-16'" in fails("--budget", 100, "--model", "synthdigit-16", code=1)
    assert "the smallest" in fails("--budget", 10, "--families", "lora").lower()
    assert "target 'to_x' matches no" in fails("--budget", 100, "--targets", "to_x", code=1)
    assert "give at least one module name" in fails("--budget", 100, "--targets", "")
    assert "--families lora goes with --budget" in fails("-c", "demo", "--families", "lora")
    assert "without --config" in fails("adapter.rank=3")
    looked_for = fails("-c", "demo", "--budget", 100, "adapter.rank=3")
    assert "adapter.rank: got 'adapter.rank=3' with --budget" in looked_for
    assert "use base.path=x here" in fails("-c", "demo", "method=full", "--model", "x")
    assert "is neither a file" in fails("-c", "nothing.yaml")


def test_budgets_as_people_write_them():
    for text in ("2000", "2e3", "2_000", "2,000"):
        assert (
            json.loads(said("--budget", text, "--json", "--top", 1, "--families", "lotr"))["budget"] == 2000
        )
