"""Every tuner of the installed PEFT on the tiny base: it trains, it can be had off, it comes back from disk."""

from __future__ import annotations

import pytest
import torch
from peft import PeftType

from superlora_diffusion.errors import AdapterError, ConfigError
from superlora_diffusion.peers import attach_peer, check_peer, load_peer
from superlora_diffusion.peers.config import REFUSED_TUNERS, PeftSettings
from superlora_diffusion.peers.peft_tuners import tuner_names

from .tiny_peers import SHAPES, assert_lives_as_a_peer, few_steps, network, numbers, output, peft

NEAR = 1e-4  # starts at the base but for rounding
# {tuner: (options that fit 16 x 16 weights, how far from the base it starts)}
WORKING = {
    "adamss": ({"num_subspaces": 2}, 0),
    "beft": ({}, 0),
    "boft": ({}, 0),
    "c3a": ({"block_size": 8}, 1),
    "deft": ({}, NEAR),
    "delora": ({}, 0),
    "fourierft": ({"n_frequency": 20}, 5),  # its spectrum starts random
    "frod": ({"progressbar": False}, 1),
    "glora": ({}, 0),
    "gralora": ({"r": 4}, 0),
    "hira": ({"r": 4}, 0),
    "hra": ({}, NEAR),
    "ia3": ({}, 0),
    "lily": ({"r": 4}, 0),
    "ln_tuning": ({}, 0),
    "loha": ({"r": 4}, 0),
    "lokr": ({}, 0),
    "lora": ({}, 0),
    "miss": ({"r": 4}, 0),
    "oft": ({"oft_block_size": 4}, 0),
    "osf": ({}, NEAR),
    "peanut": ({"r": 4}, 0),
    "psoft": ({"r": 4}, NEAR),
    "pvera": ({"r": 8}, 0),
    "randlora": ({"r": 4}, 0),
    "road": ({"group_size": 8}, 0),
    "shira": ({"r": 2}, 0),
    "supertuning": ({"sparsity": 0.9}, 0),
    "tinylora": ({}, 0),
    "unilora": ({"theta_d_length": 64}, NEAR),
    "vblora": ({"vector_length": 8, "num_vectors": 8}, 0.1),
    "vera": ({"r": 8}, 0),
    "waveft": ({"n_frequency": 16}, 0),
}


def test_the_table_knows_every_tuner_of_the_installed_peft():
    assert set(WORKING) == set(tuner_names())
    assert {kind.value.lower() for kind in PeftType} == set(WORKING) | set(REFUSED_TUNERS)


@pytest.mark.parametrize("tuner", WORKING)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_a_tuner_lives_as_a_peer(tuner, tmp_path):
    options, start = WORKING[tuner]
    peer = assert_lives_as_a_peer(lambda fresh: peft(tuner, on=fresh, **options), tmp_path, load_peer, start)
    assert len(peer.attached.layers) == len(SHAPES) and not peer.left_out
    assert peer.what.startswith(f"PEFT {tuner} on {len(SHAPES)} layers")


# Independent of PEFT: what each paper says trains for an (out, in) weight.
COUNTS = {
    "lora": ({"r": 3}, sum(3 * (out + inner) for out, inner in SHAPES)),
    "loha": ({"r": 3}, sum(2 * 3 * (out + inner) for out, inner in SHAPES)),
    "vera": ({"r": 5}, sum(out + 5 for out, _ in SHAPES)),
    "fourierft": ({"n_frequency": 30}, 30 * len(SHAPES)),
    "ia3": ({}, sum(out for out, _ in SHAPES)),
    "unilora": ({"theta_d_length": 40}, 40),
    "hra": ({"r": 4}, sum(4 * inner for _, inner in SHAPES)),
}


@pytest.mark.parametrize("tuner", COUNTS)
def test_counts_are_those_of_the_papers(tuner):
    options, count = COUNTS[tuner]
    assert peft(tuner, **options).num_parameters == count


def test_dora_adds_a_magnitude_a_row():
    plain, dora = peft("lora", r=2), peft("lora", r=2, use_dora=True)
    assert dora.num_parameters - plain.num_parameters == sum(out for out, _ in SHAPES)


@pytest.mark.parametrize("tuner", ["lora", "vera", "fourierft", "unilora", "waveft", "randlora"])
def test_another_seed_draws_another_start_and_another_frozen_state(tuner):
    one, other = (peft(tuner, seed, **WORKING[tuner][0]) for seed in (1, 2))
    states = [{**numbers(peer), **peer.fixed()} for peer in (one, other)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    if tuner != "lora":
        assert any(not torch.equal(value, other.fixed()[name]) for name, value in one.fixed().items())


def test_the_users_own_seed_of_the_frozen_state_wins():
    fixed = [peft("vera", seed, r=4, projection_prng_key=7).fixed() for seed in (1, 2)]
    assert fixed[0] and all(torch.equal(value, fixed[1][name]) for name, value in fixed[0].items())


@pytest.mark.parametrize(
    "options",
    [{"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}, {"bias": "all"}, {"use_dora": True},
     {"modules_to_save": ["conv_in"]}],
    ids=str,
)  # fmt: skip
def test_variants_of_lora_that_touch_the_base_leave_it_whole(options, tmp_path):
    peer = assert_lives_as_a_peer(
        lambda fresh: peft("lora", on=fresh, r=2, **options), tmp_path, load_peer, NEAR
    )
    beside = {"bias": "tensors of the network itself", "modules_to_save": "(conv_in.modules_to_save"}
    for key, words in beside.items():
        assert (words in peer.what) == (key in options or (key == "bias" and "modules_to_save" in options))


def test_frozen_random_state_comes_from_its_file_not_from_the_generator(tmp_path, monkeypatch):
    peer = peft("vera", r=4)
    few_steps(peer)
    peer.save(tmp_path)
    trained = output(peer.network)
    from superlora_diffusion.peers import peft_tuners

    monkeypatch.setattr(peft_tuners, "seed_for", lambda purpose, seed: 99)  # as another version might draw
    assert torch.equal(output(load_peer(network(), tmp_path).network), trained)
    assert not any("vera_A" in name or "vera_B" in name for name in peer.parameters)


def test_convolutions_and_norms_are_targets_where_the_tuner_takes_them():
    convolutions = peft("lora", targets=("conv1",), r=1)
    shapes = [tuple(m.weight.shape) for n, m in network().named_modules() if n.endswith("conv1")]
    assert convolutions.num_parameters == sum(out + i * 9 for out, i, *_ in shapes)
    norms = peft("ln_tuning", targets=("group_norm",))
    assert norms.num_parameters == 4 * 2 * 16


def test_a_tuner_that_refuses_says_so_with_the_librarys_words():
    with pytest.raises(
        AdapterError, match=r"PEFT's miss refuses to_q, to_v \(8 layers of 16 x 16\): `r` \(64\) must"
    ):
        peft("miss")
    with pytest.raises(AdapterError, match=r"ia3 refuses conv_norm_out"):
        peft("ia3", targets=("conv_norm_out",))
    with pytest.raises(AdapterError, match=r"'to_x'.*[Dd]id you mean"):
        peft("lora", targets=("to_x",))


def test_layers_left_out_are_told_and_stored(tmp_path):
    skipped = "mid_block.attentions.0.to_q"
    peer = peft("lora", exclude_modules=[skipped])
    assert list(peer.left_out) == [skipped] and len(peer.attached.layers) == 7
    assert any(skipped in note for note in peer.notes)
    peer.save(tmp_path)
    from superlora_diffusion.adapters.storage import read_adapter_config

    assert list(read_adapter_config(tmp_path)["left_out"]) == [skipped]


def test_what_the_library_warns_of_is_told():
    assert any("nothing" in note for note in peft("lora", rank_pattern={"nothing": 3}).notes)


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"lora_alhpa": 3}, "lora_alhpa", "Did you mean 'lora_alpha'?"),
        ({"r": "many"}, "r", "got 'many'"),
        ({"r": True}, "r", "got True"),
        ({"use_rslora": "perhaps"}, "use_rslora", "got 'perhaps'"),
        ({"target_modules": ["to_k"]}, "target_modules", "give peft.targets"),
        ({"init_lora_weights": "eva"}, "init_lora_weights", "a pass over data"),
        ({"init_lora_weights": "loftq"}, "", "loftq_config"),
    ],
)
def test_wrong_options_are_told_before_anything_is_attached(options, path, words):
    with pytest.raises(ConfigError) as caught:
        check_peer("peft", PeftSettings(options=options))
    ((where, text),) = caught.value.faults
    assert where == f"peft.options.{path}".rstrip(".") and words in text


def test_all_faults_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        check_peer("peft", PeftSettings(options={"rr": 1, "lora_dropout": "x"}))
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize("tuner", REFUSED_TUNERS)
def test_a_tuner_that_makes_no_sense_is_refused_with_the_reason(tuner):
    with pytest.raises(ConfigError, match=f"tuner: got '{tuner}', which "):
        PeftSettings(tuner=tuner)


def test_an_unknown_tuner_is_told_with_near_misses():
    with pytest.raises(ConfigError, match=r"peft.tuner: got 'vara'. Did you mean 'vera'\?"):
        check_peer("peft", PeftSettings(tuner="vara"))


def test_names_are_taken_in_any_case_and_one_target_needs_no_list():
    settings = PeftSettings(tuner="LoRA", targets="to_q")
    assert (settings.tuner, settings.targets) == ("lora", ("to_q",))
    assert attach_peer(network(), "peft", settings, 0).num_parameters == 4 * 8 * 32
