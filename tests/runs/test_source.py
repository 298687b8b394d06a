"""What images are drawn from: an adapter folder on its own remembers how its base was read."""

from __future__ import annotations

import json

import pytest
from tiny import run_config, write_base, write_data

from superlora_diffusion.errors import ConfigError
from superlora_diffusion.models.storage import CARD
from superlora_diffusion.runs.source import open_source
from superlora_diffusion.training.loop import train


@pytest.fixture
def foreign_run(tmp_path):
    """A finished run on a base that does not say what its classes mean, as other people's do."""
    write_base(tmp_path / "base")
    (tmp_path / "base" / CARD).unlink()
    write_data(tmp_path / "data.npz")
    base = {"path": str(tmp_path / "base"), "null_class": 4, "class_names": ["ash", "birch", "cedar", "oak"]}
    train(run_config(tmp_path, base=base, train={"steps": 1}), device="cpu", quiet=True)
    return tmp_path / "run"


def test_an_adapter_folder_remembers_the_null_class_and_names_of_its_base(foreign_run):
    base = open_source(str(foreign_run / "adapter")).base
    assert (base.null_class, base.class_names) == (4, ("ash", "birch", "cedar", "oak"))


def test_another_base_is_read_as_it_says_itself(foreign_run, tmp_path):
    write_base(tmp_path / "other")
    base = open_source(str(foreign_run / "adapter"), str(tmp_path / "other")).base
    assert base.name == str(tmp_path / "other") and base.null_class == 4


def test_a_base_beside_a_source_without_adapter_is_refused(tmp_path):
    write_base(tmp_path / "base")
    with pytest.raises(ConfigError, match=r"goes with an adapter"):
        open_source(str(tmp_path / "base"), "other")


def test_an_adapter_without_the_newer_field_still_opens(foreign_run):
    file = foreign_run / "adapter" / "adapter_config.json"
    described = json.loads(file.read_text())
    del described["base"]["settings"]
    file.write_text(json.dumps(described))
    assert (
        len(open_source(str(foreign_run / "adapter")).base.class_names) == 5
    )  # the null class counts as one
