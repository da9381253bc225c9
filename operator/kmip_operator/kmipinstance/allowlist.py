"""The allowlist of an instance, made from its ClientCertificates; its revision grows whenever the content changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kmip_contract.allowlist import ALLOWLIST_KEY, Allowlist, Serving
from kmip_operator import naming
from kmip_operator.clientcertificate.certificate import entry, examine, oldest
from kmip_operator.conditions import Problem, timestamp
from kmip_operator.kmipinstance.children import allowlist_name, labels
from kmip_operator.kmipinstance.snapshot import KmipInstanceSnapshot
from kmip_operator.plan import Manifest
from kmip_operator.reasons import Reason

MAX_BYTES = 1_000_000
"""The API server takes at most 1 MiB of data in a Secret."""


@dataclass(frozen=True)
class Published:
    """The allowlist as it should be.

    content: with its revision.
    since: when that revision was, or is now, published.
    new: whether it is published by this plan.
    problem: why the content asked for is not published.
    """

    content: Allowlist
    since: datetime
    new: bool
    problem: Problem | None = None


def render(snapshot: KmipInstanceSnapshot, serving: Serving, now: datetime) -> Published:
    """The allowlist from what was observed."""
    examined = [examine(item.object, item.source, now) for item in snapshot.certificates]
    entries = tuple(
        sorted(
            (found for item in oldest(examined) if (found := entry(item)) is not None),
            key=lambda found: found.name,
        )
    )
    present = snapshot.allowlist
    since = snapshot.allowlist_changed or now
    if present is not None and present.entries == entries and present.serving == serving:
        return Published(present, since, new=False)
    wanted = Allowlist(revision=_next_revision(snapshot), serving=serving, entries=entries)
    size = len(wanted.to_json())
    if size <= MAX_BYTES:
        return Published(wanted, now, new=True)
    # Fencing must still reach the pods: it goes out with the entries as they are.
    kept = present.entries if present is not None else ()
    problem = Problem(
        Reason.ALLOWLIST_TOO_LARGE,
        f"{len(entries)} ClientCertificates make an allowlist of {size} bytes; at most {MAX_BYTES} fit. The list before is "
        "still in force. Trust authorities instead of single certificates, or spread the clients over several instances.",
        stalled=True,
    )
    if present is not None and present.serving == serving:
        return Published(present, since, new=False, problem=problem)
    content = Allowlist(revision=wanted.revision, serving=serving, entries=kept)
    return Published(content, now, new=True, problem=problem)


def _next_revision(snapshot: KmipInstanceSnapshot) -> int:
    """Above every revision that was ever seen: a pod refuses to go back."""
    seen = [pod.status.allowlist_revision for pod in snapshot.pods if pod.status is not None]
    if snapshot.allowlist is not None:
        seen.append(snapshot.allowlist.revision)
    seen.append((snapshot.object.get("status") or {}).get("allowlistRevision") or 0)
    return max(seen) + 1


def secret(instance: Manifest, published: Published) -> Manifest:
    """The Secret that the pods mount. It holds no secret; as a Secret it is written to memory on the nodes, not to disk."""
    metadata = naming.metadata(instance, allowlist_name(instance), labels(instance, "allowlist"))
    metadata["annotations"] = {naming.ANNOTATION_PUBLISHED_AT: timestamp(published.since)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {ALLOWLIST_KEY: naming.base64_text(published.content.to_json())},
    }
