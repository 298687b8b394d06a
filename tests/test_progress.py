"""Progress in a log, on a terminal, and when quiet."""

from __future__ import annotations

import io

from rich.console import Console

from superlora_diffusion.progress import Reporter


def report(terminal: bool, quiet: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=60, color_system=None)
    with Reporter("train", 4, "step", console, quiet) as reporter:
        reporter.say("Data in /a[b]/c, a line that is longer than the sixty columns of this console.")
        for _ in range(3):
            reporter.advance()
        reporter.note("loss 0.5")
        reporter.restart("draw", 10)
        reporter.advance(7)
        reporter.note("half way")
    return stream.getvalue()


def test_a_log_gets_plain_whole_lines():
    assert report(terminal=False).splitlines() == [
        "Data in /a[b]/c, a line that is longer than the sixty columns of this console.",
        "train: step 3/4  loss 0.5",
        "draw: step 7/10  half way",
    ]


def test_a_terminal_gets_a_bar_with_the_note():
    shown = report(terminal=True)
    assert "draw" in shown and "7/10" in shown and "half way" in shown and "/a[b]/c" in shown


def test_a_narrow_terminal_keeps_the_count_whole():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    with Reporter("train", 4000, "step", console) as reporter:
        reporter.advance(1200)
        reporter.note("loss 0.6570  validation 0.7353  40.5 steps/s  lr 1.0e-03  left 0:40")
    shown = stream.getvalue()
    assert "1200/4000 step" in shown and "0.7353" in shown and "0:40" in shown


def test_quiet_is_silent():
    assert report(terminal=False, quiet=True) == "" and report(terminal=True, quiet=True) == ""
