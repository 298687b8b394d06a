import subprocess
import sys

import pytest

from superlora_diffusion.data.config import AugmentConfig, DataConfig, SynthDigitsConfig
from superlora_diffusion.errors import ConfigError


def test_importing_and_checking_loads_no_torch():
    code = (
        "import sys; from superlora_diffusion.data.config import DataConfig; DataConfig(name='svhn');"
        "import superlora_diffusion.data.loading;"
        "print([module for module in ('torch', 'matplotlib', 'PIL') if module in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("name", ["mnist-mini", "svhn", "imagefolder:/some where/else", "npz:x.npz"])
def test_known_names_pass(name):
    assert DataConfig(name=name).name == name


def test_unknown_name_lists_names_and_the_nearest():
    with pytest.raises(ConfigError) as caught:
        DataConfig(name="fashion-mnist", limit=0)
    message = str(caught.value)
    assert "'fashion-mnist'" in message and "Did you mean 'fashionmnist'?" in message
    assert all(name in message for name in ("usps", "cifar100", "imagefolder:PATH"))
    assert "limit: got 0" in message  # all faults at once


@pytest.mark.parametrize("name", ["npz:", "imagefolder:", "NPZ:x", "mnist:here", ""])
def test_half_a_name_is_refused(name):
    with pytest.raises(ConfigError, match="PATH"):
        DataConfig(name=name)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (AugmentConfig, {"shift": -1}),
        (AugmentConfig, {"shift": 1.5}),
        (AugmentConfig, {"rotate": 181}),
        (AugmentConfig, {"scale": 1.0}),
        (AugmentConfig, {"flips": True}),
        (SynthDigitsConfig, {"size": 4}),
        (SynthDigitsConfig, {"neighbours": 1.2}),
        (SynthDigitsConfig, {"seed": -1}),
        (SynthDigitsConfig, {"noise": float("nan")}),
        (DataConfig, {"class_map": {"0": -1}}),
    ],
)
def test_bad_values_name_their_field(config, values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        config(**values)


def test_class_map_takes_names_and_numbers():
    assert DataConfig(class_map={"cat": 3, 1: 0}).class_map == {"cat": 3, 1: 0}


def test_no_flips_unless_asked():
    assert AugmentConfig().is_identity and not AugmentConfig().flip


@pytest.mark.parametrize("template", ["{} and {}", "a {} of {name}", "a {0}", "{}}", ""])
def test_a_template_has_one_gap_or_none(template):
    with pytest.raises(ConfigError, match=r"caption_template: got .*expected one \{\}"):
        DataConfig(caption_template=template)
    for right in ("a {}, seen", "a photo of sks dog"):
        assert DataConfig(caption_template=right).caption_template == right


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("resolution", 12, 512),
        ("resolution", 0, 8),
        ("bucket_multiple", 60, 128),
        ("bucket_multiple", 0, 8),
        ("bucket_ratio", 0.5, 1.0),
    ],
)
def test_sizes_are_checked(name, wrong, right):
    with pytest.raises(ConfigError, match=f"{name}: got {wrong}"):
        DataConfig(**{name: wrong})
    assert getattr(DataConfig(**{name: right}), name) == right
