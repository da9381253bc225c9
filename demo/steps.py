"""Progress for a person: each step's name when it starts, its time when it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_START = time.monotonic()


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print ``title`` with the time since the start, and how long the step took, or that it failed."""
    began = time.monotonic()
    print(f"[{began - _START:6.1f}s] {title} …", flush=True)
    try:
        yield
    except BaseException:
        print(f"[{time.monotonic() - _START:6.1f}s]   failed after {time.monotonic() - began:.1f}s", flush=True)
        raise
    print(f"[{time.monotonic() - _START:6.1f}s]   done in {time.monotonic() - began:.1f}s", flush=True)


def note(text: str) -> None:
    """One line of detail below the current step."""
    print(f"           {text}", flush=True)


def wait_for(what: str, probe: Callable[[], T | None], *, timeout: float, every: float = 0.02) -> T:
    """Call ``probe`` until it returns something; raise TimeoutError naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(every)


def total() -> float:
    """Seconds since the program started."""
    return time.monotonic() - _START


def fail(message: str) -> None:
    """Print an error to standard error."""
    print(f"error: {message}", file=sys.stderr, flush=True)
