"""``superlora-diff doctor``."""

from __future__ import annotations

from typing import Any

import typer

from .common import AsJson, print_json

_HELP = """Look at this installation: versions, devices, extras, caches, the hub.

Ends with what has to be put right, and with exit code 1 if there is anything. Nothing is changed or fetched, and
no secret is shown.

Examples:

  superlora-diff doctor

  superlora-diff doctor --json
"""


def register(app: typer.Typer) -> None:
    app.command("doctor", help=_HELP)(doctor)


def doctor(as_json: AsJson = False) -> None:
    from ..diagnosis.diagnosis import diagnose

    found = diagnose()
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
    if found.faults:
        raise typer.Exit(1)


def _print(found: Any) -> None:
    told = found.as_dict()
    typer.echo(f"superlora-diffusion {told['version']}, Python {told['python']}, {told['system']}")
    _section("Packages", [_package(item) for item in told["packages"]])
    _section("Extras", [_extra(item) for item in told["extras"]])
    _section("Devices", _devices(told["devices"], told["compiler"]))
    _section("Folders", _folders(told))
    _section("Hub", _hub(told["hub"]))
    if told["notes"]:
        _section("Worth knowing", told["notes"])
    if told["faults"]:
        _section("To put right", told["faults"])
    else:
        typer.echo("\nAll that is required is there.")


def _section(title: str, lines: list[str]) -> None:
    typer.echo(f"\n{title}")
    for line in lines:
        typer.echo(f"  {line}")


def _package(item: dict) -> str:
    return f"{'ok ' if item['fits'] else '!! '} {item['name']:18} {item['version'] or 'missing':12} {item['accepted']}"


def _extra(item: dict) -> str:
    if item["complete"]:
        return f"ok   {item['name']:12} {item['for']}"
    return f"--   {item['name']:12} {item['for']} (missing: {', '.join(item['missing'])}): {item['install']}"


def _devices(devices: dict | None, compiler: dict) -> list[str]:
    if devices is None:
        return ["unknown: torch does not load"]
    cpu = devices["cpu"]
    bf16 = {True: "bf16 in hardware", False: "no bf16 in hardware", None: "bf16 unknown"}
    lines = [
        f"cpu      {cpu['cores']} cores, {cpu['threads']} threads, {cpu['capability']}, {bf16[cpu['fast_bf16']]}"
    ]
    for index, gpu in enumerate(devices["cuda"]):
        memory = f"{_size(gpu['free'])} of {_size(gpu['memory'])} free"
        lines.append(f"cuda:{index}   {gpu['name']}, {memory}, {gpu['capability']}, {bf16[gpu['fast_bf16']]}")
    if not devices["cuda"]:
        build = (
            f"torch is built for {devices['cuda_build']}"
            if devices["cuda_build"]
            else "torch is built without it"
        )
        lines.append(f"cuda     none; {build}")
    lines.append(f"mps      {'yes' if devices['mps'] else 'none'}")
    lines.append(f"compile  C++ {compiler['cxx'] or 'none'}, triton {compiler['triton'] or 'none'}")
    return lines


def _folders(told: dict) -> list[str]:
    lines = [f"here   {_folder(told['here'])}"]
    if (cache := told["cache"]) is not None:
        lines.append(f"cache  {_folder(cache)}")
        lines += [
            f"       {kind['name']}: {kind['files']} files, {_size(kind['bytes'])}" for kind in cache["kinds"]
        ]
    return lines


def _folder(folder: dict) -> str:
    state = ("writable" if folder["writable"] else "NOT writable") + (
        "" if folder["exists"] else ", not made yet"
    )
    return f"{folder['path']}: {state}, {_size(folder['free'])} free"


def _hub(hub: dict | None) -> list[str]:
    if hub is None:
        return ["unknown: huggingface_hub does not load"]
    more = "" if hub["counted"] else "more than "
    missing = "no token: hf auth login (only uploads and private bases need one)"
    return [
        f"cache  {_folder(hub)}, {more}{_size(hub['bytes'])} in it",
        f"login  {'a token is there' if hub['logged_in'] else missing}",
        f"mode   {'offline: HF_HUB_OFFLINE is set' if hub['offline'] else 'online: HF_HUB_OFFLINE is not set'}",
    ]


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
