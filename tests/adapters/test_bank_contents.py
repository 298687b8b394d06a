"""What a bank takes in, what it refuses, and what it holds: a thousand adapters, and no growth by switching."""

from __future__ import annotations

import gc
import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from superlora_diffusion import AdapterBank, SuperLoRAConfig
from superlora_diffusion.adapters import arrays as arrays_module
from superlora_diffusion.adapters import bank as bank_module
from superlora_diffusion.adapters import slots as slots_module
from superlora_diffusion.adapters.host import host_of
from superlora_diffusion.errors import AdapterError, SuperLoRAError

from .banks import Banked, store
from .folder import CONFIG, WEIGHTS, edit, spoiled
from .networks import inputs_for, mixed_net, output, tree


def close(result, expected):
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def refused(made: Banked, folder, name: str = "other") -> str:
    """Adding raises, says why, and leaves bank and network as they were."""
    before = (made.bank.names, made.bank.nbytes, made.bank.active, len(made.bank._pool._kinds))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SuperLoRAError) as caught:
            made.bank.add(name, folder)
    assert (made.bank.names, made.bank.nbytes, made.bank.active, len(made.bank._pool._kinds)) == before
    assert host_of(made.model) is None
    return str(caught.value)


# ---------------------------------------------------------------- names


def test_it_is_a_collection_of_names(tmp_path):
    made = Banked(tmp_path)
    assert len(made.bank) == 0 and made.bank.names == () and made.bank.nbytes == 0
    made.add("cats of 2024", "lora")
    made.add("dogs", "lora", seed=1)
    assert len(made.bank) == 2 and made.bank.names == tuple(made.bank) == ("cats of 2024", "dogs")
    assert "dogs" in made.bank and "cats" not in made.bank
    assert "2 adapters" in repr(made.bank)
    made.bank.remove("cats of 2024")
    assert made.bank.names == ("dogs",)


def test_names_that_are_taken_missing_or_none(tmp_path):
    made = Banked(tmp_path)
    folder = made.add("cats", "lora")
    assert "named 'cats' already" in refused(made, folder, "cats")
    assert "is no name" in refused(made, folder, "")
    assert "is no name" in refused(made, folder, None)
    with pytest.raises(AdapterError, match=r"no adapter 'cast'\. Did you mean 'cats'\? It has 1: 'cats'\."):
        made.bank.use("cast")
    with pytest.raises(AdapterError, match="no adapter 'x'"):
        made.bank.remove("x")
    with pytest.raises(AdapterError, match="It is empty"):
        AdapterBank(made.model).use("cats")


@pytest.mark.parametrize("choice", [{"cats": float("nan")}, {"cats": "1"}, {"cats": True}, ["cats"], 1])
def test_a_choice_that_is_refused_changes_nothing(choice, tmp_path):
    made, inputs = Banked(tmp_path), inputs_for("mixed")
    made.add("cats", "lora")
    made.bank.use({"cats": 0.5})
    before = output(made.model, inputs)
    with pytest.raises(AdapterError, match=r"weight of adapter 'cats': got|a mapping of names to weights"):
        made.bank.use(choice)
    with pytest.raises(AdapterError, match="no adapter 'dogs'"):
        made.bank.use({"cats": 1.0, "dogs": 1.0})
    with pytest.raises(AdapterError, match="scale: got inf"):
        made.bank.set_scale(float("inf"))
    with pytest.raises(AdapterError, match="not merged"):
        made.bank.unload(keep_merged=True)
    assert made.bank.active == {"cats": 0.5} and torch.equal(output(made.model, inputs), before)


def test_what_is_in_use_or_returned_to_is_not_removed(tmp_path):
    made = Banked(tmp_path)
    for seed, name in enumerate(("cats", "dogs", "birds")):
        made.add(name, "lora", seed=seed)
    made.bank.use("cats")
    with made.bank.using("dogs"), made.bank.using(None):
        for name in ("cats", "dogs"):
            with pytest.raises(AdapterError, match="in use"):
                made.bank.remove(name)
        made.bank.remove("birds")
    assert made.bank.names == ("cats", "dogs") and made.bank.active == {"cats": 1.0}
    made.bank.remove("dogs")
    made.bank.use(None)
    made.bank.remove("cats")
    assert made.bank.nbytes == 0 and not made.bank._pool._kinds
    made.bank.add("cats", tmp_path / "dogs")
    made.bank.use("cats")
    close(*made.outputs({"dogs": 1.0}, inputs_for("mixed")))


# ---------------------------------------------------------------- folders


def test_a_folder_that_does_not_fit_is_refused(tmp_path):
    made = Banked(tmp_path)
    folder = made.add("cats", "lora")
    copied = tmp_path / "copy"

    def broken(word, change):
        shutil.copytree(folder, copied, dirs_exist_ok=True)
        edit(copied, word, change)
        return refused(made, copied)

    assert "does not have" in broken("name", lambda name: f"{name}_x")
    assert "here it has" in broken(
        "shape", lambda shape: [side + 1 for side in shape] if isinstance(shape, list) else shape
    )
    assert "does not hold what its config says" in broken("rank", lambda rank: rank + 1)
    assert "run_scale" in broken("run_scale", lambda scale: None)
    shutil.copytree(folder, copied, dirs_exist_ok=True)
    (copied / WEIGHTS).unlink()
    assert "cannot be read" in refused(made, copied)
    assert "is no adapter folder" in refused(made, tmp_path / "nowhere")


def test_numbers_of_another_kind_are_refused_where_the_kind_is_known(tmp_path):
    made = Banked(tmp_path)
    folder = made.add("cats", "group")
    numbers = load_file(folder / WEIGHTS)
    first = min(numbers)
    save_file({**numbers, first: torch.zeros(3)}, folder / WEIGHTS)
    assert f"{first} is (3,)" in refused(made, folder)
    save_file({key: value for key, value in numbers.items() if key != first}, folder / WEIGHTS)
    assert f"{first} is missing" in refused(made, folder)


def test_another_projection_is_refused_also_where_the_kind_is_known(tmp_path):
    made = Banked(tmp_path)
    folder = made.add("cats", "fastfood")
    edit(folder, "projection_checksum", spoiled)
    assert "fixed projection" in refused(made, folder)
    assert "fixed projection" in refused(Banked(tmp_path / "empty"), folder)


def test_stored_arrays_are_read_once_and_stand_beside_drawn_ones(tmp_path, monkeypatch):
    made, inputs = Banked(tmp_path), inputs_for("mixed")
    made.add("a", "fastfood", seed=1)
    other = Banked(tmp_path / "other")
    draw = arrays_module.draw_arrays
    with monkeypatch.context() as patch:  # another random generator than this machine's
        patch.setattr(
            arrays_module,
            "draw_arrays",
            lambda kind, grid, m, seed, group: draw(kind, grid, m, seed + 1, group),
        )
        folders = [other.add(name, "fastfood", seed=i, store_projection=True) for i, name in enumerate("bc")]
    made.deltas |= other.deltas
    made.bank.add("b", folders[0])
    (folders[1] / "adapter_projection.safetensors").unlink()
    made.bank.add("c", folders[1])
    assert len(made.bank._pool._kinds) == 2
    weights = {"a": 1.0, "b": 0.5, "c": -1.0}
    made.bank.use(weights)
    close(*made.outputs(weights, inputs))


def test_another_method_is_refused(tmp_path):
    made = Banked(tmp_path)
    folder = made.add("cats", "lora")
    described = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**described, "kind": "peer", "method": "peft"}))
    assert "no SuperLoRA adapter but method 'peft'" in refused(made, folder)


def test_the_base_is_looked_at_once_and_another_one_is_warned_of(tmp_path, monkeypatch):
    looked = []
    seen = bank_module.fingerprint
    monkeypatch.setattr(bank_module, "fingerprint", lambda weights: looked.append(1) or seen(weights))
    made = Banked(tmp_path)
    for seed in range(3):
        made.add(str(seed), "lora", seed=seed)
    made.bank.use({"0": 1.0, "1": 1.0})
    made.bank.merge()
    made.add("3", "lora", seed=3)
    assert len(looked) == 1
    with torch.no_grad():
        made.base.stem.weight.add_(1.0)
    with pytest.warns(UserWarning, match="another base") as caught:
        made.add("4", "lora", seed=4)
    assert "4" in made.bank and caught[0].filename.endswith("banks.py"), "it points at whoever added it"


def test_the_fingerprint_is_of_the_base_while_something_is_merged(tmp_path):
    made = Banked(tmp_path)
    folder = made.add("cats", "lora")
    other = AdapterBank(made.model)
    made.bank.use({"cats": 50.0})
    made.bank.merge()
    other.add("cats", folder)  # no warning


def test_a_replaced_layer_is_told_and_leaves_the_base(tmp_path):
    made = Banked(tmp_path)
    made.add("cats", "lora")
    made.add("dogs", "kron")
    made.bank.use("cats")
    made.bank.use({"dogs": 1.0})
    made.model.blocks[0].to_k = torch.nn.Linear(6, 6)
    with pytest.raises(AdapterError, match=r"layer 'blocks\.0\.to_k' of the network was replaced"):
        made.bank.use("cats")
    assert made.bank.active == {} and host_of(made.model) is None


# ---------------------------------------------------------------- memory


def tensors_alive() -> dict[int, int]:
    """Bytes of every distinct memory that a tensor holds now."""
    gc.collect()
    alive = (value for value in gc.get_objects() if type(value) in (torch.Tensor, torch.nn.Parameter))
    return {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in alive}


def held(model) -> tuple:
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    sources = [len(getattr(m, "superlora_sources", ())) for m in model.modules()]
    return len(list(model.modules())), hooks, sources, len(host_of(model).adapters)


def test_a_hundred_switches_leave_nothing_behind(tmp_path):
    made, inputs = Banked(tmp_path), inputs_for("mixed")
    settings = ["fastfood", "lora"] * 2 + ["kron", "tanh", "group"]
    for seed, (name, setting) in enumerate(zip("abcdefg", settings, strict=True)):
        made.add(name, setting, seed=seed)
    choices = ["a", {"a": 1.0, "c": 0.5}, "b", {"e": 1.0, "f": 1.0, "g": 1.0, "a": 1.0}, {"d": 2.0}, None]

    def round_trip():
        for choice in choices:
            with made.bank.cached():
                made.bank.use(choice)
                with torch.no_grad():
                    output(made.model, inputs)
        made.bank.use({"c": 0.1, "d": 1.0})

    for _ in range(3):
        round_trip()
    before, bytes_before = held(made.model), sum(tensors_alive().values())
    assert before[-1] == 2 and sum(before[1]) == 4
    for _ in range(17):
        round_trip()
    assert held(made.model) == before and sum(tensors_alive().values()) == bytes_before


def test_idle_slots_and_kinds_are_let_go_of(tmp_path):
    made = Banked(tmp_path)
    for seed in range(12):
        made.add(f"one {seed}", "fastfood", seed=seed)
    made.bank.use("one 0")
    alone = made.bank.nbytes
    made.bank.use({name: 1.0 for name in made.bank.names})
    assert made.bank.nbytes > alone + 11 * made.bank.num_parameters // 12 * 4 - 1
    made.bank.use("one 0")
    (kind,) = made.bank._pool._kinds
    assert len(kind._slots) == 1 + slots_module.SPARE_SLOTS
    for rank in range(1, 9):
        made.add(f"rank {rank}", "group", fields={"rank": rank, "projection": "fastfood"})
    last = made.bank.names[:-9:-1]
    for name in last:
        made.bank.use(name)
        close(*made.outputs({name: 1.0}, inputs_for("mixed")))  # made anew
    built = [slots for slots in made.bank._pool._kinds if slots._slots]
    assert len(built) == 1 + slots_module.SPARE_KINDS and len(made.bank._pool._kinds) == 9
    assert {id(slots) for slots in built} == {id(made.bank._entries[name].slots) for name in last[3:]}
    made.bank.use({"one 3": 1.0, "rank 1": 1.0})
    close(*made.outputs({"one 3": 1.0, "rank 1": 1.0}, inputs_for("mixed")))


PAPER = [(f"layers.{i}.to_{which}", side) for i, side in enumerate([64] * 5 + [128] * 16) for which in "qv"]


def test_a_thousand_adapters_of_the_paper_in_under_100_megabytes(tmp_path):
    spec = [(name, (side, side)) for name, side in PAPER]
    network = tree(spec)
    assert sum(side * side for _, side in PAPER) == 565_248
    first = tmp_path / "0"
    store(network, first, SuperLoRAConfig(variant="lorta", groups=12, order=3, rank=5))
    numbers = load_file(first / WEIGHTS)
    assert sum(value.numel() for value in numbers.values()) == 8_160
    bank, folder = AdapterBank(network), tmp_path / "next"
    before = tensors_alive()
    bank.add("0", first)
    folder.mkdir()
    shutil.copy(first / CONFIG, folder / CONFIG)
    for index in range(1, 1000):  # numbers of its own for each, from the same file written again
        numbers = {key: value + index for key, value in numbers.items()}
        save_file(numbers, folder / WEIGHTS)
        bank.add(str(index), folder)
    last = torch.cat([numbers[key].reshape(-1) for key in sorted(numbers)])
    del numbers
    bank.use({"999": 1.0, "0": 1.0})
    held_now = {place: size for place, size in tensors_alive().items() if place not in before}
    held_now = sum(held_now.values()) - last.untyped_storage().nbytes()
    assert len(bank) == 1000 and 1000 * 8_160 * 4 <= bank.nbytes < 34e6
    assert held_now == pytest.approx(bank.nbytes, rel=0.001), "what it says is what it holds"
    slot, _ = host_of(network).adapters.values()
    tensors = slot.tensors()
    assert torch.equal(torch.cat([tensors[key].detach().reshape(-1) for key in sorted(tensors)]), last)


def test_a_mixed_net_is_what_these_tests_think():
    assert len([m for m in mixed_net().modules() if isinstance(m, torch.nn.Conv2d)]) == 7, "conv targets too"
