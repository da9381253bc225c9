"""Progress on standard error: one line per step with the time it took and the time since the start."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_START = time.monotonic()


def note(text: str) -> None:
    """Print one line with the time since the program's start, in seconds."""
    print(f"[{time.monotonic() - _START:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, and on success its own duration."""
    note(f"{text} ...")
    begin = time.monotonic()
    yield
    note(f"{text}: {time.monotonic() - begin:.1f} s")
