"""The command line, called in this process."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner, Result

from superlora_diffusion.cli.main import app


def call(*words: Any) -> Result:
    """What a command line does: exit_code, stdout and stderr. Anything but a message is raised."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
