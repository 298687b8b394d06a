"""From a start to a page that is served, and back to nothing: no thread, no file and no open port stays."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, RunError

if TYPE_CHECKING:
    from .session import Session
    from .start import Start

_SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
PIP_LINE = "pip install 'superlora-diffusion[app]'"


def require_gradio() -> None:
    """Whether gradio is installed. It is not imported: that makes a folder, whose place is not known yet.

    Raises:
        ConfigError: with the line that installs it.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError(f"the page needs gradio, which is not installed; install it with: {PIP_LINE}")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def warning_for(host: str) -> str:
    """What to say of an address that others reach; empty for one they do not."""
    if is_loopback(host):
        return ""
    return (
        f"the page listens on {host}: whoever reaches this machine there can draw on it, without a password, and open "
        "every run and adapter that you can read."
    )


def check_address(host: str, port: int) -> None:
    """Whether a page can be served there, before anything is loaded for it.

    Raises:
        RunError: for a port that is in use or not allowed, or an address that is not this machine's.
    """
    if ":" in host:
        raise RunError(f"--host {host}: an IPv4 address or a name is accepted, such as 127.0.0.1.")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen()
    except OSError as error:
        raise RunError(_refusal(host, port, error)) from None


def _refusal(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == 99:
        return f"--host {host} is no address of this machine; 127.0.0.1 is for this machine alone, 0.0.0.0 for all."
    if error.errno in (48, 98, 10048):
        return (
            f"port {port} of {host} is in use, perhaps by another page. Give another one: --port {port + 1}"
        )
    return f"the page cannot listen on {host}, port {port}: {error.strerror}. Give another one with --port."


@contextmanager
def served(session: Session, start: Start, host: str, port: int) -> Iterator[str]:
    """Serve the page for the block.

    Args:
        session: what draws.
        start: what the page begins with.
        host: the address to listen on.
        port: the port; an error if it is taken.

    Yields:
        the page's address.

    Raises:
        ConfigError: if gradio is not installed.
        RunError: if the page cannot listen there.
    """
    check_address(host, port)
    require_gradio()
    with (
        tempfile.TemporaryDirectory(prefix="superlora-app-", ignore_cleanup_errors=True) as folder,
        _environment(GRADIO_TEMP_DIR=folder, NO_PROXY=_with_this_machine(), **_SILENT),
    ):
        page = in_a_loop(lambda: _launch(session, start, host, port, Path(folder)))
        try:
            yield f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
        finally:
            page.close(verbose=False)


def _launch(session: Session, start: Start, host: str, port: int, folder: Path) -> Any:
    import gradio as gr

    from .page import Page
    from .pictures import PictureFolder
    from .style import CSS

    page = Page(session, PictureFolder(folder / "drawn"), start).build()
    # Fonts of the reader's own machine: gradio's would be asked of a server.
    fonts, mono = ["ui-sans-serif", "system-ui", "sans-serif"], ["ui-monospace", "Consolas", "monospace"]
    try:
        page.queue().launch(
            server_name=host, server_port=port, share=False, inbrowser=False, prevent_thread_lock=True, quiet=True,
            ssr_mode=False, mcp_server=False, pwa=False, run_history=False, footer_links=[], enable_monitoring=False,
            show_error=False, css=CSS, theme=gr.themes.Base(primary_hue="indigo", font=fonts, font_mono=mono),
        )  # fmt: skip
    except OSError:
        raise RunError(f"port {port} of {host} was taken just now. Give another one with --port.") from None
    return page


def in_a_loop(make: Callable[[], Any]) -> Any:
    """Call ``make`` while an event loop runs: where none does, gradio makes several and never closes them."""

    async def call() -> Any:
        return make()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(call())
    return make()


def _with_this_machine() -> str:
    """gradio asks its own page whether it is there, which no proxy can tell."""
    told = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    return ",".join(filter(None, [told, "127.0.0.1", "localhost"]))


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def serve(
    session: Session,
    start: Start,
    host: str,
    port: int,
    say: Callable[[str], None],
    open_browser: bool = False,
) -> None:
    """Serve the page until Ctrl-C, or a request to terminate.

    Args:
        session, start, host, port: as for :func:`served`.
        say: told the address, and at the end that it is over.
        open_browser: show the page in this machine's browser.

    Raises:
        ConfigError, RunError: as :func:`served`.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with served(session, start, host, port) as address:
            say(f"The page is at {address} (Ctrl-C stops it)")
            if open_browser:
                import webbrowser

                webbrowser.open(address)
            threading.Event().wait()
    except KeyboardInterrupt:
        say("Stopped.")
    finally:
        signal.signal(signal.SIGTERM, before)
