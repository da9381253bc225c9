"""Whether this process lives, and whether it should be sent clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from kmipd.admin.http import Response, text

Check = Callable[[], Awaitable[str]]
"""Finds what is wrong: an empty string when nothing is. An exception's text counts as a finding."""


async def livez() -> Response:
    """That the loop answered is the whole proof."""
    return text(200, "ok")


class Readiness:
    """``/readyz``: every check passes, and the process is not going away.

    A key manager that is out of reach does not fail it: cached keys are still served, and a client is better told why than
    refused a connection.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self.draining = False
        self.started = False

    async def readyz(self) -> Response:
        """The answer, with each check's outcome on a line."""
        if self.draining:
            return text(503, "draining")
        if not self.started:
            return text(503, "starting")
        lines = []
        healthy = True
        for name, check in self._checks.items():
            try:
                finding = await check()
            except Exception as error:  # a check that fails is a finding
                finding = str(error) or type(error).__name__
            healthy = healthy and not finding
            lines.append(f"[{'-' if finding else '+'}] {name}{': ' + finding if finding else ''}")
        return text(200 if healthy else 503, "\n".join(lines))
