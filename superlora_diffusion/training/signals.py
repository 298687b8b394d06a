"""Ctrl-C and SIGTERM as a question that the loop asks between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Set by the first signal; a second one of the same kind acts as usual."""

    def __init__(self, outer: StopRequest | None = None) -> None:
        self.signal: int | None = None
        self.outer = outer

    def __bool__(self) -> bool:
        return self.signal is not None


_current: StopRequest | None = None  # the innermost of this process


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a :class:`StopRequest` for the block (main thread only).

    Blocks may lie in each other: what the inner one was asked, the outer one is asked, too, so that a signal in the
    last moments of one piece of work still stops the next.
    """
    global _current
    request = StopRequest(_current)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        asked: StopRequest | None = request
        while asked is not None:
            asked.signal, asked = number, asked.outer
        signal.signal(number, previous[number])

    for number in previous:
        signal.signal(number, note)
    _current = request
    try:
        yield request
    finally:
        _current = request.outer
        for number, handler in previous.items():
            signal.signal(number, handler)
