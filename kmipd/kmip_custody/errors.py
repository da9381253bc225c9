"""The one error of custody: a kind from the contract and a message for a person."""

from __future__ import annotations

from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure


class CustodyError(Exception):
    """A key manager could not do what was asked. The message says what, where and what to do, and holds no secret."""

    def __init__(self, kind: CustodyErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    def failure(self) -> CustodyFailure:
        """The error as the contract carries it."""
        return CustodyFailure(kind=self.kind, message=self.message)


class NotSupportedError(CustodyError):
    """This key manager has no such action, whatever its configuration."""

    def __init__(self, message: str) -> None:
        super().__init__(CustodyErrorKind.CONFIGURATION, message)
