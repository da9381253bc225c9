"""The allowlist of an instance, made from its ClientCertificates; its revision grows whenever the content changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from kmip_contract.allowlist import ALLOWLIST_KEY, Allowlist, AllowlistEntry, Serving
from kmip_operator import naming
from kmip_operator.clientcertificate.certificate import entry, examine, oldest
from kmip_operator.conditions import Problem, timestamp
from kmip_operator.kmipinstance.children import allowlist_name, labels
from kmip_operator.kmipinstance.snapshot import KmipInstanceSnapshot
from kmip_operator.plan import Manifest
from kmip_operator.reasons import Reason

MAX_BYTES = 1_000_000
"""The API server takes at most 1 MiB of data in a Secret."""

# Names of certificates that are left out, as many as a person reads.
_NAMED = 10


@dataclass(frozen=True)
class Published:
    """The allowlist as it should be.

    content: with its revision.
    since: when that revision was, or is now, published.
    new: whether it is published by this plan.
    problem: why not all of the content asked for is published.
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
    wanted = Allowlist(revision=_next_revision(snapshot), serving=serving, entries=entries)
    published = _published(snapshot, wanted, now)
    if not published.new:
        return published
    size = len(wanted.to_json())
    if size <= MAX_BYTES:
        return published
    # Withdrawals, blocks and fencing must still reach the pods.
    reduced = wanted.model_copy(update={"entries": _reduced(snapshot.allowlist, wanted)})
    return replace(_published(snapshot, reduced, now), problem=_too_large(wanted, size, reduced))


def _published(snapshot: KmipInstanceSnapshot, content: Allowlist, now: datetime) -> Published:
    """The present list where it says the same, unless a later one was seen: then this content gets a revision above that."""
    present = snapshot.allowlist
    if (
        present is not None
        and present.revision >= content.revision - 1
        and (present.entries, present.serving) == (content.entries, content.serving)
    ):
        return Published(present, snapshot.allowlist_changed or now, new=False)
    return Published(content, now, new=True)


def _reduced(present: Allowlist | None, wanted: Allowlist) -> tuple[AllowlistEntry, ...]:
    """Of what is in force, that which is still wanted, as it is wanted now; nothing is added.

    An entry that grew is left out, the last first, while they do not fit: the others fitted as they were.
    """
    before = {item.sha256: len(item.to_json()) for item in (present.entries if present is not None else ())}
    kept = [item for item in wanted.entries if item.sha256 in before]
    surplus = len(wanted.model_copy(update={"entries": tuple(kept)}).to_json()) - MAX_BYTES
    for item in reversed(tuple(kept)):
        size = len(item.to_json())
        if surplus > 0 and size > before[item.sha256]:
            kept.remove(item)
            surplus -= size
    return tuple(kept)


def _too_large(wanted: Allowlist, size: int, reduced: Allowlist) -> Problem:
    kept = {item.sha256 for item in reduced.entries}
    out = [item.name for item in wanted.entries if item.sha256 not in kept]
    more = f" and {len(out) - _NAMED} more" if len(out) > _NAMED else ""
    return Problem(
        Reason.ALLOWLIST_TOO_LARGE,
        f"{len(wanted.entries)} ClientCertificates make an allowlist of {size} bytes; at most {MAX_BYTES} fit. {len(out)} of "
        f"them are left out: {', '.join(out[:_NAMED])}{more}. Those in force before stay, and what is withdrawn or blocked is. "
        "Trust authorities instead of single certificates, or spread the clients over several instances.",
        stalled=True,
    )


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
