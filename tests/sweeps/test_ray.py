"""The Ray runner on a real cluster of two nodes, one of which is killed while it works."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from tiny import run_values
from typed import call

from superlora_diffusion.errors import ConfigError
from superlora_diffusion.sweeps.runners.ray_cluster import RayRunner, count_places

ray = pytest.importorskip("ray")

PATIENCE = 300
"""Seconds until what should happen is given up; on a busy machine the start of a program takes half a minute."""
PROGRAM, RAY = ("-m", "superlora_diffusion"), ("-m", "ray.scripts.scripts")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_node(python, *arguments):
    """A node of its own process group, with room for one job."""
    room = ("--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", str(100 * 2**20))
    alone = ("--node-ip-address", "127.0.0.1", "--disable-usage-stats", "--block")
    command = [python, *RAY, "start", *arguments, *room, *alone]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def processes_of(node):
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == node.pid:
                yield process


def is_at_work(node, cell):
    """Whether a process of the node holds the lock of a cell."""
    for process in processes_of(node):
        with contextlib.suppress(psutil.Error):
            if str(cell / "lock") in [file.path for file in process.open_files()]:
                return True
    return False


def kill_node(node):
    """As when a machine loses power: every process of the node at once."""
    for process in processes_of(node):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    node.wait()


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """This environment's Python under a path without spaces, which Ray cannot start nodes from."""
    link = tmp_path_factory.mktemp("ray") / "environment"
    link.symlink_to(sys.prefix)
    assert " " not in str(link)
    return str(link / "bin" / "python")


@pytest.fixture
def cluster(python, monkeypatch):
    """(address, the second node) of a running cluster of two nodes."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # or a token that the user has decides how nodes talk
    address = f"127.0.0.1:{free_port()}"
    head = start_node(python, "--head", "--port", address.rpartition(":")[2], "--include-dashboard", "false")
    nodes = [head]
    try:
        wait_until(lambda: count_nodes(python, address) == 1)
        nodes.append(start_node(python, "--address", address))
        wait_until(lambda: count_nodes(python, address) == 2)
        yield address, nodes[1]
    finally:
        for node in reversed(nodes):
            if node.poll() is None:
                kill_node(node)


def count_nodes(python, address):
    listed = subprocess.run([python, *RAY, "status", "--address", address], capture_output=True, text=True)
    return listed.stdout.count(" node_")


def wait_until(true, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.3)


def write_sweep(place, folder):
    """Three cells of 300 steps with a checkpoint every 10: one waits while two are at work."""
    values = run_values(
        place, train={"steps": 300}, validation={"every": 150}, checkpoint={"every": 10}, log={"every": 1}
    )
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    sweep = {"output": "sweep", "config": "run.yaml", "grid": {"adapter.rank": [1, 2, 3]}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))


@pytest.fixture
def run(python, tmp_path):
    """Starts the sweep as a process; it, and the file that it reports to. None outlives the test."""
    started = []

    def start(*options):
        command = [python, *PROGRAM, "sweep", "--config", "sweep.yaml", "--threads", "1", *options]
        with (tmp_path / "log").open("w") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log))
        return started[-1], tmp_path / "log"

    yield start
    for process in started:
        process.kill()
        process.wait()


def steps_of(run):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line)["step"] for line in lines if '"loss"' in line]


def table(folder, name="sweep"):
    with (folder / name / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "places"),
    [
        ([{"CPU": 8.0, "GPU": 1.0}], 1, 0.25, 4),
        ([{"CPU": 3.0, "GPU": 1.0}], 1, 0.25, 3),
        ([{"CPU": 4.0}, {"CPU": 3.0, "memory": 1.0}], 2, 0, 3),  # a cell does not lie on two nodes
        ([{"CPU": 64.0, "GPU": 1.0}], 1, 0.1, 10),  # no floating-point slip
        ([{"CPU": 64.0}], 1, 1, 0),
        ([], 1, 0, 0),
    ],
)
def test_a_cluster_holds_as_many_cells_as_its_nodes_can(nodes, cpus, gpus, places):
    assert count_places(nodes, cpus, gpus) == places


def test_a_cluster_from_a_path_with_a_space_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(ray, "__file__", "/my env/ray/__init__.py")
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was asked to start"))
    with pytest.raises(ConfigError, match="without a space in its path, or give --address"):
        RayRunner(threads=1, device="cpu", address=None, gpus_per_cell=0, retries=0)


@pytest.mark.slow
def test_a_node_that_dies_loses_no_cell_and_the_results_are_those_of_the_local_runner(
    place, tmp_path, cluster, run, monkeypatch
):
    address, node = cluster
    write_sweep(place, tmp_path)
    greedy, log = run("--runner", "ray", "--address", address, "--gpus-per-cell", "1")
    assert greedy.wait(PATIENCE) == 1 and "no node of the cluster has them" in log.read_text()
    sweep, log = run("--runner", "ray", "--address", address)
    cells = tmp_path / "sweep" / "cells"
    # In the middle of a cell.
    wait_until(lambda: any(20 < len(steps_of(c)) < 250 and is_at_work(node, c) for c in cells.glob("*")))
    kill_node(node)
    assert sweep.wait(PATIENCE) == 0, log.read_text()
    told = log.read_text()
    assert sorted(path.name for path in cells.glob("*")) == [f"rank{rank}-seed0" for rank in (1, 2, 3)]
    for cell in cells.glob("*"):
        assert steps_of(cell) == list(range(1, 301))  # every step once, also in the cell that moved
        assert told.count(f"{cell.name}: finished") == 1
    monkeypatch.chdir(tmp_path)
    assert call("sweep", "--config", "sweep.yaml", "--threads", "1", "--output", "local").exit_code == 0
    assert len(table(tmp_path)) == 3 and table(tmp_path) == table(tmp_path, "local")
    assert all(float(row["is_distance"]) > 0 for row in table(tmp_path))
