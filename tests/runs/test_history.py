"""What a run tells of its adapter."""

from __future__ import annotations

import json

import pytest
from tiny import run_config

from superlora_diffusion.runs.folder import RunFolder
from superlora_diffusion.runs.history import find_run, history_of
from superlora_diffusion.runs.inspection import inspect_adapter
from superlora_diffusion.runs.loading import to_yaml
from superlora_diffusion.runs.published import RUN_CONFIG

from .adapters import save_ours

METRICS = [
    {"step": 2, "loss": 0.5, "learning_rate": 0.01, "steps_per_second": 4.0},
    {"step": 3, "validation_loss": 0.45},
    {"step": 4, "loss": 0.3, "learning_rate": 0.01, "steps_per_second": 1.0},
    {"step": 6, "loss": 0.2, "learning_rate": 0.0, "steps_per_second": 8.0},
    {"step": 6, "validation_loss": 0.25},
]


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim(run_config(tmp_path, train={"weight_decay": 0.5}))
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in METRICS) + '{"step": 7, "lo')
    save_ours(run.adapter, variant="lora", rank=2)
    return run


def record(name, parameters, weights=None, **scores):
    return {"name": name, "parameters": parameters, "settings": {"weights": weights}, "kid": None, **scores}


def weights(run) -> str:
    return inspect_adapter(run.path).sha256


def test_how_it_was_trained(run):
    found = inspect_adapter(run.path).history
    assert found.folder == run.path and found.problems == ()
    told = found.training
    assert (told["learning_rate"], told["steps"], told["batch_size"]) == (0.02, 6, 4)
    assert told["weight_decay"] == 0.5 and told["lr_schedule"] == "cosine"
    assert "min_snr_gamma" not in told and "compile" not in told, "what is off is not told"
    # 2 steps at 4 a second, 2 at 1 and 2 at 8; the last losses.
    assert found.outcome == {"loss": 0.2, "validation_loss": 0.25, "seconds": 2.8}


def test_scores_of_these_weights_beside_the_base(run):
    ours = weights(run)
    records = [
        record("base", 0, "other base", fid=9.0),
        record("run", 512, ours[:12], fid=3.0),
        record("run", 512, "0123456789ab", fid=2.0),
    ]
    run.scores.write_text(json.dumps(records))
    found = inspect_adapter(run.path).history
    assert [(entry["name"], entry["fid"]) for entry in found.scores] == [("base", 9.0), ("run", 3.0)]
    assert all("kid" not in entry for entry in found.scores)
    assert len(found.problems) == 1 and "scores of other weights (1)" in found.problems[0]
    run.scores.write_text(json.dumps([records[0], records[2]]))
    assert inspect_adapter(run.path).history.scores == (), "the base alone is no comparison"
    run.scores.write_text(json.dumps([{"name": "run", "parameters": 512, "fid": 4.0}]))
    assert inspect_adapter(run.path).history.scores[0]["fid"] == 4.0, "an old record says no weights"


def test_what_cannot_be_read_is_said(run):
    for text in ("{", "{}", "[1]", '[{"name": "run"}]'):
        run.scores.write_text(text)
        found = inspect_adapter(run.path).history
        assert found.scores == () and "scores.json cannot be read" in found.problems[0], text
    run.scores.unlink()
    run.config.write_text("output: [")
    found = inspect_adapter(run.path).history
    assert found.training == {} and "config.yaml cannot be read" in found.problems[0]
    assert found.outcome["loss"] == 0.2


def test_the_best_step_has_no_last_loss(run):
    save_ours(run.best, variant="lora", rank=2, seed=1)
    (run.best / "best.json").write_text(json.dumps({"step": 4, "by": "fid", "score": 3.5, "scores": {}}))
    found = inspect_adapter(run.best).history
    assert found.outcome == {"step": 4, "by": "fid", "score": 3.5} and found.training["steps"] == 6


def test_whose_run_it_is(run, tmp_path):
    assert find_run(run.adapter).path == run.path == find_run(run.best).path
    assert find_run(tmp_path / "run/other") is None
    save_ours(tmp_path / "alone", variant="lora", rank=2)
    assert inspect_adapter(tmp_path / "alone").history is None
    run.config.unlink()
    assert find_run(run.adapter) is None


def test_what_was_published_with_it(run, tmp_path):
    folder = tmp_path / "published"
    save_ours(folder, variant="lora", rank=2)
    (folder / RUN_CONFIG).write_text(to_yaml(run.read_config()))
    found = history_of(folder, "")
    assert found.training["weight_decay"] == 0.5 and found.outcome == {} and found.scores == ()
    (folder / RUN_CONFIG).write_text("output: [")
    assert "cannot be read" in history_of(folder, "").problems[0]


def test_json_is_plain(run):
    run.scores.write_text(json.dumps([record("run", 512, weights(run)[:12], fid=3.0)]))
    found = inspect_adapter(run.path)
    told = json.loads(json.dumps(found.as_dict()))["history"]
    assert told["folder"] == str(run.path) and told["scores"][0]["fid"] == 3.0 and told["problems"] == []
