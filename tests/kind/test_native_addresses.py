from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kind.native.agent.addresses import assign, key_of, next_hops, ready_nodes, wanted

POOL = ["10.250.0.150", "10.250.0.151", "10.250.0.152"]


def service(name: str, created: int = 0, address: str | None = None, **spec: Any) -> dict[str, Any]:
    status = {"loadBalancer": {"ingress": [{"ip": address}]}} if address else {}
    return {
        "metadata": {"namespace": "d", "name": name, "creationTimestamp": f"2026-01-01T00:00:{created:02}Z"},
        "spec": {"type": "LoadBalancer", **spec},
        "status": status,
    }


def endpoints(name: str, *entries: tuple[str, bool]) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "d", "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"nodeName": node, "conditions": {"ready": ready}} for node, ready in entries],
    }


services = st.lists(
    st.builds(
        service,
        st.sampled_from("abcdefg"),
        st.integers(0, 59),
        st.sampled_from([None, *POOL, "192.0.2.9"]),
        loadBalancerIP=st.sampled_from([None, *POOL, "192.0.2.9"]),
    ),
    max_size=6,
    unique_by=key_of,
)


@settings(deadline=None)
@given(services)
def test_assignment_is_unique_in_the_pool_complete_and_stable(listed: list[dict[str, Any]]) -> None:
    given_addresses = assign(listed, POOL)
    assert len(set(given_addresses.values())) == len(given_addresses) == min(len(listed), len(POOL))
    assert set(given_addresses.values()) <= set(POOL)
    settled = [
        {**each, "status": {"loadBalancer": {"ingress": [{"ip": given_addresses[key_of(each)]}]}}}
        for each in listed
        if key_of(each) in given_addresses
    ]
    assert assign(settled, POOL) == given_addresses


def test_an_address_that_was_asked_for_is_given_when_free() -> None:
    listed = [service("a", 1), service("b", 2, loadBalancerIP=POOL[0]), service("c", 3, loadBalancerIP=POOL[0])]
    assert assign(listed, POOL) == {"d/a": POOL[1], "d/b": POOL[0], "d/c": POOL[2]}


def test_services_of_others_are_left_alone() -> None:
    assert not wanted(service("a", type="ClusterIP"))
    assert not wanted(service("a", loadBalancerClass="example.com/other"))
    deleted = service("a")
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not wanted(deleted)


def test_policy_local_routes_to_nodes_with_a_ready_endpoint_only() -> None:
    slices = [endpoints("a", ("n1", True), ("n2", False), ("n4", True)), endpoints("other", ("n3", True))]
    assert next_hops(service("a"), slices, ["n1", "n2", "n3"]) == ["n1", "n2", "n3"]
    assert next_hops(service("a", externalTrafficPolicy="Local"), slices, ["n1", "n2", "n3"]) == ["n1"]


def test_ready_nodes_reads_the_condition() -> None:
    def node(name: str, status: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": status}]}}

    assert ready_nodes([node("b", "True"), node("a", "True"), node("c", "Unknown")]) == ["a", "b"]
