"""The engine: one request message in, one response message out."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

import structlog

from kmip_contract.kmipd import Limits
from kmip_contract.permissions import ALWAYS_PERMITTED, PROFILES, PermissionProfile
from kmipd.keys.api import Keys
from kmipd.objects.errors import OperationFailed
from kmipd.operations.api import AuditEvent, Client, Reply, ServerInformation
from kmipd.operations.context import Context, Services
from kmipd.operations.discovery import is_supported
from kmipd.operations.dispatch import HANDLERS, Handler, name_of
from kmipd.operations.get import fetch
from kmipd.operations.groups import GroupRotation
from kmipd.operations.locks import ObjectLocks
from kmipd.operations.plans import GetPlan, Plans, assemble, identifier_of, item_length
from kmipd.operations.reasons import reason_for
from kmipd.storage.api import Storage, StorageError, StorageUnavailable
from kmipd.wire import tags
from kmipd.wire.enums import BatchErrorContinuationOption, Operation, ResultReason
from kmipd.wire.messages import (
    MessageError,
    Request,
    RequestHeader,
    RequestItem,
    decode_request,
    encode_failure,
    encode_response,
    encode_success,
)
from kmipd.wire.payloads import MissingField
from kmipd.wire.ttlv import Item, TtlvError
from kmipd.wire.versions import SUPPORTED, text_of

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_GET = "Get"
_SUCCESS = "Success"
_FAILED = "OperationFailed"
_CRITICAL = tags.CRITICALITY_INDICATOR << 8 | 6
_READING = ALWAYS_PERMITTED | PROFILES[PermissionProfile.READ_ONLY]
_LONGEST_CORRELATION = 256
"""Characters of a client's correlation value that the audit keeps."""

_ENVELOPE = 104
"""Bytes of a response message around its batch items, at most (a client correlation value comes on top)."""


class Engine:
    """Runs the operations of one keyspace; with ``read_only`` those that make or change objects are refused to everyone."""

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        *,
        audit: Callable[[AuditEvent], None],
        clock: Callable[[], float] = time.time,
        limits: Limits | None = None,
        server_information: ServerInformation | None = None,
        read_only: bool = False,
    ) -> None:
        self._services = Services(
            storage, keys, server_information or ServerInformation(), GroupRotation(), ObjectLocks()
        )
        self._plans = Plans()
        self._audit = audit
        self._clock = clock
        self._read_only = read_only
        self._batch_items = (limits or Limits()).batch_items

    async def handle(self, message: bytes, client: Client) -> Reply:
        """Answer one whole request message (its eight-byte header included).

        Never raises; suspends only where storage or keys do. A message whose frame is broken is answered and ``close`` is set.
        """
        started = time.perf_counter_ns()
        now = int(self._clock())
        plan = self._plans.find(message)
        if plan is not None and _GET in client.operations:
            uid = identifier_of(message)
            if uid is not None:
                return Reply(await self._serve_planned(plan, message, uid, client, now, started), close=False)
        try:
            request = decode_request(message)
        except MessageError as error:
            return self._refuse(error, client, now, started, close=True)
        try:
            self._check(request)
            self._plans.learn(request, _room(request.header))
            return Reply(await self._serve(request, client, now), close=False)
        except MessageError as error:
            return self._refuse(
                error, client, now, started, close=False, item=request.items[0] if request.items else None
            )
        except Exception as error:
            _log_bug(error)
            failed = MessageError(
                "internal error", request.header.major, request.header.minor, ResultReason.GeneralFailure
            )
            return self._refuse(failed, client, now, started, close=False)

    def _refuse(
        self,
        error: MessageError,
        client: Client,
        now: int,
        started: int,
        *,
        close: bool,
        item: RequestItem | None = None,
    ) -> Reply:
        """One failed batch item for a message that cannot be run."""
        # Without a version of its own the answer takes the oldest: every client reads that.
        major, minor = (error.major, error.minor) if error.major in {1, 2} and 0 <= error.minor <= 9 else (1, 0)
        version = major * 10 + minor
        reason = reason_for(version, error.reason)
        text = str(error)
        operation = None if item is None else item.operation
        identifier = None if item is None else item.unique_batch_item_id
        self._audit(
            AuditEvent(
                "" if operation is None else name_of(operation),
                (),
                _FAILED,
                reason.name,
                text,
                f"{error.major}.{error.minor}" if error.major else "",
                client,
                (time.perf_counter_ns() - started) // 1000,
            )
        )
        return Reply(encode_response(major, minor, now, [encode_failure(operation, identifier, reason, text)]), close)

    def _check(self, request: Request) -> None:
        """What must hold for the message as a whole.

        Raises:
            MessageError: it does not.
        """
        header = request.header

        def refuse(message: str, reason: ResultReason = ResultReason.InvalidMessage) -> MessageError:
            return MessageError(message, header.major, header.minor, reason)

        if not is_supported(header.major, header.minor):
            only_discovery = len(request.items) == 1 and request.items[0].operation == Operation.DiscoverVersions
            # Clients open with DiscoverVersions in the newest header they know; its payload is the same in all versions.
            if not (only_discovery and header.major in {1, 2}):
                spoken = ", ".join(text_of(version) for version in SUPPORTED)
                raise refuse(
                    f"protocol version {header.major}.{header.minor} is not supported; this server speaks {spoken}",
                    ResultReason.UnsupportedProtocolVersion,
                )
        if header.batch_count != len(request.items) or not request.items:
            raise refuse("the batch count is not the number of batch items")
        if len(request.items) > self._batch_items:
            raise refuse(f"a message holds at most {self._batch_items} batch items", ResultReason.GeneralFailure)
        if len(request.items) == 1:
            return
        if any(item.unique_batch_item_id is None for item in request.items):
            raise refuse("every item of a batch needs a unique batch item id")
        if header.error_continuation == BatchErrorContinuationOption.Undo:
            raise refuse("batches are not undone by this server", ResultReason.FeatureNotSupported)

    async def _serve_planned(
        self, plan: GetPlan, message: bytes, uid: str, client: Client, now: int, started: int
    ) -> bytes:
        """A Get known by its bytes: no decoding, one lookup, one answer."""
        context = Context(self._services, client, plan.version, now, uid, [uid])
        failure: OperationFailed
        try:
            stored, structure = await fetch(context, uid)
            if plan.room is None or item_length(plan, structure) <= plan.room:
                answer = assemble(plan, message, now, stored.object_type, structure)
                self._audit(
                    AuditEvent(
                        _GET,
                        (uid,),
                        _SUCCESS,
                        "",
                        "",
                        plan.version_text,
                        client,
                        (time.perf_counter_ns() - started) // 1000,
                        plan.request.header.client_correlation_value[:_LONGEST_CORRELATION],
                    )
                )
                return answer
            failure = _too_large()
        except OperationFailed as error:
            failure = error
        except Exception as error:
            failure = _explain(error)
        header = plan.request.header
        item = self._conclude(header, plan.request.items[0], context, started, failure)
        return encode_response(header.major, header.minor, now, [item], header.client_correlation_value)

    async def _serve(self, request: Request, client: Client, now: int) -> bytes:
        header = request.header
        context = Context(self._services, client, header.version, now)
        room = _room(header)
        goes_on = header.error_continuation == BatchErrorContinuationOption.Continue
        answers: list[bytes] = []
        for item in request.items:
            started = time.perf_counter_ns()
            context.uids = []
            answer = b""
            failure: OperationFailed | None = None
            try:
                answer = await self._run(request, item, context)
                if room is not None and len(answer) > room:
                    failure = _too_large()
            except OperationFailed as error:
                failure = error
            except Exception as error:
                failure = _explain(error)
            answers.append(self._conclude(header, item, context, started, failure) or answer)
            if room is not None:
                room -= len(answers[-1])
            if failure is not None and not goes_on:
                break
        return encode_response(header.major, header.minor, now, answers, header.client_correlation_value)

    def _conclude(
        self, header: RequestHeader, item: RequestItem, context: Context, started: int, failure: OperationFailed | None
    ) -> bytes:
        """Audit a batch item; its answer if it failed, else nothing."""
        answer = b""
        reason = message = ""
        status = _SUCCESS
        if failure is not None:
            told = reason_for(header.version, failure.reason)
            status, reason, message = _FAILED, told.name, str(failure)
            answer = encode_failure(item.operation, item.unique_batch_item_id, told, message)
        self._audit(
            AuditEvent(
                name_of(item.operation),
                tuple(context.uids),
                status,
                reason,
                message,
                text_of(header.version),
                context.client,
                (time.perf_counter_ns() - started) // 1000,
                header.client_correlation_value[:_LONGEST_CORRELATION],
            )
        )
        return answer

    async def _run(self, request: Request, item: RequestItem, context: Context) -> bytes:
        """One batch item: permitted, decoded, run, encoded.

        Raises:
            OperationFailed: and whatever a malformed payload or an unavailable service raises.
        """
        handler = HANDLERS.get(item.operation)
        if handler is None:
            raise OperationFailed(
                ResultReason.OperationNotSupported, f"operation {name_of(item.operation)} is not supported"
            )
        _check_permission(handler, context.client)
        if self._read_only and handler.name not in _READING:
            raise OperationFailed(
                ResultReason.PermissionDenied,
                f"this server answers from a backup and changes nothing: no {handler.name}",
            )
        for extension in item.extensions:
            _check_extension(extension)
        payload = handler.request.decode(context.version, request.payload(item))
        response = await handler.function(context, payload)
        return encode_success(
            item.operation, item.unique_batch_item_id, handler.response.encode(context.version, response)
        )


def _room(header: RequestHeader) -> int | None:
    """Bytes that the client's Maximum Response Size leaves for batch items."""
    limit = header.maximum_response_size
    return None if limit is None else limit - _ENVELOPE - len(header.client_correlation_value)


def _too_large() -> OperationFailed:
    return OperationFailed(ResultReason.ResponseTooLarge, "the response is larger than the client accepts")


def _check_permission(handler: Handler, client: Client) -> None:
    if not handler.always and handler.name not in client.operations:
        raise OperationFailed(ResultReason.PermissionDenied, f"this client may not call {handler.name}")


def _check_extension(extension: list[Item]) -> None:
    if any(word == _CRITICAL and value for word, value in extension):
        raise OperationFailed(
            ResultReason.FeatureNotSupported, "the message has a critical extension that is unknown here"
        )


def _explain(error: Exception) -> OperationFailed:
    """What a client is told of an exception that is not an operation's own."""
    if isinstance(error, TtlvError):
        return OperationFailed(ResultReason.InvalidMessage, str(error))
    if isinstance(error, MissingField):
        return OperationFailed(ResultReason.MissingData, f"{error} is required")
    if isinstance(error, StorageUnavailable):
        return OperationFailed(ResultReason.GeneralFailure, "storage does not answer, retry")
    if isinstance(error, StorageError):
        return OperationFailed(ResultReason.GeneralFailure, "storage failed")
    _log_bug(error)
    return OperationFailed(ResultReason.GeneralFailure, "internal error")


def _log_bug(error: Exception) -> None:
    """Where and what kind, never the exception's text: it may quote a value."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    _log.error("bug while serving a request", kind=type(error).__name__, frames=frames)
