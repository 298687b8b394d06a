"""Two adapters beside each other, against their joint update vectors written out."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_base, run_config

from superlora_diffusion import load_adapter
from superlora_diffusion.adapters.measures import compare
from superlora_diffusion.errors import AdapterError
from superlora_diffusion.peers.config import PeftSettings
from superlora_diffusion.runs.comparison import compare_adapters
from superlora_diffusion.runs.folder import RunFolder

from .adapters import save_ours, save_peer, tiny_base


def deltas(adapter) -> dict[str, torch.Tensor]:
    return {name: delta.detach().double() for name, delta in adapter.deltas().items()}


def joint_vectors(one, two):
    """The updates of both over the targets of either, zeros where one has none."""
    shapes = {name: delta.shape for name, delta in {**one, **two}.items()}
    filled = ([mine.get(name, torch.zeros(shape)) for name, shape in shapes.items()] for mine in (one, two))
    return tuple(torch.cat([delta.flatten().double() for delta in deltas]) for deltas in filled)


@pytest.fixture
def pair(tmp_path):
    one = save_ours(tmp_path / "one", None, 1, variant="lora", rank=2)
    two = save_ours(tmp_path / "two", None, 2, variant="lorta", rank=3, targets=["to_v", "to_k"], scale=0.5)
    return tmp_path / "one", tmp_path / "two", deltas(one), deltas(two)


def test_targets_of_both_and_of_one(pair):
    one, two, mine, theirs = pair
    found = compare_adapters(one, two)
    both = [name for name in mine if name in theirs]
    assert [target.name for target in found.targets] == both and len(both) == 4
    assert found.only_one == tuple(name for name in mine if name.endswith("to_q"))
    assert found.only_two == tuple(name for name in theirs if name.endswith("to_k"))
    assert found.unlike == found.problems == ()
    for target in found.targets:
        expected = compare(mine[target.name], theirs[target.name])
        assert target.closeness[:6] == pytest.approx(expected[:6]) and target.shape == (16, 16)
        spaces, others = target.closeness.subspaces, expected.subspaces
        assert spaces[1:] == pytest.approx(others[1:]) and spaces.directions == others.directions
        assert abs(expected.cosine) > 1e-4, "an angle of its own"


def test_the_joint_updates(pair):
    one, two, mine, theirs = pair
    joint = compare_adapters(one, two).joint
    a, b = joint_vectors(mine, theirs)
    assert joint.one_norm == pytest.approx(float(a.norm())) and joint.two_norm == pytest.approx(
        float(b.norm())
    )
    assert joint.distance == pytest.approx(float((a - b).norm()))
    assert joint.relative_distance == pytest.approx(float((a - b).norm() / max(a.norm(), b.norm())))
    assert joint.cosine == pytest.approx(float(a @ b / a.norm() / b.norm()))
    spaces = [compare(mine[name], theirs[name]).subspaces for name in mine if name in theirs]
    for name in ("left", "right", "left_by_chance", "right_by_chance"):
        assert getattr(joint, name) == pytest.approx(sum(getattr(each, name) for each in spaces) / 4)
    assert len({joint.left, joint.right, joint.left_by_chance}) == 3


def test_directions_of_the_base_are_read_off_it(tmp_path):
    base = tiny_base(tmp_path / "base")
    one = save_ours(tmp_path / "one", base, 1, variant="spectral", directions=3)
    two = save_ours(tmp_path / "two", tmp_path / "nowhere", 2, variant="lora", rank=2)
    joint = compare_adapters(tmp_path / "one", tmp_path / "two").joint
    a, b = joint_vectors(deltas(one), deltas(two))
    assert joint.distance == pytest.approx(float((a - b).norm())) and joint.one_norm == pytest.approx(
        float(a.norm())
    )
    (tmp_path / "base").rename(tmp_path / "moved")
    found = compare_adapters(tmp_path / "one", tmp_path / "two")
    assert found.joint is None and "its updates are read off its base" in found.problems[0]
    again = compare_adapters(tmp_path / "one", tmp_path / "two", base=str(tmp_path / "moved")).joint
    assert again == joint


def test_settings_that_differ(pair):
    one, two, *_ = pair
    found = compare_adapters(one, two)
    assert found.settings == {
        "variant": ("lora", "lorta"),
        "groups": ("weight", 1),
        "fold": ("none", "square"),
        "rank": (2, 3),
        "order": (2, 3),
        "core": ("identity", "full"),
        "targets": (["to_q", "to_v"], ["to_v", "to_k"]),
        "scale": (1.0, 0.5),
    }
    assert found.same_base is True


def test_a_setting_that_is_at_its_default_against_the_variants_value(tmp_path):
    """rank 4 is the default and 8 is lora's: told apart although neither was changed from both."""
    save_ours(tmp_path / "one", variant="lora", rank=4)
    save_ours(tmp_path / "two", variant="lora")
    assert compare_adapters(tmp_path / "one", tmp_path / "two").settings == {"rank": (4, 8)}


def test_one_with_itself(pair):
    one, *_ = pair
    found = compare_adapters(one, one)
    assert found.settings == {} and found.only_one == found.only_two == ()
    assert len(found.targets) == 8 and found.joint.relative_distance == 0
    assert found.joint.cosine == pytest.approx(1) and found.joint.left == pytest.approx(1)
    calls = []
    compare_adapters(one, one, on_target=lambda done, total: calls.append((done, total)))
    assert calls == [(number, 8) for number in range(1, 9)]


def test_the_number_of_directions(pair):
    one, two, *_ = pair
    found = compare_adapters(one, two, directions=1)
    assert {target.closeness.subspaces.directions for target in found.targets} == {(1, 1)}


def test_weights_of_other_shapes_are_targets_of_one_each(tmp_path):
    one = save_ours(tmp_path / "one", None, 1, variant="lora", rank=2)
    two = save_ours(tmp_path / "two", None, 2, variant="lora", rank=2)
    file = tmp_path / "two" / "adapter_config.json"
    described = json.loads(file.read_text())
    first = described["targets"][0]
    first["shape"] = [8, 16, 2, 1]  # as many columns as two times the rows: another matrix, and other tensors
    first["out_features"], first["in_features"] = 8, 32
    described["parameters"] += (8 + 32 - 16 - 16) * 2
    file.write_text(json.dumps(described))
    weights = tmp_path / "two" / "adapter_model.safetensors"
    numbers = load_file(weights)
    numbers["g0_k1_a1"], numbers["g0_k1_a2"] = torch.ones(8, 2), torch.ones(32, 2)
    save_file(numbers, weights)
    found = compare_adapters(tmp_path / "one", tmp_path / "two")
    assert found.unlike == (first["name"],) and len(found.targets) == 7
    assert found.only_one == found.only_two == ()
    mine, theirs = deltas(one), deltas(two)
    mine_first, theirs_first = mine.pop(first["name"]), torch.full((8, 32), 2.0)
    theirs.pop(first["name"])
    a, b = joint_vectors(mine, theirs)
    squares = float((a - b).square().sum() + mine_first.square().sum() + theirs_first.square().sum())
    assert found.joint.distance == pytest.approx(math.sqrt(squares))


def test_numbers_that_are_not_finite_leave_no_joint_update(pair):
    one, two, *_ = pair
    file = one / "adapter_model.safetensors"
    numbers = load_file(file)
    for name in (name for name in numbers if "_a1" in name):
        numbers[name][0, 0] = math.inf
    save_file(numbers, file)
    found = compare_adapters(one, two)
    assert found.joint is None and {target.closeness.distance for target in found.targets} == {None}
    json.dumps(found.as_dict(), allow_nan=False)
    alone = compare_adapters(two, one)
    assert alone.joint is None
    save_ours(two.parent / "three", None, 2, variant="lora", targets=["to_k"])
    assert compare_adapters(one, two.parent / "three").joint is None, "also where no target is shared"


def test_a_peer_is_read_off_its_base(tmp_path):
    base = tiny_base(tmp_path / "base")
    ours = save_ours(tmp_path / "ours", tmp_path / "nowhere", 1, variant="lora", rank=2)
    settings = PeftSettings(tuner="lora", options={"r": 3})
    peer = save_peer(tmp_path / "peer", "peft", settings, base)
    found = compare_adapters(tmp_path / "ours", tmp_path / "peer")
    assert found.joint is not None and found.problems == ()
    mine = deltas(ours)
    for target in found.targets:
        theirs = peer.network.get_submodule(target.name).get_delta_weight("default").detach()
        expected = compare(mine[target.name], theirs)
        assert target.closeness.cosine == pytest.approx(expected.cosine, abs=1e-5)
    assert found.settings["tuner"] == (None, "lora") and found.settings["rank"] == (2, None)
    assert "projection" not in found.settings, "of ours against another's, what was chosen is told"


def test_a_peer_without_its_base_leaves_the_rest(tmp_path):
    save_ours(tmp_path / "ours", None, 1, variant="lora", rank=2)
    save_peer(tmp_path / "peer", "bitfit", None, tmp_path / "nowhere")
    found = compare_adapters(tmp_path / "ours", tmp_path / "peer")
    assert found.joint is None and found.targets == ()
    assert len(found.problems) == 1 and "nowhere" in found.problems[0]
    assert found.settings["variant"] == ("lora", None)
    named = compare_adapters(tmp_path / "ours", tmp_path / "peer", base=str(tiny_base(tmp_path / "base")))
    assert named.problems == () and len(named.only_one) == 8 and len(named.only_two) > 8


def test_parameters_of_the_base_that_both_train_are_compared(tmp_path):
    base, place = tiny_base(tmp_path / "base"), "mid_block.attentions.0"
    ours = save_ours(
        tmp_path / "ours", None, 1, targets=["to_q", f"{place}.group_norm", "conv_out:bias"], order=1
    )
    settings = PeftSettings(tuner="lora", options={"r": 3, "bias": "all"})
    for folder, method, chosen in (("biases", "bitfit", None), ("both", "peft", settings)):
        peer = save_peer(tmp_path / folder, method, chosen, base)
        found = compare_adapters(tmp_path / "ours", tmp_path / folder)
        compared = {target.name: target for target in found.targets}
        vectors = {name for name in compared if ":" in name}
        assert vectors and vectors <= {f"{place}.group_norm:bias", "conv_out:bias"}, vectors
        assert f"{place}.group_norm:weight" in found.only_one
        assert (f"{place}.to_q" in compared) == (folder == "both")
        before = make_base().network
        for name in vectors:
            full = name.replace(":", ".")
            theirs = (peer.parameters[full] - before.get_parameter(full)).detach()
            expected = compare(deltas(ours)[name], theirs.double())
            assert compared[name].closeness.cosine == pytest.approx(expected.cosine, abs=1e-5)


def test_another_base_is_told(pair, tmp_path):
    one, two, *_ = pair
    file = two / "adapter_config.json"
    described = json.loads(file.read_text())
    described["base"]["fingerprint"]["values"][0] += 1
    file.write_text(json.dumps(described))
    assert compare_adapters(one, two).same_base is False
    described["base"]["fingerprint"] = None
    file.write_text(json.dumps(described))
    assert compare_adapters(one, two).same_base is None


def test_a_run_means_its_adapter_and_tells_its_history(pair, tmp_path):
    one, two, *_ = pair
    run = RunFolder(tmp_path / "run")
    run.claim(run_config(tmp_path))
    load_adapter(make_base().network, one).save_pretrained(run.adapter)
    found = compare_adapters(run.path, two)
    assert found.one.history.training["steps"] == 6 and found.two.history is None
    assert found.joint == compare_adapters(one, two).joint


def test_json_is_plain_and_whole(pair):
    one, two, *_ = pair
    found = compare_adapters(one, two)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["settings"]["rank"] == [2, 3] and told["same_base"] is True
    assert told["joint"] == found.joint._asdict() and told["problems"] == told["unlike"] == []
    assert len(told["only_one"]) == len(told["only_two"]) == 4
    first, subspaces = told["targets"][0], found.targets[0].closeness.subspaces
    assert first["name"] == found.targets[0].name and first["shape"] == [16, 16]
    assert first["subspaces"]["left"] == subspaces.left
    assert first["subspaces"]["directions"] == list(subspaces.directions)
    assert first["cosine"] == found.targets[0].closeness.cosine


def test_what_is_no_adapter_is_said(pair, tmp_path):
    with pytest.raises(AdapterError, match=r"gone"):
        compare_adapters(pair[0], tmp_path / "gone")
