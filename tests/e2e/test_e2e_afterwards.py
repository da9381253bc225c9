"""What all the other tests left behind: no secret in any place that is not a Secret, and no complaint in a log."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import e2e_manifests as make
from support.e2e_cluster import Cluster
from support.e2e_hsm import make_pod_hsm
from support.e2e_operator import OperatorLog
from support.e2e_search import Needle, places

from demo.certificates import vcenter_identity
from demo.clients import Endpoint
from demo.vcenter import create, get

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EXPECTED = (
    "lease not renewed",  # the API server or the machine was slow
    "leadership lost",
    "operator stops",
)
"""Messages above level info that kills and a busy machine explain."""


def keys_of(endpoint: Endpoint, client: Any, title: str) -> list[Needle]:
    with endpoint.connect(client) as connection:
        made = [create(connection) for _ in range(3)]
        return [Needle.of_bytes(f"key {key} of {title}", get(connection, key)) for key in made]


def test_no_secret_is_where_none_belongs(cluster: Cluster, main_job: Any, namespace: str, tmp_path: Path) -> None:
    hsm = make_pod_hsm(cluster, namespace)
    wrong, seed = "a-wrong-pin-913572", base64.b64encode(b"seed of the search " * 3).decode()
    client, vcenter = vcenter_identity(tmp_path, "client"), vcenter_identity(main_job.work, "vcenter")
    cluster.apply_objects(
        *hsm.supports(),
        make.secret(namespace, "pin", pin=hsm.pin),
        make.secret(namespace, "wrong-pin", pin=wrong),
        make.secret(namespace, "seed", seed=seed),
        hsm.key_manager("hsm", "pin"),
        hsm.key_manager("refused", "wrong-pin"),
        make.software(namespace),
        make.root_key(namespace, "in-hsm", "hsm"),
        make.root_key(namespace, "in-software", "software"),
        make.sqlite(namespace, "on-hsm", "in-hsm"),
        make.sqlite(namespace, "on-software", "in-software"),
        make.leaf(namespace, "on-hsm", client.pem, instance="on-hsm"),
        make.leaf(namespace, "on-software", client.pem, instance="on-software"),
    )
    cluster.stalled("keymanager", namespace, "refused", "CredentialRefused")
    needles = [
        Needle.of_text("the PIN", hsm.pin),
        Needle.of_text("a wrong PIN", wrong),
        Needle.of_text("the seed", seed),
        Needle.of_bytes("the seed's bytes", base64.b64decode(seed)),
        Needle.of_text("the database's password", cluster.secret_text("regions", "postgresql", "password")),
        *keys_of(main_job.vsphere, vcenter, "vsphere"),
        *keys_of(main_job.regions[0], vcenter, "regions"),
    ]
    for instance in ("on-hsm", "on-software"):
        cluster.until("clientcertificate", namespace, instance)
        cluster.until("kmipinstance", namespace, instance)
        endpoint = cluster.endpoint(namespace, instance)
        cluster.until_reachable(endpoint, client)
        needles += keys_of(endpoint, client, instance)
    kinds: Counter[str] = Counter()
    found = []
    for place, data in places(cluster):
        kinds[place.partition(" ")[0]] += 1
        found += [f"{needle.name} in {place}" for needle in needles if needle.within(data)]
    print("searched:", dict(kinds))
    assert found == []
    for kind in (
        "log",
        "Event",
        "ConfigMap",
        "Pod",
        "KmipInstance",
        "Secret",
        "volume",
        "cmdline",
        "environ",
        "metrics",
    ):
        assert kinds[kind], f"nothing of kind {kind} was searched"
    # The search finds what is there: the same needles in the Secrets, which it leaves out.
    secrets = cluster.kubectl("-n", namespace, "get", "secrets", "-o", "json").encode()
    assert all(needle.within(secrets) for needle in needles[:3])


def test_no_error_is_in_the_operators_log(cluster: Cluster, operator_log: OperatorLog) -> None:
    operator_log.collect()
    entries = operator_log.entries()
    assert entries
    complaints = [
        entry
        for entry in entries
        if entry["level"] not in ("info", "debug") and not any(text in str(entry.get("message")) for text in EXPECTED)
    ]
    forbidden = [line for line in operator_log.lines if "Forbidden" in line]
    assert forbidden == []
    assert complaints == []


def test_no_traceback_is_in_any_log(cluster: Cluster) -> None:
    found = []
    for path in cluster.state.folder.glob("nodes/*/log/pods/*/*/*.log"):
        program = path.parent.name
        if program in ("kmipd", "custody", "operator"):
            found += [
                f"{path.parent.parent.name}: {line}" for line in path.read_text().splitlines() if "Traceback" in line
            ]
    assert found == []
