"""The cache of finished parts, outside the checkout, each in a folder named by the hash of all that went into it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Parts that no build has used for this long are removed: old layers of code, mostly.
_UNUSED_SECONDS = 30 * 86_400


def key_of(*parts: object) -> str:
    """Hash JSON-like values into a key of 32 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Cache:
    """A folder of finished parts. A part appears whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    @classmethod
    def default(cls) -> Cache:
        """Open the user's cache: below ``KMIP_CACHE`` when set, else below ``~/.cache``."""
        base = os.environ.get("KMIP_CACHE")
        return cls((Path(base) if base else Path.home() / ".cache") / "kmip-operator" / "images")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the cache for one process: two builds at once would do the same work twice."""
        with (self.root / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def find(self, kind: str, key: str) -> Path | None:
        """Return a finished part's folder, and note that it was used."""
        folder = self.root / kind / key
        if not folder.is_dir():
            return None
        os.utime(folder)
        return folder

    def make(self, kind: str, key: str, fill: Callable[[Path], None]) -> Path:
        """Return a part's folder, filling it first when it is not there; a failed fill leaves nothing."""
        found = self.find(kind, key)
        if found is not None:
            return found
        parent = self.root / kind
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
        try:
            # mkdtemp makes it private to this user; a part may be read by all.
            work.chmod(0o755)
            fill(work)
            work.rename(parent / key)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        return parent / key

    def forget(self, kind: str, key: str) -> None:
        """Remove a part, so that the next build makes it again."""
        shutil.rmtree(self.root / kind / key, ignore_errors=True)

    def sweep(self, kinds: tuple[str, ...], now: float | None = None) -> None:
        """Remove parts of these kinds that no build has used for thirty days, and what broken builds left."""
        limit = (time.time() if now is None else now) - _UNUSED_SECONDS
        for kind in kinds:
            for folder in (self.root / kind).glob("*"):
                if folder.stat().st_mtime < limit or folder.name.startswith(".new-"):
                    shutil.rmtree(folder, ignore_errors=True)
