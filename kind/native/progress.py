"""Progress on standard error: one line per step, with the seconds it took and those since the start."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Prints steps with elapsed time; `quiet` keeps only what the caller says by `note`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._start = time.monotonic()
        self._quiet = quiet

    def elapsed(self) -> float:
        """Seconds since this progress began."""
        return time.monotonic() - self._start

    def note(self, text: str) -> None:
        """Print one line, stamped with the seconds since the start."""
        print(f"[{self.elapsed():7.1f} s] {text}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Time a step: a line when it ends, saying whether it worked."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.note(f"{text}: failed after {time.monotonic() - began:.1f} s")
            raise
        if not self._quiet:
            self.note(f"{text} ({time.monotonic() - began:.1f} s)")
