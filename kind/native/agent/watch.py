"""Keeps a copy of a list of the API and tells when it changes."""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable

from kind.native.kube import ApiError, Client, Object

# While the API server restarts: often enough to be back at once, rare enough to cost nothing (seconds).
RETRY_AFTER = 0.3


class Informer(threading.Thread):
    """Lists, then watches, and starts over whenever the stream ends or breaks."""

    def __init__(self, client: Client, path: str) -> None:
        super().__init__(name=path, daemon=True)
        self._client = client
        self._path = path
        self._items: dict[str, Object] = {}
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self.synced = threading.Event()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change; before the thread starts only."""
        self._listeners.append(listener)

    def snapshot(self) -> list[Object]:
        """The objects as last seen, in no order that matters."""
        with self._lock:
            return list(self._items.values())

    def run(self) -> None:
        """List and watch for ever."""
        while True:
            try:
                self._follow()
            except (ApiError, OSError, http.client.HTTPException, json.JSONDecodeError) as error:
                if not isinstance(error, TimeoutError):
                    print(f"{self._path}: {error!r}", file=sys.stderr, flush=True)
                time.sleep(RETRY_AFTER)

    def _follow(self) -> None:
        listed = self._client.get(self._path)
        with self._lock:
            self._items = {item["metadata"]["uid"]: item for item in listed.get("items") or ()}
        self.synced.set()
        self._tell()
        for event in self._client.watch(self._path, listed["metadata"]["resourceVersion"]):
            kind, item = event["type"], event["object"]
            if kind == "ERROR":
                return
            if kind == "BOOKMARK":
                continue
            with self._lock:
                if kind == "DELETED":
                    self._items.pop(item["metadata"]["uid"], None)
                else:
                    self._items[item["metadata"]["uid"]] = item
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
