"""What is said of a KmipInstance: its conditions and its status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kmip_contract.allowlist import Serving
from kmip_operator import naming, pki
from kmip_operator.conditions import Finding, Problem, render, summarise, timestamp
from kmip_operator.kmipinstance import allowlist, availability, endpoints, keyspace, pods
from kmip_operator.kmipinstance.children import Site, postgresql
from kmip_operator.kmipinstance.model import KmipInstanceSpec, KmipInstanceStatus, ServerCertificate
from kmip_operator.kmipinstance.prepare import missing_names
from kmip_operator.kmipinstance.references import References
from kmip_operator.kmipinstance.snapshot import KmipInstanceSnapshot
from kmip_operator.kmipinstance.workload import workload_name
from kmip_operator.plan import Manifest
from kmip_operator.reasons import Reason

# Long enough to plan the replacement of a certificate that administrators have accepted by hand.
_SERVER_EXPIRY_NOTICE = timedelta(days=90)


@dataclass(frozen=True)
class Decision:
    """What one decision has worked out before its verdict."""

    snapshot: KmipInstanceSnapshot
    spec: KmipInstanceSpec
    places: tuple[Site, ...]
    references: References
    published: allowlist.Published
    keyspace: str | None
    now: datetime

    @property
    def instance(self) -> Manifest:
        """The KmipInstance."""
        return self.snapshot.object


def findings(decision: Decision) -> tuple[tuple[Finding, ...], list[float]]:
    """The conditions, and the seconds until some of them change by themselves."""
    snapshot, spec, now = decision.snapshot, decision.spec, decision.now
    services = _present(snapshot, "Service")
    workloads = _workloads(decision)
    regions = availability.states(decision.places, snapshot.pods, workloads)
    available = availability.finding(regions)
    usable = pods.root_key_finding(snapshot.pods)
    applied = pods.allowlist_finding(snapshot.pods, decision.published.content.revision)
    durable = pods.durable_finding(snapshot.pods, one_copy=postgresql(spec) is None)
    serving = available.status == "True"
    slow, slow_wait = availability.problems(regions, snapshot.nodes, now)
    addresses, address_wait = endpoints.waiting(decision.instance, decision.places, services, now)
    problems = [
        *_references(decision, serving=serving),
        *_optional(keyspace.mismatch(snapshot)),
        *_optional(_fenced(spec)),
        *_optional(_root_key_problem(usable)),
        *slow,
        *_optional(decision.published.problem),
        *_optional(_server_problem(decision)),
        *addresses,
    ]
    if not serving and not any(problem.blocking for problem in problems):
        problems.append(Problem(available.reason, f"{available.message} They are being started."))
    if applied.status == "False":
        problems.append(Problem(applied.reason, applied.message, blocking=False))
    ready = _ready_message(decision, services)
    found = (*summarise(problems, ready=ready), available, usable, applied, durable)
    return found, [wait for wait in (slow_wait, address_wait) if wait is not None]


def _references(decision: Decision, *, serving: bool) -> list[Problem]:
    """Problems with references keep an instance from being Ready unless its pods serve all the same."""
    permitted = decision.references.permitted
    return [
        Problem(problem.reason, problem.message, problem.stalled, blocking=not (serving and permitted))
        for problem in decision.references.problems
    ]


def _optional(problem: Problem | None) -> list[Problem]:
    return [] if problem is None else [problem]


def _fenced(spec: KmipInstanceSpec) -> Problem | None:
    if spec.serving is not Serving.FENCED:
        return None
    message = "spec.serving: Fenced, so every key is refused. Set it to Enabled to serve again."
    return Problem(Reason.FENCED, message, stalled=True)


def _root_key_problem(usable: Finding) -> Problem | None:
    if usable.status != "False":
        return None
    return Problem(usable.reason, usable.message, stalled=usable.reason is Reason.REVOKED)


def _leaf(snapshot: KmipInstanceSnapshot) -> tuple[pki.CertificateFacts, ...]:
    return pki.read_chain(snapshot.server.certificate) if snapshot.server else ()


def _server_problem(decision: Decision) -> Problem | None:
    chain = _leaf(decision.snapshot)
    if not chain or decision.now < chain[0].not_after - _SERVER_EXPIRY_NOTICE:
        return None
    return Problem(
        Reason.SERVER_CERTIFICATE_EXPIRING,
        f"status.serverCertificate: it is valid until {chain[0].not_after:%Y-%m-%d}. Have its successor made with the "
        f"annotation {naming.ANNOTATION_RENEW_SERVER} and accept it in the clients.",
        stalled=True,
        blocking=decision.now >= chain[0].not_after,
    )


def _ready_message(decision: Decision, services: dict[str, Manifest]) -> str:
    found = endpoints.endpoints(decision.instance, decision.places, services, decision.snapshot.nodes or ())
    return f"Serves at {endpoints.address(found)}."


def _present(snapshot: KmipInstanceSnapshot, kind: str) -> dict[str, Manifest]:
    return {child["metadata"]["name"]: child for child in snapshot.children if child["kind"] == kind}


def _workloads(decision: Decision) -> dict[str, Manifest]:
    """The workloads as they are, by region."""
    snapshot = decision.snapshot
    present = {**_present(snapshot, "Deployment"), **_present(snapshot, "StatefulSet")}
    names = {site.name: workload_name(decision.instance, decision.spec, site) for site in decision.places}
    return {region: present[name] for region, name in names.items() if name in present}


def lacking_names(decision: Decision) -> list[str] | None:
    """Names that clients use and the server certificate does not have, ``None`` when it has all."""
    snapshot = decision.snapshot
    if snapshot.server is None or snapshot.new.renewed_server is not None:
        return None
    return list(missing_names(snapshot, decision.spec)) or None


def _server_certificate(decision: Decision) -> ServerCertificate | None:
    chain = _leaf(decision.snapshot)
    if not chain:
        return None
    return ServerCertificate(
        sha256=chain[0].fingerprint,
        not_after=timestamp(chain[0].not_after),
        names=list(chain[0].names) or None,
        missing_names=lacking_names(decision),
    )


def status(decision: Decision, found: tuple[Finding, ...]) -> Manifest:
    """The whole status."""
    snapshot = decision.snapshot
    services = _present(snapshot, "Service")
    places = endpoints.endpoints(decision.instance, decision.places, services, snapshot.nodes or ())
    regions = availability.states(decision.places, snapshot.pods, _workloads(decision))
    chain = _leaf(snapshot)
    authority = snapshot.authority.certificate if snapshot.authority else (chain[-1].pem if chain else None)
    status = KmipInstanceStatus(
        observed_generation=decision.instance["metadata"].get("generation", 0),
        address=endpoints.address(places),
        endpoints=places,
        ca_certificate=authority,
        server_certificate=_server_certificate(decision),
        keyspace=decision.keyspace,
        allowlist_revision=decision.published.content.revision,
        pods=f"{sum(state.serving for state in regions)}/{sum(site.replicas for site in decision.places)}",
        regions=[state.status() for state in regions],
    ).to_manifest()
    status["conditions"] = render(found, decision.instance, decision.now)
    return status
