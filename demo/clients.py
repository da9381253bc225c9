"""The clients of the demonstration: where an instance listens, who is asking, and PyKMIP as an independent peer."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.certificates import ClientIdentity
from demo.kubernetes import Kubernetes
from demo.steps import wait_for
from demo.vcenter import Connection


@dataclass(frozen=True)
class Endpoint:
    """A region's address and the authority its server certificate comes from."""

    region: str
    host: str
    port: int
    ca_file: Path

    def context(self, identity: ClientIdentity) -> ssl.SSLContext:
        """Mutual TLS as ``identity``. The name is not checked: vCenter pins what the administrator accepted."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.ca_file)
        context.load_cert_chain(identity.certificate, identity.key)
        return context

    def connect(self, identity: ClientIdentity) -> Connection:
        """A connection as vCenter opens it (use it in ``with``)."""
        return Connection(self.host, self.port, self.context(identity))

    def accepts(self, identity: ClientIdentity) -> bool:
        """Whether a new connection and its first request succeed now."""
        try:
            with self.connect(identity):
                return True
        except (OSError, ssl.SSLError):
            return False


def endpoints(kubernetes: Kubernetes, namespace: str, instance: str, folder: Path) -> list[Endpoint]:
    """The endpoints that the instance's status names, with its authority written to ``folder``."""
    status = kubernetes.get("kmipinstance", namespace, instance)["status"]
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / f"{namespace}-{instance}-ca.crt"
    ca_file.write_text(status["caCertificate"])
    # One address a region: the one that reaches furthest.
    order = ("LoadBalancer", "HostName", "NodePort", "Cluster")
    by_region: dict[str, dict[str, Any]] = {}
    for each in sorted(status["endpoints"], key=lambda each: order.index(each["type"])):
        by_region.setdefault(each.get("region", ""), each)
    return [Endpoint(region, each["host"], int(each["port"]), ca_file) for region, each in by_region.items()]


def until_accepted(endpoint: Endpoint, identity: ClientIdentity, *, since: float, timeout: float = 30) -> float:
    """Seconds from ``since`` (monotonic) until a request of ``identity`` is answered."""
    wait_for("certificate accepted", lambda: True if endpoint.accepts(identity) else None, timeout=timeout)
    return time.monotonic() - since


def until_refused(endpoint: Endpoint, identity: ClientIdentity, *, since: float, timeout: float = 30) -> float:
    """Seconds from ``since`` (monotonic) until a request of ``identity`` is refused."""
    wait_for("certificate refused", lambda: None if endpoint.accepts(identity) else True, timeout=timeout)
    return time.monotonic() - since


@contextlib.contextmanager
def pykmip(endpoint: Endpoint, identity: ClientIdentity) -> Iterator[Any]:
    """PyKMIP's client, connected."""
    from kmip.pie.client import ProxyKmipClient

    client = ProxyKmipClient(
        hostname=endpoint.host,
        port=endpoint.port,
        cert=str(identity.certificate),
        key=str(identity.key),
        ca=str(endpoint.ca_file),
        config_file="/dev/null",
    )
    with client:
        yield client


def pykmip_round_trip(endpoint: Endpoint, identity: ClientIdentity) -> str:
    """Create, Get, Activate, Locate, Revoke and Destroy one key with PyKMIP; what was done, for a person."""
    from kmip.core import enums
    from kmip.core.attributes import Name
    from kmip.core.factories.attributes import AttributeFactory

    name, text = f"demo-{time.time_ns()}", enums.NameType.UNINTERPRETED_TEXT_STRING
    with pykmip(endpoint, identity) as client:
        uid = client.create(
            enums.CryptographicAlgorithm.AES,
            256,
            name=name,
            cryptographic_usage_mask=[enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT],
        )
        key = client.get(uid)
        if len(key.value) != 32:
            raise ValueError("PyKMIP got a key of the wrong length")
        client.activate(uid)
        wanted = AttributeFactory().create_attribute(enums.AttributeType.NAME, Name.create(name, text))
        if client.locate(attributes=[wanted]) != [uid]:
            raise ValueError("PyKMIP did not locate the key by its name")
        client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid)
        client.destroy(uid)
    return f"Create, Get, Activate, Locate, Revoke, Destroy of {uid}"
