"""The life cycle as a state machine, against the transitions NIST SP 800-57 allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kmipd.objects.errors import OperationFailed
from kmipd.objects.lifecycle import (
    DESTROYED,
    NO_STATE,
    Dates,
    activated,
    after_destroy,
    check_date_change,
    check_order,
    effective_state,
    revoked,
    will_change,
)
from kmipd.wire.enums import ResultReason, State

PRE_ACTIVE, ACTIVE, DEACTIVATED, COMPROMISED, GONE, GONE_COMPROMISED = (int(state) for state in State)

ALLOWED = {
    (PRE_ACTIVE, ACTIVE),
    (PRE_ACTIVE, COMPROMISED),
    (PRE_ACTIVE, GONE),
    (ACTIVE, DEACTIVATED),
    (ACTIVE, COMPROMISED),
    (DEACTIVATED, COMPROMISED),
    (DEACTIVATED, GONE),
    (COMPROMISED, GONE_COMPROMISED),
    (GONE, GONE_COMPROMISED),
}
"""NIST SP 800-57 Part 1 §7: what can become what."""

REASONS = st.integers(1, 7)
DATES = st.one_of(st.none(), st.integers(0, 100))
ALL_DATES = st.builds(Dates, DATES, DATES, DATES, DATES)


class LifeCycle(RuleBasedStateMachine):
    """Operations and time in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = PRE_ACTIVE
        self.dates = Dates()
        self.now = 0

    def become(self, state: int) -> None:
        if state != self.state:
            assert (self.state, state) in ALLOWED
        self.state = state

    @rule()
    def activate(self) -> None:
        try:
            self.become(activated(self.state))
        except OperationFailed:
            assert self.state != PRE_ACTIVE
        else:
            self.dates = self.dates._replace(activation=self.now)

    @rule(code=REASONS)
    def revoke(self, code: int) -> None:
        try:
            self.become(revoked(self.state, code))
        except OperationFailed:
            assert self.state in {PRE_ACTIVE, GONE, GONE_COMPROMISED}
            assert code not in {2, 3}

    @rule()
    def destroy(self) -> None:
        if self.state == ACTIVE or self.state in DESTROYED:
            with pytest.raises(OperationFailed) as caught:
                after_destroy(self.state)
            wrong = ResultReason.WrongKeyLifecycleState
            assert caught.value.reason == (wrong if self.state == ACTIVE else ResultReason.ObjectDestroyed)
            return
        self.become(after_destroy(self.state))

    @rule(seconds=st.integers(1, 50))
    def pass_time(self, seconds: int) -> None:
        changes = will_change(self.state, self.dates, self.now)
        self.now += seconds
        before = self.state
        after = effective_state(self.state, self.dates, self.now)
        if after != before:
            assert changes
            if (before, after) == (PRE_ACTIVE, DEACTIVATED):
                self.become(ACTIVE)
            self.become(after)

    @rule(seconds=st.integers(1, 50))
    def set_deactivation(self, seconds: int) -> None:
        try:
            check_date_change("Deactivation Date", self.state, self.dates.deactivation, self.now)
        except OperationFailed:
            assert self.state not in {PRE_ACTIVE, ACTIVE}
        else:
            self.dates = self.dates._replace(deactivation=self.now + seconds)

    @invariant()
    def nothing_destroyed_lives_again(self) -> None:
        assert effective_state(self.state, self.dates, self.now) == self.state or self.state in {PRE_ACTIVE, ACTIVE}


TestLifeCycle = LifeCycle.TestCase


@given(st.sampled_from(State), ALL_DATES, st.integers(0, 100))
def test_time_only_moves_forward(state: State, dates: Dates, now: int) -> None:
    after = effective_state(int(state), dates, now)
    assert after == int(state) or int(state) in {PRE_ACTIVE, ACTIVE}
    assert effective_state(after, dates, now) == after
    later = effective_state(int(state), dates, now + 50)
    assert later == effective_state(after, dates, now + 50)
    if not will_change(after, dates, now):
        assert later == after


@given(ALL_DATES)
def test_dates_that_contradict_each_other_are_refused(dates: Dates) -> None:
    activation, start, stop, deactivation = dates
    pairs = [
        (activation, start),
        (activation, stop),
        (activation, deactivation),
        (start, deactivation),
        (stop, deactivation),
    ]
    contradict = any(first is not None and second is not None and second < first for first, second in pairs)
    if contradict:
        with pytest.raises(OperationFailed):
            check_order(dates)
    else:
        check_order(dates)


@pytest.mark.parametrize(
    ("name", "state", "current", "allowed"),
    [
        ("Activation Date", PRE_ACTIVE, 5, True),
        ("Activation Date", ACTIVE, 5, False),
        ("Deactivation Date", ACTIVE, 200, True),
        ("Deactivation Date", DEACTIVATED, 5, False),
        ("Process Start Date", ACTIVE, 200, True),
        ("Process Start Date", ACTIVE, 50, False),
        ("Process Start Date", ACTIVE, None, True),
        ("Protect Stop Date", PRE_ACTIVE, 200, True),
        ("Protect Stop Date", COMPROMISED, 200, False),
    ],
)
def test_which_dates_may_change(name: str, state: int, current: int | None, allowed: bool) -> None:
    if allowed:
        check_date_change(name, state, current, 100)
        return
    with pytest.raises(OperationFailed) as caught:
        check_date_change(name, state, current, 100)
    assert caught.value.reason == ResultReason.WrongKeyLifecycleState


def test_what_has_no_state_has_no_life_cycle() -> None:
    with pytest.raises(OperationFailed) as caught:
        activated(NO_STATE)
    assert caught.value.reason == ResultReason.IllegalOperation
    with pytest.raises(OperationFailed) as caught:
        revoked(NO_STATE, 2)
    assert caught.value.reason == ResultReason.IllegalOperation
