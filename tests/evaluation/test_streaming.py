"""Batches in place of all images: the same rows, the same scores, a batch in memory; and images kept on the way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tracemalloc
import weakref
import zipfile

import numpy as np
import pytest
import torch
from tiny import make_base, run_config, write_base, write_data

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.errors import EvaluationError, SuperLoRAError
from superlora_diffusion.evaluation import processes
from superlora_diffusion.evaluation.evaluate import Request, evaluate_run
from superlora_diffusion.evaluation.features import stream_features
from superlora_diffusion.evaluation.processes import slice_of
from superlora_diffusion.evaluation.protocol import make_protocol, score_model
from superlora_diffusion.evaluation.saving import save_passing
from superlora_diffusion.evaluation.scores import compute_scores
from superlora_diffusion.sampling.producer import generate, generate_batches
from superlora_diffusion.training.loop import train

EVALUATION = {"images": 26, "splits": 2, "extractor": "digits", "seed": 3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny base and data with 30 test images, and a finished run ``run``."""
    folder = tmp_path_factory.mktemp("streaming")
    write_base(folder / "base")
    write_data(folder / "data.npz", train=20, test=30)
    train(run_config(folder, evaluation=EVALUATION, train={"steps": 2}), "cpu", quiet=True)
    return folder


def protocol_with(place, batch_size=100):
    config = run_config(place, evaluation=EVALUATION, sampling={"steps": 2, "batch_size": batch_size})
    return make_protocol(make_base(), config, config.evaluation)


def test_streamed_scores_are_those_of_all_images_at_once(place, extractor):
    protocol = protocol_with(place, batch_size=7)
    base = make_base()
    streamed = score_model(base, protocol, protocol.settings.metrics)
    images = generate(base, protocol.classes, 26, protocol.sampling, seed=3)
    real = protocol.real
    whole = compute_scores(images, protocol.classes, real.images, real.labels, extractor, 2, 3)
    assert streamed.fid > 0 and streamed.n == whole.n == 26
    for name, value in vars(whole).items():
        numeric = isinstance(value, float) or name.endswith("_interval")
        expected = pytest.approx(value, rel=1e-4, abs=1e-6) if numeric else value
        assert getattr(streamed, name) == expected, name


def test_one_batch_is_held_at_a_time(place, monkeypatch):
    """When a batch is asked for, at most the one before is still alive."""
    drawn, alive = [], []

    def counted(*arguments):
        for batch in generate_batches(*arguments):
            alive.append(sum(batch() is not None for batch in drawn))
            drawn.append(weakref.ref(batch))
            yield batch

    monkeypatch.setattr("superlora_diffusion.evaluation.protocol.generate_batches", counted)
    score_model(make_base(), protocol_with(place, batch_size=2), ("fid",))
    assert len(alive) == 13 and max(alive) <= 2


def test_memory_for_images_does_not_grow_with_their_number(extractor):
    def peak(count: int) -> int:
        batches = (np.zeros((10, 64, 64, 3), dtype=np.uint8) for _ in range(count // 10))
        tracemalloc.start()
        stream_features(batches, None, extractor)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)
    assert peak(200) < peak(40) + 40 * 64 * 64 * 3


@pytest.mark.parametrize(
    ("count", "batch", "parts"), [(26, 7, 2), (26, 7, 3), (5, 10, 3), (40, 10, 4), (1, 1, 2)]
)
def test_slices_are_whole_batches_and_cover_every_image_once(count, batch, parts):
    slices = [slice_of(count, batch, rank, parts) for rank in range(parts)]
    covered = [i for part in slices for i in range(part.start, part.stop)]
    assert covered == list(range(count))
    assert all(part.start % batch == 0 or part.start == count for part in slices)


@pytest.mark.parametrize("parts", [2, 3])
def test_slices_joined_are_the_rows_of_one_process(place, monkeypatch, parts):
    protocol, base, found = protocol_with(place, batch_size=7), make_base(), []
    monkeypatch.setattr(
        "superlora_diffusion.evaluation.protocol.joined", lambda mine, labels: found.append(mine) or whole
    )
    whole = stream_features(
        generate_batches(base, protocol.classes, 26, protocol.sampling, 3),
        protocol.classes,
        protocol.extractor,
    )
    for rank in range(parts):
        monkeypatch.setattr(
            "superlora_diffusion.evaluation.protocol.rank_and_count", lambda rank=rank: (rank, parts)
        )
        score_model(base, protocol, ("fid",))
    assert len(found) == parts and all(len(rows) < 26 for rows in found)
    assert torch.equal(torch.cat([rows.features for rows in found]), whole.features)
    assert torch.equal(torch.cat([rows.logits for rows in found]), whole.logits)


@pytest.mark.slow
def test_two_launched_processes_give_the_scores_of_one(place, tmp_path):
    """Really launched, by the environment that `accelerate launch` and torchrun set."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file in ("config.yaml", "adapter"):
            (tmp_path / name / file).symlink_to(place / "run" / file)
    words = ["--json", "--device", "cpu", "--only", "adapter"]
    evaluate_run(str(tmp_path / "one"), Request(sampling={"batch_size": 7}, only="adapter"), [])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    started = []
    for rank in range(2):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        command = [sys.executable, "-m", "superlora_diffusion", "eval-is", str(tmp_path / "two"), *words]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    (one,) = json.loads((tmp_path / "one/scores.json").read_text())
    (two,) = json.loads((tmp_path / "two/scores.json").read_text())
    assert json.loads(said[0][0]) == [two] and said[1][0] == b""
    assert {**two, "name": "one"} == one


# --- images kept on the way ---------------------------------------------------------------------------------


def test_kept_images_are_a_data_set_and_the_ones_that_were_scored(place, tmp_path):
    (tmp_path / "one").mkdir()
    for file in ("config.yaml", "adapter"):
        (tmp_path / "one" / file).symlink_to(place / "run" / file)
    request = Request(save_images=True, only="base", sampling={"batch_size": 7})
    (first,) = evaluate_run(str(tmp_path / "one"), request, [])
    (file,) = (tmp_path / "one/samples").iterdir()
    assert file.name.startswith("scored-base-") and file.suffix == ".npz"
    config = run_config(place, evaluation=EVALUATION)
    protocol = make_protocol(make_base(), config, config.evaluation)
    with np.load(file) as stored:
        # In the same batches: in others some processors round the last bit otherwise, which may turn a level of 255.
        sampling = protocol.sampling.model_copy(update=request.sampling)
        wanted = generate(make_base(), protocol.classes, 26, sampling, seed=3)
        assert np.array_equal(stored["images"], wanted) and np.array_equal(stored["labels"], protocol.classes)
        in_others = generate(make_base(), protocol.classes, 26, protocol.sampling, seed=3)
        assert np.abs(in_others.astype(int) - wanted).max() <= 1
        assert stored["class_names"].tolist() == ["ash", "birch", "cedar", "oak"]
    both = [load_image_set(DataConfig(name=f"npz:{file}"), split) for split in ("train", "test")]
    assert sum(map(len, both)) == 26
    before = file.stat().st_mtime_ns
    assert evaluate_run(str(tmp_path / "one"), request, []) == [first]
    assert file.stat().st_mtime_ns == before  # there already, so nothing is drawn
    file.unlink()
    evaluate_run(str(tmp_path / "one"), request, [])
    assert file.is_file()  # scored already, but the images were asked for


def test_half_written_images_are_never_seen(tmp_path):
    def broken():
        yield np.zeros((2, 4, 4, 3), dtype=np.uint8)
        raise EvaluationError("the extractor broke")

    with pytest.raises(EvaluationError, match="broke"):
        list(save_passing(tmp_path / "a.npz", broken(), 4, None, ()))
    passing = save_passing(
        tmp_path / "a.npz", (np.zeros((2, 4, 4, 3), np.uint8) for _ in range(2)), 4, None, ()
    )
    next(passing)
    passing.close()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(SuperLoRAError, match=r"a\.npz cannot be written"):
        next(save_passing(tmp_path / "file" / "a.npz", iter([]), 4, None, ()))


def test_images_pass_unchanged_while_they_are_written(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (10, 5, 4, 1), dtype=np.uint8)
    passed = list(save_passing(tmp_path / "a.npz", iter([images[:4], images[4:]]), 10, None, ()))
    assert np.array_equal(np.concatenate(passed), images)
    with np.load(tmp_path / "a.npz") as stored:
        assert np.array_equal(stored["images"], images) and stored["labels"].tolist() == [0] * 10
    assert zipfile.ZipFile(tmp_path / "a.npz").testzip() is None


def test_several_processes_do_not_save_images(place, monkeypatch):
    monkeypatch.setattr("superlora_diffusion.evaluation.evaluate.rank_and_count", lambda: (0, 2))
    with pytest.raises(EvaluationError, match="saved by one process"):
        evaluate_run(str(place / "run"), Request(save_images=True), [])
    assert processes.rank_and_count() == (0, 1)
