"""What a request to the API server can end in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A refused request. ``reason`` is the API's ``StatusReason``; the message never holds the request's body."""

    def __init__(self, status: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details: Mapping[str, Any] = details or {}

    @property
    def conflicts(self) -> tuple[FieldConflict, ...]:
        """The fields another manager owns, when this is a server-side apply conflict."""
        causes = self.details.get("causes") or ()
        return tuple(
            FieldConflict(field=str(cause.get("field", "")), message=str(cause.get("message", "")))
            for cause in causes
            if cause.get("reason") == "FieldManagerConflict"
        )


class NamespaceEndingError(ApiError):
    """403: the namespace is being terminated, so nothing new is taken in it."""


class NotFoundError(ApiError):
    """404: the object (or its type) does not exist."""


class ConflictError(ApiError):
    """409: another version of the object exists, or another manager owns a field."""


class AlreadyExistsError(ConflictError):
    """409 on create: an object of that name exists."""


class GoneError(ApiError):
    """410: the resource version is too old; list again."""


class UnreachableError(Exception):
    """No answer within the deadline, or no connection: whether a write happened is not known."""


class NotLeadingError(Exception):
    """A write was refused here because this process can no longer be sure that it leads."""


class FieldConflict:
    """One field of a server-side apply conflict; the API names the owner in its message alone."""

    __slots__ = ("field", "message")

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message

    @property
    def manager(self) -> str:
        """The manager that owns the field: the quoted word in ``conflict with "kubectl-edit" using apps/v1``."""
        parts = self.message.split('"')
        return parts[1] if len(parts) >= 3 else "unknown"


def error_of(status: int, body: Mapping[str, Any]) -> ApiError:
    """The error for an HTTP status and a ``v1.Status`` body."""
    reason = str(body.get("reason", ""))
    message = str(body.get("message", ""))
    details = body.get("details")
    kind: type[ApiError] = ApiError
    if status == 403 and _has_cause(details, "NamespaceTerminating"):
        kind = NamespaceEndingError
    elif status == 404:
        kind = NotFoundError
    elif status == 409:
        kind = AlreadyExistsError if reason == "AlreadyExists" else ConflictError
    elif status == 410:
        kind = GoneError
    return kind(status, reason, message, details if isinstance(details, Mapping) else None)


def _has_cause(details: Any, reason: str) -> bool:
    causes = details.get("causes") if isinstance(details, Mapping) else None
    return any(cause.get("reason") == reason for cause in causes or ())
