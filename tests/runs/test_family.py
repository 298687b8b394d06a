"""Families are told by structure: each variant is one of its own, and so are the published settings."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from superlora_diffusion.adapters.config import SuperLoRAConfig
from superlora_diffusion.adapters.variants import VARIANTS
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.runs.family import adapter_family, family_of


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_its_own_family_named_or_spelled_out(variant):
    named = RunConfig(output="x", adapter=SuperLoRAConfig(variant=variant))
    spelled = RunConfig(output="x", adapter=SuperLoRAConfig(**VARIANTS[variant]))
    assert family_of(named) == family_of(spelled) == variant


@pytest.mark.parametrize(
    ("values", "family"),
    [
        ({"groups": 8, "fold": "none", "rank": 13}, "group_lora"),
        ({"groups": 1, "side_multiple": 32, "rank": 7}, "group_lora"),
        ({"groups": "weight"}, "group_lora"),
        ({"groups": "layer", "fold": "none"}, "group_lora"),
        ({"groups": 4, "projection": "fastfood", "ratio": 0.5}, "group_lora+fastfood"),
        ({"groups": 4, "order": 3, "projection": "fastfood", "ratio": 0.01}, "lorta+fastfood"),
        ({"order": 2, "fold": "none", "projection": "singular", "directions": 64}, "group_lora+singular"),
        ({"groups": "weight", "order": 1, "projection": "singular"}, "spectral"),
        ({"groups": "weight", "fold": "none", "projection": "shuffle"}, "lora+shuffle"),
        ({"variant": "lora", "order": 3, "fold": "square"}, "lorta"),
        ({"order": 5, "core": "identity"}, "lorta"),
        ({"groups": 2, "splits": 2, "rank": 10}, "lonkr"),
        ({"groups": "weight", "splits": 3, "rank": 10}, "lonkr"),
        ({"variant": "lokr", "split_factor": 4}, "lokr"),
        ({"order": 1, "groups": 1, "projection": "fastfood", "ratio": 0.001}, "intrinsic"),
        ({"order": 1, "projection": "fastfood_tanh", "ratio": 0.1}, "dense+fastfood_tanh"),
        ({"order": 1, "projection": "shuffle"}, "dense+shuffle"),
    ],
)
def test_the_structure_decides(values, family):
    assert adapter_family(SuperLoRAConfig(**values)) == family


@pytest.mark.parametrize(
    ("values", "family"),
    [
        ({"method": "full"}, "full"),
        ({"method": "bitfit"}, "bitfit"),
        ({"method": "difffit"}, "difffit"),
        ({"method": "peft", "peft": SimpleNamespace(tuner="VeRA")}, "peft-vera"),
        ({"method": "lycoris", "lycoris": SimpleNamespace(algo="loha")}, "lycoris-loha"),
    ],
)
def test_other_methods_are_named_after_themselves(values, family):
    assert family_of(SimpleNamespace(**values)) == family


def test_naming_a_family_needs_no_torch():
    code = "import sys, superlora_diffusion.runs.family as f; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
