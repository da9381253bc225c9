"""The one exception that object rules and operations raise towards a client."""

from __future__ import annotations

from kmipd.wire.enums import ResultReason


class OperationFailed(Exception):
    """An operation that ends with this reason; ``reason`` is the most specific one, of whichever version.

    The message goes to the client and into the audit log: it never holds a value of a secret.
    """

    def __init__(self, reason: ResultReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
