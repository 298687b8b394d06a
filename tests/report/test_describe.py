"""A setting in words."""

from superlora_diffusion.report.collect import collect
from superlora_diffusion.report.describe import changed_values, shared_values, values_of
from superlora_diffusion.runs.config import RunConfig

from .material import write_data, write_run


def test_only_what_is_not_the_default_is_told():
    config = RunConfig(
        output="x", seed=7, adapter={"variant": "lorta", "rank": [2, "full", 2], "seed": 7},
        data={"name": "digits", "class_map": {"0": 1}}, train={"learning_rate": 0.00031},
    )  # fmt: skip
    assert changed_values(config) == {
        "data.name": "digits",
        "data.class_map": '{"0": 1}',
        "adapter.variant": "lorta",
        "adapter.order": "3",
        "adapter.rank": '[2, "full", 2]',
        "adapter.core": "full",
        "train.learning_rate": "0.00031",
    }
    assert changed_values(RunConfig(output="y")) == {}


def test_values_that_differ_between_seeds_are_all_told(tmp_path):
    data = write_data(tmp_path / "d.npz")
    write_run(tmp_path / "a", data, train={"learning_rate": 0.5})
    write_run(tmp_path / "b", data, seed=1, train={"learning_rate": 0.25})
    write_run(tmp_path / "c", data, seed=2, train={})
    values = values_of(collect([tmp_path]).runs)
    assert values["train.learning_rate"] == "0.5 | 0.25 | default" and values["data.name"] == f"npz:{data}"


def test_shared_values_are_those_of_all():
    assert shared_values([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1"}]) == {"a": "1"}
    assert shared_values([{"a": "1"}]) == {}
