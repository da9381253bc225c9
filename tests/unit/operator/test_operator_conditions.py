"""Conditions and Events, names and quantities."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.operator_samples import NOW, condition, instance, resource

from kmip_operator.conditions import Finding, Problem, render, summarise, timestamp, transitions
from kmip_operator.naming import label_value, object_name, seconds
from kmip_operator.plan import Manifest
from kmip_operator.quantity import canonical
from kmip_operator.reasons import Reason

WAITING = Problem(Reason.PROBING, "It is being tried.")
BROKEN = Problem(Reason.SECRET_MISSING, "There is none.", stalled=True)
ASIDE = Problem(Reason.ADDRESS_PENDING, "No address.", stalled=True, blocking=False)


def states(*problems: Problem) -> dict[str, tuple[str, str]]:
    return {item.type: (item.status, item.reason) for item in summarise(problems, ready="Good.")}


def test_without_problems_it_is_ready_and_nothing_is_under_way() -> None:
    assert states() == {
        "Ready": ("True", "Ready"),
        "Reconciling": ("False", "Reconciled"),
        "Stalled": ("False", "Reconciled"),
    }


def test_what_needs_a_person_comes_before_what_passes() -> None:
    assert states(WAITING, BROKEN) == {
        "Ready": ("False", "SecretMissing"),
        "Reconciling": ("False", "Reconciled"),
        "Stalled": ("True", "SecretMissing"),
    }
    assert states(WAITING)["Reconciling"] == ("True", "Probing")


def test_a_problem_aside_stalls_and_leaves_it_ready() -> None:
    assert states(ASIDE)["Ready"] == ("True", "Ready")
    assert states(ASIDE)["Stalled"] == ("True", "AddressPending")


def test_a_message_stays_readable_however_many_problems_there_are() -> None:
    many = [Problem(Reason.POD_NOT_STARTED, "x" * 90 + str(number)) for number in range(100)]
    assert all(len(item.message) <= 2000 for item in summarise(many, ready=""))


def conditioned(*items: Manifest) -> Manifest:
    manifest = instance()
    manifest["status"] = {"conditions": list(items)}
    return manifest


def test_the_transition_time_moves_only_with_the_status() -> None:
    before = conditioned(condition("Ready", "False", "Probing"))
    (same,) = render([Finding("Ready", "False", Reason.SECRET_MISSING, "other words")], before, NOW)
    assert same["lastTransitionTime"] == "2026-11-01T10:00:00Z"
    assert same["reason"] == "SecretMissing"
    (changed,) = render([Finding("Ready", "True", Reason.READY, "")], before, NOW)
    assert changed["lastTransitionTime"] == timestamp(NOW)


def test_each_condition_says_which_generation_it_is_about() -> None:
    manifest = resource("RootKey", "x", {}, generation=7)
    (item,) = render([Finding("Ready", "True", Reason.READY, "")], manifest, NOW)
    assert item["observedGeneration"] == 7


def test_events_tell_of_changes_and_never_of_the_same_twice() -> None:
    def said(before: Manifest, *problems: Problem) -> list[tuple[str, str]]:
        return [(event.type, event.reason) for event in transitions(summarise(problems, ready="Good."), before)]

    fresh, ready = instance(), conditioned(condition("Ready", "True", "Ready"))
    stalled = conditioned(condition("Ready", "False", "SecretMissing"), condition("Stalled", "True", "SecretMissing"))
    assert said(fresh, WAITING) == []
    assert said(fresh) == [("Normal", "Ready")]
    assert said(ready) == []
    assert said(ready, WAITING) == [("Warning", "Probing")]
    assert said(ready, BROKEN) == [("Warning", "SecretMissing")]
    assert said(stalled, BROKEN) == []
    assert said(stalled) == [("Normal", "Ready")]
    other = Problem(Reason.VOLUME_CLAIM_MISSING, "", stalled=True)
    assert said(stalled, other) == [("Warning", "VolumeClaimMissing")]


@given(st.lists(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,80}[a-z0-9])?", fullmatch=True), min_size=1, max_size=3))
def test_names_are_dns_labels_of_at_most_63_characters(parts: list[str]) -> None:
    name = object_name(*parts)
    assert len(name) <= 63
    assert name[0].isalpha()
    assert name[-1].isalnum()
    assert all(letter.isalnum() or letter == "-" for letter in name)
    assert len(label_value(parts[0])) <= 63


def test_shortened_names_stay_distinct() -> None:
    names = [object_name("a.b", "ca"), object_name("a-b", "ca"), object_name("x" * 80, "1"), object_name("x" * 80, "2")]
    assert len(set(names)) == 4
    assert object_name("vc", "ca") == "vc-ca"


@pytest.mark.parametrize(("text", "value"), [("168h", 604800), ("1m30s", 90), ("0s", 0), ("250ms", 0.25)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "h", "1d", "-1s", "1h "])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("1024Mi", "1Gi"),
        ("1Gi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5", "500m"),
        ("1000m", "1"),
        (2, "2"),
        ("1000Ki", "1000Ki"),
        ("1000k", "1M"),
        ("1e3", "1e3"),
        ("0", "0"),
        ("100m", "100m"),
        ("128974848", "128974848"),
    ],
)
def test_quantities_are_written_as_the_api_server_writes_them(given: int | str, written: str) -> None:
    assert canonical(given) == written


def test_a_later_time_is_never_written_with_fractions() -> None:
    assert "." not in timestamp(NOW + timedelta(microseconds=5))
