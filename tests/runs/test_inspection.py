"""What an adapter's folder says, against the adapter that wrote it."""

from __future__ import annotations

import json
import re

import pytest
import torch
from tiny import make_base, run_config
from torch import nn

from superlora_diffusion import SuperLoRAConfig, attach
from superlora_diffusion.adapters import AdapterCard
from superlora_diffusion.errors import AdapterError, RunError
from superlora_diffusion.peers import attach_peer
from superlora_diffusion.peers.config import PeftSettings
from superlora_diffusion.runs.folder import RunFolder
from superlora_diffusion.runs.inspection import Route, inspect_adapter

CARD = AdapterCard(
    base="/nowhere/base", data={"name": "trees"}, training={"steps": 6, "learning_rate": 0.02, "seed": 3}
)
LINEAR = {"a.to_q": (16, 16), "a.to_v": (16, 16), "b.to_q": (16, 16), "c.to_q": (7, 5), "c.to_v": (300, 200)}
"""Shapes below, between and above what auto decides by."""
KERNELS = {"a.to_q": (16, 16), "b.to_q": (4, 3, 3, 3), "b.to_v": (16, 16, 1, 1)}


def network(shapes) -> nn.Module:
    """A module of modules that hold a layer of each shape. It has no forward."""
    blocks = {name.split(".")[0]: nn.Module() for name in shapes}
    for name, (rows, columns, *kernel) in shapes.items():
        block, layer = name.split(".")
        new = nn.Conv2d(columns, rows, tuple(kernel)) if kernel else nn.Linear(columns, rows)
        blocks[block].add_module(layer, new)
    return nn.ModuleDict(blocks)


def saved(folder, shapes=LINEAR, card=CARD, **fields):
    adapter = attach(network(shapes), SuperLoRAConfig(**fields))
    adapter.save_pretrained(folder, card=card)
    return adapter


def edit(folder, change) -> None:
    path = folder / "adapter_config.json"
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))


SETTINGS = {
    "lora": dict(variant="lora", rank=2),
    "wide": dict(variant="lora", rank=40),
    "weight": dict(variant="lora", rank=2, route="weight"),
    "products": dict(variant="lora", rank=2, route="products"),
    "lotr": dict(variant="lotr"),
    "layer": dict(groups="layer", rank=3),
    "shuffle": dict(variant="lora", rank=2, projection="shuffle"),
    "lorta": dict(variant="lorta"),
    "lokr": dict(variant="lokr"),
}


def routes_by_target(adapter, targets):
    """The row of each target of the adapter, told apart by shape and rank."""
    rows = {(row.shape, row.rank): row for row in targets.shapes}
    ranks = [getattr(adapter.low_rank.get(index), "rank", None) for index in range(len(adapter.targets))]
    return [rows[target[1:], rank] for target, rank in zip(adapter.targets, ranks, strict=True)]


def taken(route: Route, tokens: int) -> bool:
    return route.products_below is None or tokens < route.products_below


CASES = [(setting, LINEAR) for setting in SETTINGS]
CASES += [(setting, KERNELS) for setting in SETTINGS if setting != "products"]  # which convolutions refuse


@pytest.mark.parametrize(("setting", "shapes"), CASES)
def test_routes_are_those_the_adapter_takes(setting, shapes, tmp_path):
    adapter = saved(tmp_path, shapes, **SETTINGS[setting])
    found = inspect_adapter(tmp_path).targets
    rows = routes_by_target(adapter, found)
    assert sum(row.count for row in found.shapes) == found.count == len(shapes)
    for index, row in enumerate(rows):
        assert row.count == rows.count(row)
        for training, route in ((True, row.training), (False, row.inference)):
            near = route.products_below or 1
            with torch.set_grad_enabled(training):
                for tokens in {1, max(1, near - 1), near, near + 1, 10**7}:
                    assert adapter.uses_products(index, tokens) == taken(route, tokens), (row, tokens)


def test_routes_in_words(tmp_path):
    saved(tmp_path, variant="lora", rank=2)
    rows = {row.shape: row for row in inspect_adapter(tmp_path).targets.shapes}
    assert [row.count for row in rows.values()] == [3, 1, 1] and rows[16, 16].rank == 2
    assert rows[300, 200].training == Route(None) and Route(None).text == "two small products"
    below = rows[300, 200].inference.products_below
    assert 10 < below < 10_000
    assert (
        rows[300, 200].inference.text == f"two small products below {below} tokens, else added to the weight"
    )
    assert Route(1234).text == "two small products below 1,234 tokens, else added to the weight"
    assert Route(1).text == "added to the weight" and "tokens" in Route(2).text
    assert rows[300, 200].as_dict() == {
        "shape": [300, 200],
        "count": 1,
        "rank": 2,
        "training": {"route": "products", "products_below": None},
        "inference": {"route": "tokens", "products_below": below},
    }
    assert Route(1).as_dict() == {"route": "weight", "products_below": None}


def test_one_shape_with_and_without_products_has_two_rows(tmp_path):
    """groups "layer": b has one matrix, whose square fold is the matrix; a has two in one square."""
    saved(tmp_path, groups="layer", rank=3)
    rows = [(row.shape, row.count, row.rank) for row in inspect_adapter(tmp_path).targets.shapes]
    assert rows[:2] == [((16, 16), 2, None), ((16, 16), 1, 3)]


def test_what_it_is_and_what_trained_it(tmp_path):
    adapter = saved(tmp_path, variant="lora", rank=2, scale=2.0)
    adapter.set_scale(0.25)
    adapter.save_pretrained(tmp_path, card=CARD)
    found = inspect_adapter(str(tmp_path))
    assert (found.folder, found.method, found.name) == (tmp_path, "superlora", "lora")
    assert found.settings == {"variant": "lora", "groups": "weight", "fold": "none", "rank": 2, "scale": 2.0}
    assert found.scale == 0.5
    assert found.parameters == adapter.num_parameters == 3 * 64 + 24 + 1000
    assert found.targets.weights == 3 * 256 + 35 + 60_000
    assert (found.base, found.training, found.data) == (CARD.base, CARD.training, CARD.data)
    assert (
        found.files == {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        and len(found.files) == 2
    )
    assert json.loads(json.dumps(found.as_dict()))["targets"]["patterns"] == ["to_q", "to_v"]


def test_stored_arrays_count_and_a_bare_card_says_nothing(tmp_path):
    adapter = attach(network(LINEAR), SuperLoRAConfig(groups=2, order=1, projection="fastfood", ratio=0.01))
    adapter.save_pretrained(tmp_path, store_projection=True)
    edit(tmp_path, lambda described: [described.pop(key) for key in ("training", "data")])
    found = inspect_adapter(tmp_path)
    assert found.name == "intrinsic" and "adapter_projection.safetensors" in found.files
    assert (found.base, found.training, found.data) == (None, {}, {})


def test_convolutions_are_counted_as_matrices(tmp_path):
    saved(tmp_path, KERNELS, variant="lora", rank=2)
    found = inspect_adapter(tmp_path).targets
    assert found.convolutions == 2 and [row.shape for row in found.shapes] == [(16, 16), (4, 27)]
    assert not found.depends_on_cost and [row.count for row in found.shapes] == [2, 1]


@pytest.mark.parametrize("pattern", ["to_q:bias", "to_v:*"])
def test_vectors_are_counted_apart(pattern, tmp_path):
    saved(tmp_path, variant="lora", rank=2, targets=[pattern])
    found = inspect_adapter(tmp_path).targets
    matrices = found.count - found.vectors
    assert found.vectors > 1 and matrices == (found.vectors if pattern == "to_v:*" else 0)
    both = f"{matrices} matrices and {found.vectors} vectors"
    assert found.counted == (both if matrices else f"{found.vectors} vectors")
    assert found.as_dict()["vectors"] == found.vectors and not found.depends_on_cost


@pytest.mark.parametrize(("setting", "depends"), [("lora", True), ("weight", False), ("products", False)])
def test_cost_decides_for_auto_alone(setting, depends, tmp_path):
    saved(tmp_path, **SETTINGS[setting])
    found = inspect_adapter(tmp_path).targets
    assert found.depends_on_cost == depends and found.route == SETTINGS[setting].get("route", "auto")
    assert all(row.rank == 2 for row in found.shapes)


def test_a_peer_has_no_routes(tmp_path):
    peer = attach_peer(make_base().network, "peft", PeftSettings(tuner="vera", options={"r": 8}), 0)
    peer.save(tmp_path, CARD)
    found = inspect_adapter(tmp_path)
    assert (found.method, found.name, found.parameters) == ("peft", peer.what, peer.num_parameters)
    assert found.settings["tuner"] == "vera" and found.settings["options"] == {"r": 8}
    assert found.targets is found.scale is None and found.as_dict()["targets"] is None
    assert found.base == CARD.base and "fixed.safetensors" in found.files


def test_a_run_means_its_adapter(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim(run_config(tmp_path))
    with pytest.raises(RunError, match=r"run is not finished. Go on with: superlora-diff train --config"):
        inspect_adapter(run.path)
    saved(run.adapter, variant="lora")
    assert inspect_adapter(run.path) == inspect_adapter(run.adapter)


def test_places_that_hold_no_adapter(tmp_path):
    with pytest.raises(AdapterError, match=r"gone is no folder"):
        inspect_adapter(tmp_path / "gone")
    with pytest.raises(AdapterError, match=r"neither an adapter folder .* nor a run folder"):
        inspect_adapter(tmp_path)
    RunFolder(tmp_path / "full").claim(run_config(tmp_path, method="full"))
    with pytest.raises(AdapterError, match=r"method 'full': it holds a base"):
        inspect_adapter(tmp_path / "full")
    saved(tmp_path / "half", variant="lora")
    (tmp_path / "half" / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match=r"half is incomplete: it has no adapter_model.safetensors"):
        inspect_adapter(tmp_path / "half")


BROKEN = {
    "config": (lambda d: d["config"].update(rnk=3), "Did you mean 'rank'"),
    "no config": (lambda d: d.pop("config"), "KeyError: 'config'"),
    "route": (lambda d: d["config"].update(route="products", projection="shuffle"), "got 'products'"),
    "targets": (lambda d: d.update(targets=[]), "no weight was found"),
    "target": (lambda d: d["targets"][0].pop("shape"), "KeyError: 'shape'"),
    "features": (lambda d: d["targets"][0].update(in_features=17), "cannot be 16 x 17"),
    "shape": (lambda d: d["targets"][0].update(shape=[16, "x"]), "TypeError"),
    "flat": (lambda d: d["targets"][0].update(shape=[16], in_features=1), "cannot be 16 x 1"),
    "empty": (lambda d: d["targets"][0].update(shape=[16, 0], in_features=0), "cannot be 16 x 0"),
    "count": (lambda d: d.update(parameters=7), "says that 7 numbers train; its settings make 1,216"),
    "scale": (lambda d: d.update(scale="much"), "ValueError"),
    "base": (lambda d: d.update(base="mine"), "base is 'mine'"),
    "training": (lambda d: d.update(training=[1]), "training is \\[1\\]"),
    "kind": (lambda d: d.update(kind="other"), "kind 'other' is unknown"),
    "peer": (lambda d: d.update(kind="peer"), "KeyError: 'method'"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_config_says_what_is_wrong(fault, tmp_path):
    change, text = BROKEN[fault]
    saved(tmp_path, variant="lora", rank=2)
    edit(tmp_path, change)
    with pytest.raises(AdapterError, match=rf"adapter_config.json is broken: .*{text}") as caught:
        inspect_adapter(tmp_path)
    assert re.match(str(tmp_path), str(caught.value))


def test_what_is_no_json_is_broken(tmp_path):
    saved(tmp_path, variant="lora")
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(AdapterError, match=r"adapter_config.json is broken"):
        inspect_adapter(tmp_path)
