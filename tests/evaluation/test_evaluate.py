"""``eval-is`` below the command line, on tiny runs with the real extractor."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import run_config, write_base, write_data

from superlora_diffusion.errors import ConfigError, DataError, EvaluationError, RunError
from superlora_diffusion.evaluation import evaluate, protocol
from superlora_diffusion.evaluation.evaluate import Request, evaluate_run
from superlora_diffusion.evaluation.scores import compute_scores
from superlora_diffusion.training.loop import train

ROUGH = {"steps": 3, "batch_size": 4, "learning_rate": 0.3, "lr_schedule": "constant", "warmup_steps": 0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny base, data, two runs with adapters on it and one of method full."""
    folder = tmp_path_factory.mktemp("scoring")
    write_base(folder / "base")
    write_data(folder / "data.npz", train=20, test=14)
    for name, sections in {
        "one": {},
        "two": {"seed": 1, "adapter": {"variant": "lora", "rank": 1}},
        "full": {"method": "full"},
    }.items():
        train(run_config(folder, output=str(folder / name), train=ROUGH, **sections), "cpu", quiet=True)
    return folder


@pytest.fixture
def scored(place, tmp_path, monkeypatch):
    """Scores a copy of a run (so that tests do not see each other's files); counts the images drawn."""
    drawn, real = [], protocol.generate_batches

    def counted(*arguments):
        batches = list(real(*arguments))
        drawn.append((arguments, np.concatenate(batches)))
        return iter(batches)

    monkeypatch.setattr(protocol, "generate_batches", counted)

    def run(*names, again=False, **request):
        records = []
        for name in names:
            copy = tmp_path / name
            if not copy.exists():
                copy.mkdir()
                for file in ("config.yaml", "adapter", "base"):
                    if (place / name / file).exists():
                        (copy / file).symlink_to(place / name / file)
            records += evaluate_run(str(copy), Request(again=again, **request), records)
        return records

    run.drawn = drawn
    return run


def stored(folder):
    return json.loads((folder / "scores.json").read_text())


def test_base_and_adapter_are_scored_alike_and_written_down(scored, tmp_path, extractor):
    base, adapter = scored("one")
    assert (base.name, base.parameters) == ("base", 0)
    assert (adapter.name, adapter.parameters) == ("one", 512)
    assert [entry["name"] for entry in stored(tmp_path / "one")] == ["base", "one"]
    wanted = "name parameters is_mean is_std is_real is_distance fid accuracy n splits seed extractor"
    wanted = set(wanted.split())
    assert all(wanted <= set(entry) for entry in stored(tmp_path / "one"))
    for record in (base, adapter):
        assert (record.n, record.splits, record.seed, record.extractor) == (8, 2, 0, "digits")
        assert record.is_real == base.is_real and record.extractor_hash == extractor.hash
        assert record.is_distance == pytest.approx(abs(record.is_mean - record.is_real))
        assert record.is_mean >= 1 and record.fid > 0
    assert adapter.fid != base.fid and adapter.is_mean != base.is_mean


def test_the_scores_are_those_of_the_images_drawn(scored, place, extractor):
    records = scored("one")
    with np.load(place / "data.npz") as data:
        held_out = data["split"] == 1
        real, labels = data["images"][held_out], data["labels"][held_out]
    assert np.abs(scored.drawn[0][1].astype(int) - scored.drawn[1][1]).max() > 1
    for record, (arguments, images) in zip(records, scored.drawn, strict=True):
        scores = compute_scores(images, arguments[1], real, labels, extractor, 2, 0)
        assert (record.is_mean, record.fid) == pytest.approx((scores.is_mean, scores.fid))
        assert (record.is_real, record.accuracy) == pytest.approx((scores.is_real, scores.accuracy))


def test_classes_come_in_the_datas_proportions_evenly_spread(scored):
    scored("one", images=14)
    classes = scored.drawn[0][0][1]
    assert np.bincount(classes).tolist() == [4, 4, 3, 3]  # 14 test images of 4 classes
    assert all(len(set(classes[start : start + 5].tolist())) == 4 for start in (0, 5, 9))


def test_a_second_call_draws_nothing_and_again_draws_all(scored, tmp_path):
    first = scored("one")
    assert len(scored.drawn) == 2
    assert scored("one") == first and len(scored.drawn) == 2
    assert scored("one", again=True) == first and len(scored.drawn) == 4
    assert len(stored(tmp_path / "one")) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"images": 6},
        {"splits": 4},
        {"seed": 1},
        {"sampling": {"steps": 3}},
        {"real": "half"},
        {"sampling": {"precision": "bf16"}},
    ],
)
def test_another_protocol_is_another_measurement(scored, tmp_path, other):
    scored("one")
    if other.get("real"):
        other = {"real": f"npz:{write_data(tmp_path / 'half.npz', test=9)}"}
    records = scored("one", **other)
    assert len(scored.drawn) == 4 and len(stored(tmp_path / "one")) == 4
    assert [record.name for record in records] == ["base", "one"]


def test_base_or_adapter_alone(scored, tmp_path):
    both = scored("one")
    scored.drawn.clear()
    assert scored("one", only="base", again=True) == both[:1]
    assert scored("one", only="adapter", again=True) == both[1:]
    assert len(scored.drawn) == 2 and len(stored(tmp_path / "one")) == 2
    assert [record.name for record in scored("full", only="adapter")] == ["full"]
    with pytest.raises(EvaluationError, match="no base beside it"):
        scored("full", only="base")


def test_metrics_asked_for_later_are_added_and_none_is_lost(scored, tmp_path):
    (first,) = scored("one", metrics="fid,is", only="adapter")
    assert (first.metrics, first.kid) == (("is", "fid"), None) and first.fid > 0
    assert first.libraries["torch-fidelity"] and first.libraries["superlora-diffusion"]
    (second,) = scored("one", metrics=["kid"], only="adapter")
    assert second.metrics == ("is", "fid", "kid") and second.kid is not None and second.fid == first.fid
    assert len(scored.drawn) == 2
    assert scored("one", metrics=["is", "kid"], only="adapter") == [second] and len(scored.drawn) == 2
    (third,) = scored("one", metrics=["prc"], only="adapter", again=True)
    assert third.metrics == ("is", "fid", "kid", "prc") and len(stored(tmp_path / "one")) == 1
    with pytest.raises(ConfigError, match=r"metrics: got 'fit'\. Did you mean 'fid'\?"):
        scored("one", metrics="is,fit")


@pytest.mark.parametrize("option", [{"batch_size": 3}, {"channels_last": True}, {"compile": True}])
def test_what_changes_speed_alone_is_no_part_of_the_protocol(scored, option):
    (base, _) = scored("one")
    assert not {"precision", *option} & set(base.settings), "records are those of before there was a choice"
    scored("one", sampling=option)
    assert len(scored.drawn) == 2


@pytest.mark.parametrize("again", [False, True])
def test_runs_on_one_base_share_its_record(scored, tmp_path, again):
    records = scored("one", "two", again=again)
    assert [record.name for record in records] == ["base", "one", "base", "two"]
    assert len(scored.drawn) == 3 and records[0] == records[2]
    assert [entry["name"] for entry in stored(tmp_path / "two")] == ["base", "two"]


def test_a_base_that_changed_is_drawn_anew(scored, place, tmp_path, monkeypatch):
    scored("one")
    monkeypatch.setattr(evaluate, "base_digest", lambda base: "otherweights")
    assert scored("one")[0].settings["weights"] == "otherweights"
    assert len(scored.drawn) == 3


def test_a_base_fine_tuned_whole_is_one_record_with_all_its_weights(scored, place):
    from superlora_diffusion.runs.source import open_source

    (record,) = scored("full")
    count = sum(parameter.numel() for parameter in open_source(str(place / "full")).base.network.parameters())
    assert (record.name, record.parameters) == ("full", count) and count > 1000 and len(scored.drawn) == 1


def test_the_network_is_the_base_again_afterwards(place, tmp_path):
    from superlora_diffusion.evaluation.evaluate import _models
    from superlora_diffusion.runs.source import base_digest, open_source

    source = open_source(str(place / "one"))
    before = base_digest(source.base)
    for _, _, _, context in _models(source):
        with context():
            pass
    assert base_digest(source.base) == before and not source.adapter.is_merged


def test_unconditional_bases_are_scored_without_accuracy(scored, place, tmp_path):
    write_base(tmp_path / "free", classes=0)
    config = run_config(
        place, output=str(tmp_path / "run"), base={"path": str(tmp_path / "free")}, train=ROUGH
    )
    train(config, "cpu", quiet=True)
    records = evaluate_run(str(tmp_path / "run"), Request(), [])
    assert [record.accuracy for record in records] == [None, None] and records[0].fid > 0


def test_what_cannot_be_scored_is_said(scored, place, tmp_path):
    with pytest.raises(EvaluationError, match=r"nowhere is no run folder"):
        evaluate_run(str(tmp_path / "nowhere"), Request(), [])
    with pytest.raises(EvaluationError, match=r"base is no run folder"):
        evaluate_run(str(place / "base"), Request(), [])
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text((place / "one" / "config.yaml").read_text())
    with pytest.raises(RunError, match=r"half is not finished"):
        evaluate_run(str(tmp_path / "half"), Request(), [])
    with pytest.raises(EvaluationError, match=r"splits"):
        scored("one", splits=9)
    with pytest.raises(DataError, match=r"gone.npz"):
        scored("one", real="npz:gone.npz")
    (tmp_path / "one" / "scores.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"scores.json"):
        scored("one")


def test_progress_is_told(place, tmp_path):
    (tmp_path / "one").mkdir()
    for file in ("config.yaml", "adapter"):
        (tmp_path / "one" / file).symlink_to(place / "one" / file)
    told = []
    request = Request(sampling={"batch_size": 5})
    evaluate_run(str(tmp_path / "one"), request, [], lambda *start: told.append(start), told.append)
    assert told == [("base", 8), 5, 3, ("one", 8), 5, 3]
