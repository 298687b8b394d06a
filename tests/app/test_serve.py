"""Where the page listens, what it refuses to start with, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from superlora_diffusion.app.serve import check_address, is_loopback, require_gradio, warning_for
from superlora_diffusion.cli.main import app
from superlora_diffusion.errors import ConfigError, RunError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def taken():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_only_other_machines_are_warned_of():
    assert is_loopback("127.0.0.1") and is_loopback("127.1.2.3") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("192.168.1.4") and not is_loopback("example.org")
    assert warning_for("127.0.0.1") == "" and "without a password" in warning_for("0.0.0.0")


def test_a_port_in_use_and_a_foreign_address_are_told(taken):
    with pytest.raises(RunError, match=rf"port {taken} of 127.0.0.1 is in use.*--port {taken + 1}"):
        check_address("127.0.0.1", taken)
    with pytest.raises(RunError, match="no address of this machine"):
        check_address("203.0.113.7", 7860)
    with pytest.raises(RunError, match="IPv4"):
        check_address("::1", 7860)


def test_missing_gradio_names_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError, match=r"pip install 'superlora-diffusion\[app\]'"):
        require_gradio()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["app"][0].startswith("gradio") and "app" in extras["dev"][0]


def test_the_verb_refuses_before_it_loads(taken, place):
    pytest.importorskip("gradio")
    result = CliRunner().invoke(app, ["app", "--port", str(taken)])
    assert result.exit_code == 1 and "is in use" in result.output
    result = CliRunner().invoke(app, ["app", "/gone/folder", "--port", str(free_port())])
    assert result.exit_code == 1 and "is no folder" in result.output and "Traceback" not in result.output


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening_addresses(port):
    """Local addresses on which the port is listened to, from the kernel's table."""
    lines = (
        Path("/proc/net/tcp").read_text().splitlines()[1:]
        + Path("/proc/net/tcp6").read_text().splitlines()[1:]
    )
    rows = [line.split() for line in lines]
    return [row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]


@pytest.fixture
def start(tmp_path):
    """Starts the verb in a process of its own, which is gone when the test is over."""
    started = []

    def begin(*words):
        env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
        # Telemetry and a public link are asked for here, and must stay off; a proxy that is not there must not matter.
        env |= {
            "GRADIO_SHARE": "True",
            "GRADIO_ANALYTICS_ENABLED": "True",
            "HTTP_PROXY": "http://127.0.0.1:9",
        }
        command = [sys.executable, "-m", "superlora_diffusion", "app", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, env=env, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_ctrl_c_stops_it_and_nothing_stays(start, place, tmp_path):
    pytest.importorskip("gradio")
    port = free_port()
    process = start(place.one, "--port", str(port))
    assert process.stdout.readline() == f"The page is at http://127.0.0.1:{port} (Ctrl-C stops it)\n"
    if Path("/proc/net/tcp").exists():
        assert listening_addresses(port) == ["0100007F"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}") as answer:
        text = answer.read().decode()
    assert '"analytics_enabled":false' in re.sub(r"\s", "", text) and "fonts.googleapis" not in text
    assert [path.name[:14] for path in tmp_path.iterdir()] == ["superlora-app-"]
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "Stopped.\n" and process.returncode == 0
    assert list(tmp_path.iterdir()) == []
