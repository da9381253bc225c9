"""Deciding about a KmipInstance step by step, and reading what was decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from support.operator_samples import (
    NOW,
    instance_after,
    instance_snapshot,
    pod,
    pod_status,
)

from kmip_operator.facts import PodFacts
from kmip_operator.kmipinstance.decide import decide
from kmip_operator.kmipinstance.prepare import prepare
from kmip_operator.kmipinstance.snapshot import KmipInstanceSnapshot
from kmip_operator.plan import Manifest, Plan


def step(snapshot: KmipInstanceSnapshot, now: datetime = NOW) -> tuple[KmipInstanceSnapshot, Plan]:
    plan = decide(prepare(snapshot, now), now)
    return instance_after(snapshot, plan, now), plan


def settled(snapshot: KmipInstanceSnapshot, *pods: PodFacts, now: datetime = NOW) -> KmipInstanceSnapshot:
    """Everything exists and the workloads have their pods."""
    snapshot, _ = step(snapshot, now)
    snapshot = replace(snapshot, pods=pods)
    for child in snapshot.children:
        if child["kind"] in {"Deployment", "StatefulSet"}:
            child["status"] = {"observedGeneration": 1, "updatedReplicas": child["spec"]["replicas"]}
    for _ in range(3):
        snapshot, _ = step(snapshot, now)
    return snapshot


def conditions(plan: Plan) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in plan.status["conditions"]}


def message(plan: Plan, kind: str = "Stalled") -> str:
    return next(str(item["message"]) for item in plan.status["conditions"] if item["type"] == kind)


def kinds(manifests: Sequence[Manifest]) -> list[tuple[str, str]]:
    return [(item["kind"], item["metadata"]["name"]) for item in manifests]


def applied(plan: Plan, kind: str, name: str) -> Manifest:
    return next(item for item in plan.apply if (item["kind"], item["metadata"]["name"]) == (kind, name))


def sqlite(**changes: Any) -> KmipInstanceSnapshot:
    return settled(instance_snapshot(**changes), pod("vc-0", status=pod_status(1)))
