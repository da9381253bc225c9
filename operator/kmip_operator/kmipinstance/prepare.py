"""Makes the random material of an instance when there is none: its CA, its server certificate, both sides of /status."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from kmip_operator import naming, pki
from kmip_operator.kmipinstance.children import (
    authority_secret,
    control_host,
    control_secrets,
    server_names,
    server_secret,
)
from kmip_operator.kmipinstance.keyspace import bound_keyspace, leaving
from kmip_operator.kmipinstance.model import KmipInstanceSpec
from kmip_operator.kmipinstance.snapshot import KmipInstanceSnapshot, NewMaterial
from kmip_operator.plan import Manifest


def prepare(snapshot: KmipInstanceSnapshot, now: datetime) -> KmipInstanceSnapshot:
    """The snapshot with new material where some is absent; call it between observing and deciding."""
    try:
        spec = KmipInstanceSpec.model_validate(snapshot.object["spec"])
    except ValidationError:
        return snapshot
    if leaving(snapshot) is not None:
        return snapshot
    pair, authority = _authority(snapshot, now)
    new = NewMaterial(authority=authority, control=() if snapshot.control else _control(snapshot, now))
    if pair is None:
        return replace(snapshot, new=new)
    if snapshot.server is None:
        return replace(snapshot, new=replace(new, server=_server(snapshot, spec, pair, now)))
    if renewal_due(snapshot, spec):
        made = _server(snapshot, spec, pair, now)
        renewed: Manifest = {
            "apiVersion": made["apiVersion"],
            "kind": made["kind"],
            "metadata": {
                "name": made["metadata"]["name"],
                "namespace": made["metadata"]["namespace"],
                "resourceVersion": snapshot.server.meta.resource_version,
                "annotations": made["metadata"].get("annotations", {}),
            },
            "data": made["data"],
        }
        return replace(snapshot, new=replace(new, renewed_server=renewed))
    return replace(snapshot, new=new)


def renewal_due(snapshot: KmipInstanceSnapshot, spec: KmipInstanceSpec) -> bool:
    """Whether a new server certificate must replace the present one: it was asked for, or nobody can have seen this one.

    Administrators accept a certificate as it is, so after the first use only their act replaces it.
    """
    if snapshot.server is None:
        return False
    asked = naming.annotations_of(snapshot.object).get(naming.ANNOTATION_RENEW_SERVER, "")
    if asked and snapshot.server.meta.annotations.get(naming.ANNOTATION_RENEWED_FOR, "") != asked:
        return True
    return bound_keyspace(snapshot) is None and bool(missing_names(snapshot, spec))


def missing_names(snapshot: KmipInstanceSnapshot, spec: KmipInstanceSpec) -> tuple[str, ...]:
    """Names and addresses that clients use and that the present server certificate does not have."""
    chain = pki.read_chain(snapshot.server.certificate) if snapshot.server else ()
    present = set(chain[0].names) if chain else set()
    services = [child for child in snapshot.children if child["kind"] == "Service"]
    return tuple(name for name in server_names(snapshot.object, spec, services) if name not in present)


def _authority(snapshot: KmipInstanceSnapshot, now: datetime) -> tuple[pki.KeyPair | None, Manifest | None]:
    """The pair to sign with, and the Secret to create. Without its CA an existing server certificate stays what it is."""
    present = snapshot.authority
    if present is not None:
        pair = pki.KeyPair(present.certificate.encode(), present.key) if present.key else None
        return pair, None
    if snapshot.server is not None:
        return None, None
    metadata = snapshot.object["metadata"]
    pair = pki.make_authority(f"KMIP CA of {metadata['namespace']}/{metadata['name']}", now)
    return pair, authority_secret(snapshot.object, pair, bound_keyspace(snapshot))


def _server(snapshot: KmipInstanceSnapshot, spec: KmipInstanceSpec, authority: pki.KeyPair, now: datetime) -> Manifest:
    services = [child for child in snapshot.children if child["kind"] == "Service"]
    leaf = pki.make_server_leaf(authority, server_names(snapshot.object, spec, services), now)
    asked = naming.annotations_of(snapshot.object).get(naming.ANNOTATION_RENEW_SERVER, "")
    return server_secret(snapshot.object, leaf, authority.certificate, bound_keyspace(snapshot), asked)


def _control(snapshot: KmipInstanceSnapshot, now: datetime) -> tuple[Manifest, ...]:
    host = control_host(snapshot.object)
    authority = pki.make_authority(host, now)
    return control_secrets(
        snapshot.object,
        authority.certificate,
        pki.make_server_leaf(authority, [host], now),
        pki.make_client_leaf(authority, f"operator of {host}", now),
    )


def wants_authority_key(snapshot: KmipInstanceSnapshot) -> bool:
    """Whether ``authority.key`` must be read for ``prepare``: only when a server certificate has to be signed."""
    try:
        spec = KmipInstanceSpec.model_validate(snapshot.object["spec"])
    except ValidationError:
        return False
    if leaving(snapshot) is not None:
        return False
    return snapshot.authority is not None and (snapshot.server is None or renewal_due(snapshot, spec))
