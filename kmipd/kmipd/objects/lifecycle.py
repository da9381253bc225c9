"""The life cycle of keys: states, dates that change them, what operations may do (NIST SP 800-57, KMIP 1.4 §3.22)."""

from __future__ import annotations

from typing import Final, NamedTuple

from kmipd.objects.errors import OperationFailed
from kmipd.wire.enums import ResultReason, RevocationReasonCode, State

NO_STATE: Final = 0
"""What stands for the state of objects that have none (opaque objects, templates)."""

DESTROYED: Final = frozenset({int(State.Destroyed), int(State.DestroyedCompromised)})
_COMPROMISES: Final = frozenset({int(RevocationReasonCode.KeyCompromise), int(RevocationReasonCode.CACompromise)})


class Dates(NamedTuple):
    """The dates (Unix seconds) that bound an object's use."""

    activation: int | None = None
    process_start: int | None = None
    protect_stop: int | None = None
    deactivation: int | None = None


def effective_state(state: int, dates: Dates, now: int) -> int:
    """The state that ``now`` makes of a stored one: dates that have come are transitions that have happened."""
    if state == State.PreActive and dates.activation is not None and dates.activation <= now:
        state = State.Active
    if state == State.Active and dates.deactivation is not None and dates.deactivation <= now:
        state = State.Deactivated
    return int(state)


def will_change(state: int, dates: Dates, now: int) -> bool:
    """Whether time alone will change the state, so that a search by it must look at the dates."""
    return (state == State.PreActive and dates.activation is not None and dates.activation > now) or (
        state in {State.PreActive, State.Active} and dates.deactivation is not None and dates.deactivation > now
    )


def check_order(dates: Dates) -> None:
    """Dates must follow each other: activation, process start, protect stop, deactivation (KMIP 1.4 §3.24 to §3.27).

    Raises:
        OperationFailed: InvalidField.
    """
    activation, start, stop, deactivation = dates
    ordered = (
        (activation, start, "Process Start Date precedes Activation Date"),
        (activation, stop, "Protect Stop Date precedes Activation Date"),
        (activation, deactivation, "Deactivation Date precedes Activation Date"),
        (start, deactivation, "Deactivation Date precedes Process Start Date"),
        (stop, deactivation, "Deactivation Date precedes Protect Stop Date"),
    )
    for earlier, later, message in ordered:
        if earlier is not None and later is not None and later < earlier:
            raise OperationFailed(ResultReason.InvalidField, message)


def check_date_change(name: str, state: int, current: int | None, now: int) -> None:
    """Whether a client may change date ``name`` of an object in ``state``, where it stands at ``current``.

    Raises:
        OperationFailed: WrongKeyLifecycleState.
    """
    if name == "Activation Date":
        allowed = state == State.PreActive
    elif name == "Deactivation Date":
        allowed = state in {State.PreActive, State.Active}
    else:
        allowed = state in {State.PreActive, State.Active} and (current is None or current > now)
    if not allowed:
        raise _wrong_state(f"{name} can no longer be changed", state)


def _name(state: int) -> str:
    return State(state).name if state else "stateless"


def _wrong_state(message: str, state: int) -> OperationFailed:
    return OperationFailed(ResultReason.WrongKeyLifecycleState, f"{message}: the object is {_name(state)}")


def activated(state: int) -> int:
    """The state after Activate.

    Raises:
        OperationFailed: WrongKeyLifecycleState unless it was Pre-Active; IllegalOperation for stateless objects.
    """
    if state == NO_STATE:
        raise OperationFailed(ResultReason.IllegalOperation, "the object has no state")
    if state in DESTROYED:
        raise destroyed()
    if state != State.PreActive:
        raise _wrong_state("the object cannot be activated", state)
    return int(State.Active)


def is_compromise(code: int) -> bool:
    """Whether a revocation reason says that the key is known to somebody else."""
    return code in _COMPROMISES


def revoked(state: int, code: int) -> int:
    """The state after Revoke with reason ``code``.

    Raises:
        OperationFailed: WrongKeyLifecycleState, or IllegalOperation for stateless objects.
    """
    if state == NO_STATE:
        raise OperationFailed(ResultReason.IllegalOperation, "the object has no state")
    if is_compromise(code):
        return int(State.DestroyedCompromised if state in DESTROYED else State.Compromised)
    if state in DESTROYED:
        raise destroyed()
    if state == State.PreActive:
        raise _wrong_state("only a compromise revokes what was never active", state)
    return int(State.Deactivated if state == State.Active else state)


def after_destroy(state: int) -> int:
    """The state after Destroy.

    Raises:
        OperationFailed: WrongKeyLifecycleState while Active, ObjectDestroyed when there is nothing left.
    """
    if state in DESTROYED:
        raise destroyed()
    if state == State.Active:
        raise _wrong_state("revoke the object before it is destroyed", state)
    return int(State.DestroyedCompromised if state == State.Compromised else State.Destroyed)


def destroyed() -> OperationFailed:
    """The object is gone; only its attributes are left."""
    return OperationFailed(ResultReason.ObjectDestroyed, "the object has been destroyed")
