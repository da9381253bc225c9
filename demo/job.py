"""The main job, step by step: install, apply the resources, encrypt a virtual machine, rotate a certificate, span regions."""

from __future__ import annotations

import base64
import secrets
import time
from pathlib import Path

from demo.certificates import vcenter_identity
from demo.clients import Endpoint, endpoints, pykmip_round_trip, until_accepted, until_refused
from demo.kubernetes import ROOT, Kubernetes
from demo.steps import note, step
from demo.vcenter import UnexpectedAnswerError, encrypt_vm, get

READY_TIMEOUT = 180
"""Seconds: image start, volume, first root key; measured well below, and a person is watching."""


def image_settings() -> list[str]:
    """Arguments of helm's that choose the images that were just built."""
    image = "localhost/kmip-operator"
    values = {
        "image.repository": f"{image}/operator",
        "image.tag": "dev",
        "kmipd.image.repository": f"{image}/kmipd",
        "kmipd.image.tag": "dev",
        "custody.image.repository": f"{image}/custody",
        "custody.image.tag": "dev",
    }
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def install(kubernetes: Kubernetes) -> None:
    """Install or upgrade the chart."""
    kubernetes.helm(
        "upgrade", "--install", "kmip-operator", ROOT / "helm" / "kmip-operator",
        "--namespace", "kmip-system", "--create-namespace", "--wait", "--timeout", "3m", *image_settings(),
    )  # fmt: skip


def vsphere(kubernetes: Kubernetes, work: Path) -> Endpoint:
    """Apply the vSphere example and wait for it; its endpoint. Certificates are kept in ``work``."""
    kubernetes.namespace("vsphere")
    vcenter = vcenter_identity(work, "vcenter")
    with step("an HSM for evaluation (SoftHSM2) with its token"):
        kubernetes.apply(ROOT / "examples" / "softhsm")
        kubernetes.kubectl("-n", "vsphere", "wait", "--for=condition=complete", "job/softhsm-init", "--timeout=120s")
    with step("kubectl apply -f examples/vsphere: all four Ready"):
        kubernetes.secret("vsphere", "vcenter", {"tls.crt": vcenter.pem})
        kubernetes.apply(ROOT / "examples" / "vsphere")
        kubernetes.wait_ready("vsphere", timeout=READY_TIMEOUT)
    return endpoints(kubernetes, "vsphere", "vc-tokyo", work)[0]


def use(kubernetes: Kubernetes, endpoint: Endpoint, work: Path) -> None:
    """Encrypt a VM as vCenter does, and work with PyKMIP's client."""
    vcenter = vcenter_identity(work, "vcenter")
    with step("vCenter 7.0.3 encrypts a VM: 8 connections"):
        encrypted = encrypt_vm(lambda: endpoint.connect(vcenter))
        with endpoint.connect(vcenter) as connection:
            if get(connection, encrypted.vm_key) != encrypted.vm_material:
                raise UnexpectedAnswerError("a second Get answered other key bytes")
        note(f"VM key {encrypted.vm_key}, host key {encrypted.host_key}: created, fetched, activated, stamped")
    peer = vcenter_identity(work, "pykmip")
    with step("PyKMIP's client, with a certificate of its own and all permissions"):
        kubernetes.apply(client_certificate("pykmip", peer.pem, profile="Full"))
        until_accepted(endpoint, peer, since=time.monotonic())
        note(pykmip_round_trip(endpoint, peer))


def client_certificate(name: str, pem: str, *, profile: str) -> str:
    """A ClientCertificate with an inline PEM."""
    body = "".join(f"      {line}\n" for line in pem.strip().splitlines())
    return (
        "apiVersion: kmip.dev/v1alpha1\nkind: ClientCertificate\n"
        f"metadata: {{name: {name}, namespace: vsphere}}\n"
        "spec:\n  instanceRef: {name: vc-tokyo}\n  type: Leaf\n  leaf:\n    pem: |\n"
        f"{body}  permissions: {{profile: {profile}}}\n"
    )


def rotate(kubernetes: Kubernetes, endpoint: Endpoint, work: Path) -> tuple[float, float]:
    """Apply and remove a second vCenter's certificate; the seconds each took to be enforced."""
    second = vcenter_identity(work, "vcenter-2")
    with step("a second vCenter's certificate is applied"):
        began = time.monotonic()
        kubernetes.apply(client_certificate("vcenter-2", second.pem, profile="VSphere"))
        applied = until_accepted(endpoint, second, since=began)
        note(f"first accepted request {applied:.2f} s after kubectl apply began")
    with step("the second certificate is removed"):
        began = time.monotonic()
        kubernetes.kubectl("-n", "vsphere", "delete", "clientcertificate", "vcenter-2", "--wait=false")
        removed = until_refused(endpoint, second, since=began)
        note(f"refused {removed:.2f} s after kubectl delete began")
    return applied, removed


def regions(kubernetes: Kubernetes, work: Path) -> list[Endpoint]:
    """The two-region example: a key made through one region is read through the other."""
    kubernetes.namespace("regions")
    vcenter = vcenter_identity(work, "vcenter")
    with step("kubectl apply -f examples/regions: PostgreSQL, two regions, all four Ready"):
        password = secrets.token_urlsafe(24)
        uri = f"postgresql://kmip:{password}@postgresql.regions.svc:5432/postgres"
        if "postgresql" not in kubernetes.kubectl("-n", "regions", "get", "secret", "-o", "name"):
            kubernetes.secret("regions", "postgresql", {"password": password, "uri": uri})
            seed = base64.b64encode(secrets.token_bytes(48)).decode()
            kubernetes.secret("regions", "software-root-key", {"seed": seed})
        kubernetes.secret("regions", "vcenter", {"tls.crt": vcenter.pem})
        kubernetes.apply(ROOT / "examples" / "regions")
        kubernetes.wait_ready("regions", timeout=READY_TIMEOUT)
    found = endpoints(kubernetes, "regions", "everywhere", work)
    with step("a key made in one region is read in the other"):
        if len(found) != 2:
            raise UnexpectedAnswerError(f"two endpoints expected, {len(found)} in the status")
        encrypted = encrypt_vm(lambda: found[0].connect(vcenter))
        with found[1].connect(vcenter) as connection:
            if get(connection, encrypted.vm_key) != encrypted.vm_material:
                raise UnexpectedAnswerError("the other region answered other key bytes")
        note(f"{encrypted.vm_key}: made at {found[0].region}, read at {found[1].region}")
    return found
