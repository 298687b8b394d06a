"""Axes to cells: which combinations, their names, their configs, their faults."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from superlora_diffusion.adapters import count_parameters, find_targets
from superlora_diffusion.errors import ConfigError
from superlora_diffusion.models.classifier import Classifier
from superlora_diffusion.models.classifier_storage import save_classifier
from superlora_diffusion.models.storage import save_base
from superlora_diffusion.runs.loading import load_config, packaged_configs, packaged_sweeps
from superlora_diffusion.sweeps.cells import list_cells, list_settings
from superlora_diffusion.sweeps.config import SweepConfig, load_sweep
from superlora_diffusion.sweeps.plan import plan_sweep
from superlora_diffusion.training.setup import load_or_build_base


def test_a_grid_is_every_combination_and_zipped_lists_go_together(make_sweep):
    sweep = make_sweep(
        grid={"adapter.rank": [1, 2, 3], "train.batch_size": [2, 4]},
        zip={"adapter.groups": [1, 2], "train.steps": [5, 9]},
    )
    found = [(c.config.adapter.rank, c.config.train.batch_size, c.config.adapter.groups, c.config.train.steps)
             for c in list_cells(sweep)]  # fmt: skip
    expected = {(r, b, g, s) for r, b, (g, s) in itertools.product((1, 2, 3), (2, 4), ((1, 5), (2, 9)))}
    assert len(found) == 12 and set(found) == expected
    names = [setting.name for setting in list_settings(sweep)]
    assert names[0] == "rank1-batch_size2-groups1-steps5" and len(set(names)) == 12


def test_a_named_setting_has_axes_of_its_own_and_wins_over_the_sweep(make_sweep):
    sweep = make_sweep(
        set={"train.steps": 7, "train.batch_size": 2},
        settings=[
            {"name": "lora", "set": {"adapter.variant": "lora"}, "grid": {"adapter.rank": [1, 4]}},
            {"name": "long", "set": {"adapter.variant": "dense", "train.steps": 11}},
        ],
        seeds=[3, 5],
    )
    cells = {cell.name: cell for cell in list_cells(sweep)}
    assert list(cells) == [
        f"{name}-seed{seed}" for name in ("lora-rank1", "lora-rank4", "long") for seed in (3, 5)
    ]
    long = cells["long-seed5"].config
    assert (long.train.steps, long.train.batch_size, long.adapter.order, long.seed, long.adapter.seed) == (
        11,
        2,
        1,
        5,
        5,
    )
    assert cells["lora-rank4-seed3"].config.adapter.rank == 4
    assert Path(long.output).parts[-2:] == ("cells", "long-seed5")


def test_sections_and_dotted_keys_are_the_same_thing(make_sweep):
    sweep = make_sweep(
        set={"adapter": {"targets": ["to_q"]}},
        settings=[{"name": "a", "set": {"adapter.variant": "lora"}}],
        seeds=[0, 7],
    )
    first, last = [cell.config for cell in list_cells(sweep)]
    assert (first.adapter.variant, first.adapter.targets, last.adapter.seed) == ("lora", ("to_q",), 7)


def test_overrides_hold_for_all_cells_but_not_against_the_file(tmp_path, place):
    path = tmp_path / "sweep.yaml"
    path.write_text(f"output: out\nconfig: {place}/run.yaml\ngrid: {{adapter.rank: [1, 2]}}\n")
    cells = list_cells(load_sweep(str(path), ["train.steps=9", "validation={every: 2}"]))
    assert {(cell.config.train.steps, cell.config.validation.every) for cell in cells} == {(9, 2)}
    with pytest.raises(ConfigError, match="the sweep's file varies it"):
        load_sweep(str(path), ["adapter.rank=3"])


def test_a_seed_that_is_given_for_the_adapter_stays(make_sweep):
    (cell,) = list_cells(make_sweep(set={"adapter.seed": 9}, seeds=[2]))
    assert (cell.config.seed, cell.config.adapter.seed) == (2, 9)


def test_names_are_folders_whatever_the_values(make_sweep):
    sweep = make_sweep(grid={"adapter.targets": [["to_q", "to_v"], ["to_out.0"]]}, settings=[{"name": "a"}])
    assert [setting.name for setting in list_settings(sweep)] == ["a-targetsto_qxto_v", "a-targetsto_out.0"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"zip": {"train.steps": [1, 2], "adapter.rank": [1]}}, "one length"),
        ({"grid": {"adapter.rank": [1]}, "set": {"adapter.rank": 2}}, "more than one of"),
        ({"settings": [{"name": "a"}, {"name": "a"}]}, "'a' is given twice"),
        ({"settings": [{"name": "../up"}]}, "got '../up'"),
        ({"set": {"output": "x"}}, "not for a sweep to set"),
        ({"seeds": [1, 1]}, "given twice"),
        (
            {"grid": {"train.steps": [1]}, "settings": [{"name": "a", "set": {"train": {"steps": 2}}}]},
            "a sets train.steps",
        ),
        ({"learning_rate": {}, "set": {"train": {"learning_rate": 1e-3}}}, "nothing to search"),
        ({"learning_rate": {"factor": 1.0}}, "1.1"),
        ({"budget": [10, 1]}, "the fewest comes first"),
        ({"learning_rate": {}, "set": {"train.learning_rate": 1e-3}}, "nothing to search"),
        ({"grids": {}}, "Did you mean 'grid'?"),
        ({"grid": {"adapter.rank": []}}, "at least 1"),
    ],
)
def test_faults_of_the_sweep_are_told(make_sweep, values, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(").replace("?", r"\?")):
        make_sweep(**values)


def test_every_faulty_setting_is_named_at_once(make_sweep):
    sweep = make_sweep(settings=[
        {"name": "good"},
        {"name": "bad-rank", "set": {"adapter.rank": 0}},
        {"name": "bad-key", "set": {"trian.steps": 3}},
    ])  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        list_cells(sweep)
    assert "setting bad-rank" in str(caught.value) and "Did you mean 'train'" in str(caught.value)
    assert "good" not in str(caught.value)


def test_the_budget_keeps_what_fits(make_sweep):
    ranks = [1, 2, 4, 8]
    sweep = make_sweep(grid={"adapter.rank": ranks})
    counts = {item.cell.config.adapter.rank: item.parameters for item in plan_sweep(sweep)}
    assert counts[2] == 512 and counts[8] == 4 * counts[2]  # LoRA is linear in the rank
    kept = plan_sweep(make_sweep(grid={"adapter.rank": ranks}, budget=[counts[2], counts[4]]))
    assert [item.cell.config.adapter.rank for item in kept] == [2, 4]
    assert [item.parameters for item in plan_sweep(make_sweep(budget=512))] == [512]
    with pytest.raises(
        ConfigError, match="no setting trains 0 to 5 numbers; the settings train 256 to 2,048"
    ):
        plan_sweep(make_sweep(grid={"adapter.rank": ranks}, budget=5))


PRETRAINED_BY = {"sweeps/vit-small": "vit-small-synthdigits", "sweeps/front-paper": "paper/base-svhn"}
"""Packaged sweeps on a base that a packaged config trains first."""


def on_fresh_base(config: str, folder: Path) -> list[str]:
    """Overrides for the base that a config starts from in place of the one it makes, on data that is always there."""
    data = "data.name=mnist-mini"
    base = load_or_build_base(load_config(config, [data]))
    (save_classifier if isinstance(base, Classifier) else save_base)(base, folder)
    return [f"base.path={folder}", data]


def test_every_packaged_sweep_resolves_to_cells_with_counts(tmp_path):
    assert packaged_sweeps() and not any("sweeps/" in name for name in packaged_configs())
    for name in packaged_sweeps():
        sweep = load_sweep(name)
        cells = list_cells(sweep)
        assert len(cells) == len(list_settings(sweep)) * len(sweep.seeds) > 1
        if name.startswith("paper/"):  # on a base that is pretrained first: see the published counts below
            continue
        if name in PRETRAINED_BY:
            sweep = load_sweep(name, on_fresh_base(PRETRAINED_BY[name], tmp_path / Path(name).name))
        counts = [item.parameters for item in plan_sweep(sweep)]
        assert len(counts) == len(cells) and all(counts)


def test_a_sweep_file_finds_its_run_config_beside_it(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("output: runs/x\ntrain: {steps: 3}\n")
    (tmp_path / "sweep.yaml").write_text("output: out\nconfig: mine.yaml\n")
    monkeypatch.chdir("/")
    sweep = load_sweep(str(tmp_path / "sweep.yaml"), output=str(tmp_path / "other"))
    assert sweep.output == str(tmp_path / "other") and list_cells(sweep)[0].config.train.steps == 3


def test_unknown_sweeps_get_the_near_miss():
    with pytest.raises(ConfigError, match="Did you mean 'sweeps/compare'"):
        load_sweep("sweeps/compair")


def test_a_sweep_is_its_own_yaml(make_sweep):
    sweep = make_sweep(grid={"adapter.rank": [1, 2]}, budget=[1, 1e6], learning_rate={"steps": 3})
    assert SweepConfig(**sweep.model_dump(mode="json")) == sweep


@pytest.mark.parametrize(
    "name", ["paper/sweeps/to-handwriting", "paper/sweeps/to-street", "sweeps/paper-small"]
)
def test_the_papers_sweeps_have_the_published_counts_on_the_papers_network(name):
    published = [75776, 70720, 73728, 10752, 8512, 8160, 11100, 5112, 1080, 1060, 832, 76, 31]
    for base in ("paper/base-svhn", "paper/base-mnist"):
        assert list(counts_on(base, name).values()) == [565248, *published]  # dense comes first


def counts_on(base: str, sweep: str) -> dict[str, int]:
    """Trained numbers of each setting of a sweep on the network that a packaged config pretrains."""
    unet = load_or_build_base(load_config(base)).network
    adapters = {cell.setting: cell.config.adapter for cell in list_cells(load_sweep(sweep, seeds=[0]))}
    return {
        name: count_parameters(adapter, find_targets(unet, adapter)) for name, adapter in adapters.items()
    }


def test_the_front_on_the_papers_network_is_twenty_times_smaller_than_lora_rank_8():
    assert counts_on("paper/base-svhn", "sweeps/front-paper") == {
        "lora-r8": 75776, "spectral-d28-noqk": 3773, "lorta-g12-r5": 8160,
        "spectral-d20": 3574, "spectral-d16-noqk": 2214, "spectral-d32-noqk": 4289, "spectral-d40-noqk": 5321,
        "spectral-d56-noqk": 7385,
    }  # fmt: skip


def test_the_papers_sweeps_go_both_ways_and_differ_in_nothing_else():
    there, back = (load_sweep(f"paper/sweeps/to-{way}") for way in ("handwriting", "street"))
    pairs = list(zip(list_cells(there), list_cells(back), strict=True))
    assert len(pairs) == 14 * 3
    for one, other in pairs:
        one, other = one.config, other.config
        assert (one.base.path, one.data.name) == ("runs/paper/base-svhn/base", "mnist")
        assert (other.base.path, other.data.name) == ("runs/paper/base-mnist/base", "svhn")
        turned = other.model_copy(update={"base": one.base, "data": one.data, "output": one.output})
        assert turned == one
    for data in ("svhn", "mnist"):
        config = load_config(f"paper/base-{data}")
        assert (config.method, config.data.name, config.output) == ("full", data, f"runs/paper/base-{data}")


def test_a_sweep_takes_the_settings_of_another(tmp_path, monkeypatch):
    (tmp_path / "one.yaml").write_text("output: o\nsettings:\n  - {name: a, set: {adapter.rank: 3}}\n")
    (tmp_path / "two.yaml").write_text("output: p\nsettings: one.yaml\n")
    (tmp_path / "three.yaml").write_text("output: q\nsettings: two.yaml\n")
    (tmp_path / "four.yaml").write_text("output: q\nsettings: sweeps/papers\n")
    monkeypatch.chdir("/")
    found = load_sweep(str(tmp_path / "two.yaml"))
    assert (found.output, [cell.config.adapter.rank for cell in list_cells(found)]) == ("p", [3])
    with pytest.raises(ConfigError, match=r"three.yaml: settings: .*two.yaml lists no settings of its own"):
        load_sweep(str(tmp_path / "three.yaml"))
    with pytest.raises(ConfigError, match=r"four.yaml: settings: sweep 'sweeps/papers' is neither"):
        load_sweep(str(tmp_path / "four.yaml"))
