"""The command-line reference is what the program says today."""

from __future__ import annotations

import importlib.util

from typer.main import get_command

from superlora_diffusion.cli.main import app

from .blocks import ROOT

_spec = importlib.util.spec_from_file_location("make_cli_reference", ROOT / "scripts/make_cli_reference.py")
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def test_the_committed_page_is_up_to_date():
    assert script.PAGE.read_text() == script.make_reference(), "run python scripts/make_cli_reference.py"


def test_every_verb_and_every_option_is_on_it():
    text = script.make_reference()
    commands = dict(script._commands(get_command(app), ()))
    assert ("configs", "validate") in commands and len(commands) > 12
    for words, command in commands.items():
        section = text.split(f"# {' '.join(words)}\n")[1].split("\n#")[0]
        for param in command.params:
            if param.param_type_name == "option":
                assert all(f"`{name}" in section for name in param.opts if name != "--help"), (
                    words,
                    param.opts,
                )
    assert "`--only base\\|adapter`" in text and "`--seed INTEGER`" in text and "`--scale NUMBER`" in text
