"""Every algorithm of the installed LyCORIS on the tiny base."""

from __future__ import annotations

import pytest

from superlora_diffusion.errors import AdapterError, ConfigError
from superlora_diffusion.peers import check_peer, load_peer
from superlora_diffusion.peers.config import REFUSED_ALGOS, LycorisSettings
from superlora_diffusion.peers.lycoris_modules import algo_names

from .tiny_peers import SHAPES, assert_lives_as_a_peer, lycoris

# {algorithm: (options, numbers that train, from each paper)}
WORKING = {
    "lora": ({"lora_dim": 3}, sum(3 * (out + inner) for out, inner in SHAPES)),
    "locon": ({"lora_dim": 2}, sum(2 * (out + inner) for out, inner in SHAPES)),
    "loha": ({"lora_dim": 3}, sum(2 * 3 * (out + inner) for out, inner in SHAPES)),
    "lokr": ({"factor": 4, "lora_dim": 1}, sum(16 + 4 + 4 for _ in SHAPES)),
    "glora": ({"lora_dim": 2}, sum(2 * (out + inner) + 2 * 2 * inner for out, inner in SHAPES)),
    "ia3": ({}, sum(out for out, _ in SHAPES)),
    "diag-oft": ({"lora_dim": 4}, sum(out * 4 for out, _ in SHAPES)),
    "boft": ({"lora_dim": 4}, None),
}


@pytest.mark.parametrize("algo", WORKING)
def test_an_algorithm_lives_as_a_peer(algo, tmp_path, capsys):
    options, count = WORKING[algo]
    peer = assert_lives_as_a_peer(lambda fresh: lycoris(algo, on=fresh, **options), tmp_path, load_peer)
    assert count is None or peer.num_parameters == count
    assert peer.what == f"LyCORIS {algo} on {len(SHAPES)} layers" and not peer.left_out
    assert capsys.readouterr().out == ""  # standard output is for results


def test_the_table_knows_every_algorithm_of_the_installed_lycoris():
    assert set(WORKING) == set(algo_names())


def test_convolutions_are_targets_too():
    assert lycoris("lora", targets=("conv1", "to_q")).num_parameters > lycoris("lora").num_parameters


def test_what_an_algorithm_refuses_is_told():
    with pytest.raises(
        AdapterError, match=r"LyCORIS's lora refuses group_norm \(4 layers\).*groupnorm is not supp"
    ):
        lycoris("lora", targets=("group_norm",))
    part = lycoris("lora", targets=("to_q", "group_norm"))
    assert len(part.attached.layers) == 4 and set(part.left_out.values()) == {
        "groupnorm is not supported in LoRA/LoCon algo."
    }
    assert len(part.notes) == 1 and all(name in part.notes[0] for name in part.left_out)


def test_what_the_library_says_is_told_and_not_printed(capsys):
    notes = lycoris("lokr", lora_dim=64, factor=4).notes
    assert any("full matrix" in note for note in notes) and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"lora_dimm": 3}, "lora_dimm", "Did you mean 'lora_dim'?"),
        ({"lora_dim": "many"}, "lora_dim", "got 'many'"),
        ({"use_scalar": 7}, "use_scalar", "got 7"),
        ({"org_module": 7}, "org_module", "give lycoris.targets"),
    ],
)
def test_wrong_options_are_told(options, path, words):
    with pytest.raises(ConfigError) as caught:
        check_peer("lycoris", LycorisSettings(algo="lora", options=options))
    ((where, text),) = caught.value.faults
    assert where == f"lycoris.options.{path}" and words in text


@pytest.mark.parametrize("algo", REFUSED_ALGOS)
def test_an_algorithm_that_makes_no_sense_is_refused_with_the_reason(algo):
    with pytest.raises(ConfigError, match=f"algo: got '{algo}', which "):
        LycorisSettings(algo=algo)


def test_an_unknown_algorithm_is_told_with_near_misses():
    with pytest.raises(ConfigError, match=r"lycoris.algo: got 'lokar'. Did you mean 'lokr'\?"):
        check_peer("lycoris", LycorisSettings(algo="lokar"))
