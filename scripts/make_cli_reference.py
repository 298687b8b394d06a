"""Write docs/reference/cli.md from the command line itself: python scripts/make_cli_reference.py

A test compares the file with what this writes, so run it after changing a verb.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from typer.main import get_command

from superlora_diffusion.cli.main import app

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
PROGRAM = "superlora-diff"
HEAD = """# Command line

Made from the program's own `--help` by `scripts/make_cli_reference.py`. Every verb takes `--help`. Errors go to
standard error. The exit code is 0 for success, 2 for a wrong name or value in a config, an override or an option, and
1 for anything else that a user can put right.
"""


def make_reference() -> str:
    """The page's text."""
    root = get_command(app)
    parts = [HEAD, *_options_table([param for param in root.params if param.name == "version"], {})]
    for words, command in _commands(root, ()):
        parts += ["", *_section(words, command)]
    return "\n".join(parts).rstrip() + "\n"


def _commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if getattr(command, "hidden", False):
            continue
        yield (*words, name), command
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))


def _section(words: tuple[str, ...], command: Any) -> Iterator[str]:
    yield f"{'#' * min(len(words) + 1, 4)} {' '.join(words)}"
    yield ""
    text, examples = _split_help(command.help or "")
    yield text
    if hasattr(command, "commands"):
        return
    arguments = [_metavar(param) for param in command.params if param.param_type_name == "argument"]
    yield ""
    yield from ["```text", " ".join([PROGRAM, *words, "[OPTIONS]", *arguments]), *examples, "```", ""]
    yield from _arguments_table(command.params)
    hints = get_type_hints(command.callback, include_extras=True)
    yield from _options_table(command.params, hints)


def _split_help(text: str) -> tuple[str, list[str]]:
    """What a verb does, in paragraphs, and its examples."""
    body, _, rest = text.partition("\nExample")
    examples = [line.strip() for line in rest.splitlines() if line.strip().startswith(PROGRAM)]
    plain = re.sub(r"\[/?(bold|italic)\]", "", body.strip())
    return plain, ["", *examples] if examples else []


def _metavar(param: Any) -> str:
    name = param.metavar or param.name.upper()
    if param.nargs == -1 and not name.endswith("..."):
        name += "..."
    return name if param.required or name.startswith("[") else f"[{name}]"


def _arguments_table(params: list[Any]) -> Iterator[str]:
    rows = [param for param in params if param.param_type_name == "argument" and param.help]
    if rows:
        yield from ["| argument | |", "| --- | --- |"]
        yield from (f"| `{_metavar(param).strip('[]')}` | {_cell(param.help)} |" for param in rows)
        yield ""


def _options_table(params: list[Any], hints: dict[str, Any]) -> Iterator[str]:
    rows = [param for param in params if param.param_type_name == "option" and not param.hidden]
    if rows:
        yield from ["| option | | default |", "| --- | --- | --- |"]
        yield from (f"| {_names(param, hints)} | {_cell(param.help)} | {_default(param)} |" for param in rows)


def _names(param: Any, hints: dict[str, Any]) -> str:
    names = sorted([*param.opts, *param.secondary_opts], key=len, reverse=True)
    value = "" if param.is_flag else " " + _kind(hints.get(param.name, str))
    return ", ".join(f"`{name}{value}`" if name.startswith("--") else f"`{name}`" for name in names)


def _kind(hint: Any) -> str:
    """What to type for an option, by the annotation of its argument (typer's own objects differ by version)."""
    if get_origin(hint) is Annotated:
        return _kind(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return "\\|".join(map(str, get_args(hint)))
    inner = [part for part in get_args(hint) if part is not type(None)]
    if inner:
        return _kind(inner[0])
    return {int: "INTEGER", float: "NUMBER", Path: "PATH"}.get(hint, "TEXT")


def _default(param: Any) -> str:
    if isinstance(param.show_default, str):
        return f"`{param.show_default}`"
    if param.required:
        return "required"
    shown = param.default is not None and not callable(param.default) and not param.is_flag
    return f"`{param.default}`" if shown else ""


def _cell(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(make_reference(), encoding="utf-8")
    print(f"{PAGE}: {len(PAGE.read_text(encoding='utf-8').splitlines())} lines")
