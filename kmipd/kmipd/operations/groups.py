"""Whose turn it is in an object group: the default member that Locate hands out (KMIP 1.4 §4.9, Object Group Member)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

_GROUPS = 1024
"""Groups whose turn is remembered; the one longest unasked starts again from its oldest member."""


class GroupRotation:
    """Round robin by group, oldest member first. Each process counts for itself."""

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, str] = OrderedDict()

    def next(self, group: bytes, members: Sequence[str]) -> list[str]:
        """``members`` (oldest first) beginning with the one whose turn it is, which is thereby taken."""
        if not members:
            return []
        group = sha256(group).digest()
        last = self._last.pop(group, None)
        start = (members.index(last) + 1) % len(members) if last in members else 0
        turned = [*members[start:], *members[:start]]
        self._last[group] = turned[0]
        if len(self._last) > _GROUPS:
            self._last.popitem(last=False)
        return turned
