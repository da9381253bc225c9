"""The keyspace of an instance: whose keys they are, and what leads back to them when the instance is gone."""

from __future__ import annotations

from kmip_operator import naming
from kmip_operator.conditions import Problem
from kmip_operator.facts import ObjectMeta
from kmip_operator.kmipinstance import pods
from kmip_operator.kmipinstance.children import retained_labels
from kmip_operator.kmipinstance.model import DeletionPolicy, KmipInstanceSpec
from kmip_operator.kmipinstance.snapshot import KmipInstanceSnapshot
from kmip_operator.plan import Manifest
from kmip_operator.reasons import Reason


def bound_keyspace(snapshot: KmipInstanceSnapshot) -> str | None:
    """The keyspace an instance must have: its status says so, or what an instance of this name left behind does."""
    known = (snapshot.object.get("status") or {}).get("keyspace")
    if known:
        return str(known)
    return next((found for meta in _left(snapshot) if (found := meta.labels.get(naming.LABEL_KEYSPACE))), None)


def _left(snapshot: KmipInstanceSnapshot) -> tuple[ObjectMeta, ...]:
    """What outlives an instance, without what is about to go with the one before."""
    return tuple(meta for meta in _outliving(snapshot) if not _going(snapshot, meta))


def _outliving(snapshot: KmipInstanceSnapshot) -> tuple[ObjectMeta, ...]:
    secrets = (snapshot.authority, snapshot.server)
    return (*(secret.meta for secret in secrets if secret is not None), *snapshot.volume_claims)


def _going(snapshot: KmipInstanceSnapshot, meta: ObjectMeta) -> bool:
    """Whether it is being deleted, or belongs with consent to an earlier instance of this name, so that it will be."""
    others = bool(meta.owner_uids) and snapshot.object["metadata"]["uid"] not in meta.owner_uids
    confirmed = meta.annotations.get(naming.ANNOTATION_CONFIRM_DELETE)
    return meta.deleting or (others and bool(confirmed) and confirmed == meta.labels.get(naming.LABEL_KEYSPACE))


def leaving(snapshot: KmipInstanceSnapshot) -> Problem | None:
    """What an earlier instance of this name takes with it is still there: a new one must not begin with it.

    Only before anything of this instance exists: afterwards its own pods may be what holds a claim back, and waiting would
    never end.
    """
    uid = snapshot.object["metadata"]["uid"]
    owners = (owner for child in snapshot.children for owner in child["metadata"].get("ownerReferences") or ())
    if (snapshot.object.get("status") or {}).get("keyspace") or any(owner["uid"] == uid for owner in owners):
        return None
    names = sorted(meta.name for meta in _outliving(snapshot) if _going(snapshot, meta))
    if not names:
        return None
    return Problem(
        Reason.PROGRESSING,
        f"Waits until {', '.join(names)} of an earlier instance of this name, whose deletion was confirmed, "
        f"{'is' if len(names) == 1 else 'are'} gone; then it starts empty.",
    )


def keyspace(snapshot: KmipInstanceSnapshot) -> str | None:
    """The bound keyspace, else the one that pods report, when they agree."""
    bound = bound_keyspace(snapshot)
    reported = pods.keyspaces(snapshot.pods)
    return bound or (reported[0] if len(reported) == 1 else None)


def mismatch(snapshot: KmipInstanceSnapshot) -> Problem | None:
    """Pods that found other keys than the instance's."""
    bound = bound_keyspace(snapshot)
    others = [found for found in pods.keyspaces(snapshot.pods) if found != bound]
    if bound is None and len(others) < 2:
        return None
    if not others:
        return None
    return Problem(
        Reason.KEYSPACE_MISMATCH,
        f"spec.storage: it holds keyspace {', '.join(others)}, but this instance's keyspace is {bound or 'another'}. Give the "
        "storage that holds that one, or serve this storage by an instance of another name.",
        stalled=True,
    )


def wrapped_by_another(snapshot: KmipInstanceSnapshot) -> Problem | None:
    """What an earlier instance of this name left belongs to another root key: this one cannot unwrap those keys."""
    mine = naming.label_value(snapshot.object["spec"]["rootKeyRef"]["name"])
    for meta in _left(snapshot):
        other = meta.labels.get(naming.LABEL_ROOT_KEY, mine)
        if meta.labels.get(naming.LABEL_KEYSPACE) and other != mine:
            return Problem(
                Reason.KEYSPACE_MISMATCH,
                f"spec.rootKeyRef: {meta.name} of an earlier instance of this name holds keyspace "
                f"{meta.labels[naming.LABEL_KEYSPACE]}, whose keys RootKey {other} wraps. Refer to that one, or give the "
                "instance another name.",
                stalled=True,
            )
    return None


def retained(snapshot: KmipInstanceSnapshot, spec: KmipInstanceSpec) -> tuple[Manifest, ...]:
    """Labels of what outlives the instance; and, with consent, the references that make it go with the instance.

    Each names the uid it was observed with, so that it is never made anew by this.
    """
    if wrapped_by_another(snapshot) is not None:
        return ()
    known = keyspace(snapshot)
    confirmed = naming.annotations_of(snapshot.object).get(naming.ANNOTATION_CONFIRM_DELETE)
    doomed = spec.deletion_policy is DeletionPolicy.DELETE and known is not None and confirmed == known
    # The StatefulSet controller stamps its selector's labels on claims, whatever the template says: component is server.
    found = [("PersistentVolumeClaim", claim, "server") for claim in snapshot.volume_claims if not claim.deleting]
    if snapshot.authority is not None:
        found.append(("Secret", snapshot.authority.meta, "authority"))
    if snapshot.server is not None:
        found.append(("Secret", snapshot.server.meta, "server-certificate"))
    return tuple(
        _marks(snapshot.object, kind, meta, component, known, doomed=doomed) for kind, meta, component in found
    )


def _marks(
    instance: Manifest, kind: str, meta: ObjectMeta, component: str, keyspace_id: str | None, *, doomed: bool
) -> Manifest:
    metadata: Manifest = {
        "name": meta.name,
        "namespace": instance["metadata"]["namespace"],
        "uid": meta.uid,
        "labels": retained_labels(instance, component, keyspace_id),
    }
    if doomed:
        metadata["annotations"] = {naming.ANNOTATION_CONFIRM_DELETE: keyspace_id}
        metadata["ownerReferences"] = [{**naming.owner_reference(instance), "controller": False}]
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}
