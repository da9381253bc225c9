"""Whether each region serves, and what keeps it from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kmip_operator import naming
from kmip_operator.conditions import Finding, Problem
from kmip_operator.facts import NodeFacts, PodFacts
from kmip_operator.kmipinstance.children import Site
from kmip_operator.kmipinstance.model import REGION_LABEL, RegionStatus
from kmip_operator.kmipinstance.pods import in_service, serves
from kmip_operator.plan import Manifest
from kmip_operator.reasons import Reason

AVAILABLE = "Available"

# Pulling images takes its time; what has not started by then does not start by itself.
START_WITHIN = timedelta(seconds=120)


@dataclass(frozen=True)
class SiteState:
    """One region's pods as they are. ``rolling``: its workload is replacing them."""

    site: Site
    pods: tuple[PodFacts, ...]
    rolling: bool

    @property
    def serving(self) -> int:
        """How many pods clients reach."""
        return min(sum(serves(pod) for pod in self.pods), self.site.replicas)

    def status(self) -> RegionStatus:
        """The region's line in the status."""
        return RegionStatus(name=self.site.name, ready=self.serving, replicas=self.site.replicas)

    def sentence(self) -> str:
        """The region in one clause, with what is wrong with its pods."""
        text = f"{self.site.name}: {self.serving} of {self.site.replicas} pods serve"
        problems = [f"{pod.name}: {problem}" for pod in self.pods if (problem := _pod_problem(pod))]
        return f"{text} ({'; '.join(problems)})" if problems and self.serving < self.site.replicas else text


def _pod_problem(pod: PodFacts) -> str:
    if pod.problem:
        return pod.problem
    return "" if in_service(pod) else "out of service, it does not enforce the allowlist"


def states(
    places: Sequence[Site], pods: Sequence[PodFacts], workloads: Mapping[str, Manifest]
) -> tuple[SiteState, ...]:
    """The regions; ``workloads`` by the region's name."""
    return tuple(
        SiteState(
            site,
            tuple(pod for pod in pods if not pod.deleting and pod.labels.get(naming.LABEL_REGION) == site.name),
            _rolling(workloads.get(site.name)),
        )
        for site in places
    )


def _rolling(workload: Manifest | None) -> bool:
    if workload is None:
        return False
    status = workload.get("status") or {}
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return True
    return int(status.get("updatedReplicas") or 0) < int(workload["spec"].get("replicas", 1))


def finding(regions: Sequence[SiteState]) -> Finding:
    """Available: every region has a pod that serves."""
    message = "; ".join(state.sentence() for state in regions) + "."
    serving = [state for state in regions if state.serving]
    if len(serving) == len(regions):
        return Finding(AVAILABLE, "True", Reason.AVAILABLE, message)
    if serving:
        return Finding(AVAILABLE, "False", Reason.PARTIALLY_AVAILABLE, message)
    return Finding(AVAILABLE, "False", Reason.NOT_AVAILABLE, message)


def problems(
    regions: Sequence[SiteState], nodes: Sequence[NodeFacts] | None, now: datetime
) -> tuple[tuple[Problem, ...], float | None]:
    """What keeps regions from serving, and the seconds until a slow start counts as none."""
    found = list(_unknown_regions(regions, nodes))
    waits: list[float] = []
    for state in regions:
        for pod in state.pods:
            if not pod.problem:
                continue
            late = pod.created + START_WITHIN
            if now < late:
                waits.append((late - now).total_seconds())
                continue
            message = f"{state.site.path}: pod {pod.name} does not start: {pod.problem}."
            found.append(Problem(Reason.POD_NOT_STARTED, message, stalled=True, blocking=not state.serving))
        if state.rolling or state.serving < state.site.replicas:
            found.append(Problem(Reason.ROLLING_OUT, f"{state.sentence()}.", blocking=not state.serving))
    return tuple(found), min(waits, default=None)


def _unknown_regions(regions: Sequence[SiteState], nodes: Sequence[NodeFacts] | None) -> Iterator[Problem]:
    if nodes is None:
        return
    for state in regions:
        wanted = state.site.nodes
        if not wanted or any(all(node.labels.get(key) == value for key, value in wanted.items()) for node in nodes):
            continue
        by_name = wanted == {REGION_LABEL: state.site.region}
        field = f"{state.site.path}.name" if by_name else f"{state.site.path}.nodeSelector"
        labels = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()))
        known = sorted({node.labels[REGION_LABEL] for node in nodes if REGION_LABEL in node.labels})
        there = f"Regions that nodes have: {', '.join(known)}." if known else "No node has a region."
        yield Problem(
            Reason.REGION_UNKNOWN,
            f"{field}: no node has {labels}. {there} Correct it, label nodes, or give the region a nodeSelector "
            "({} means any node).",
            stalled=True,
            blocking=not state.serving,
        )
