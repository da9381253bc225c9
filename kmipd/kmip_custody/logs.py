"""Logs: one JSON object a line on standard error. Defects are logged by type and place, never with values: they may be keys."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import structlog


def configure(level: str = "info") -> None:
    """Write events of ``level`` and above. Call before the first event."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def defect(event: str, error: BaseException | None, **fields: object) -> None:
    """Log an error that should not have happened: its type and the places it passed, innermost last."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else ()
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    structlog.get_logger("kmip_custody").error(
        event, error=type(error).__name__ if error is not None else None, places=places, **fields
    )


def loop_exception_handler(_: object, details: dict[str, Any]) -> None:
    """For an event loop: its own handler prints arguments and results."""
    defect("loop.defect", details.get("exception"), message=str(details.get("message", "")).partition("(")[0])
