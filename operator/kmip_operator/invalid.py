"""What is decided about an object whose spec this release cannot read."""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from kmip_contract.model import explain
from kmip_operator.conditions import Problem, render, summarise, transitions
from kmip_operator.plan import Manifest, Plan
from kmip_operator.reasons import Reason


def invalid_spec(manifest: Manifest, error: ValidationError, now: datetime) -> Plan:
    """Touch nothing and say which fields are wrong; the CRD's schema refuses what this release knows to be wrong."""
    message = f"spec: {explain(error)}. Correct it, or upgrade the operator if a newer release wrote it."
    findings = summarise([Problem(Reason.INVALID_SPEC, message, stalled=True)], ready="")
    kept = {item["type"]: item for item in ((manifest.get("status") or {}).get("conditions") or [])}
    ours = render(findings, manifest, now)
    others = [item for name, item in kept.items() if name not in {condition["type"] for condition in ours}]
    status = {
        **(manifest.get("status") or {}),
        "observedGeneration": manifest["metadata"].get("generation", 0),
        "conditions": [*ours, *others],
    }
    return Plan(status=status, events=transitions(findings, manifest))
