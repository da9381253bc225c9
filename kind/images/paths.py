"""Which files of a package stay in an image, by shell patterns whose star also matches slashes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache


def words(text: str) -> tuple[str, ...]:
    """Split a text at white space."""
    return tuple(text.split())


@lru_cache(maxsize=64)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


@dataclass(frozen=True)
class Selection:
    """Drop what matches ``drop`` unless it matches ``keep``, which wins."""

    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def allows(self, path: str) -> bool:
        """Tell whether the file at this path, relative to the root, stays."""
        return bool(_compiled(self.keep).match(path)) or not _compiled(self.drop).match(path)

    def plus(self, drop: Iterable[str] = (), keep: Iterable[str] = ()) -> Selection:
        """Return a selection with further patterns."""
        return Selection((*self.drop, *drop), (*self.keep, *keep))
