"""A control loop: acts when its lists change, and again after an error."""

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from kind.native.agent.watch import Informer
from kind.native.kube import Object

# Also without a change, in case the world was changed behind the API's back (a node killed and started, say).
RESYNC_EVERY = 2.0
RETRY_AFTER = 0.5


class Loop(threading.Thread):
    """Calls `reconcile` with the current lists, one at a time."""

    def __init__(self, name: str, informers: Sequence[Informer], reconcile: Callable[..., None]) -> None:
        super().__init__(name=name, daemon=True)
        self._informers = informers
        self._reconcile = reconcile
        self._dirty = threading.Event()
        for informer in informers:
            informer.subscribe(self._dirty.set)

    def run(self) -> None:
        """Reconcile for ever, from when all lists are complete."""
        for informer in self._informers:
            informer.synced.wait()
        print(f"{self.name}: running", file=sys.stderr, flush=True)
        while True:
            self._dirty.wait(RESYNC_EVERY)
            self._dirty.clear()
            lists: list[list[Object]] = [informer.snapshot() for informer in self._informers]
            try:
                self._reconcile(*lists)
            except Exception:
                print(f"{self.name}:", file=sys.stderr)
                traceback.print_exc()
                self._dirty.set()
                time.sleep(RETRY_AFTER)
