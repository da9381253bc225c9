import ipaddress
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kind.native import manifests
from kind.native.topology import MAX_NODES, SLOTS, Node, Topology, TopologyError, default_nodes, free_slot, read_nodes


def test_default_topology_is_two_regions_and_three_zones() -> None:
    places = [(node.region, node.zone) for node in default_nodes(3)]
    assert places == [("eu-de", "eu-de-1"), ("eu-de", "eu-de-2"), ("eu-nl", "eu-nl-1")]


@settings(deadline=None)
@given(st.integers(0, SLOTS - 1), st.integers(1, MAX_NODES))
def test_every_address_is_used_once_and_lies_in_its_network(slot: int, count: int) -> None:
    topology = Topology(slot, default_nodes(count))
    names = [node.name for node in topology.nodes]
    addresses = [topology.gateway, *(topology.address(name) for name in names), *topology.pool]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(address) in topology.node_network for address in addresses)
    pods = [ipaddress.ip_network(topology.pods(name)) for name in names]
    assert len(set(pods)) == count
    assert all(network.subnet_of(topology.pod_network) for network in pods if network.version == 4)
    assert Topology.from_json(json.loads(json.dumps(topology.to_json()))) == topology


def test_slots_never_overlap() -> None:
    networks = [
        network
        for slot in range(SLOTS)
        for network in (
            Topology(slot, ()).node_network,
            Topology(slot, ()).pod_network,
            Topology(slot, ()).service_network,
        )
    ]
    for index, network in enumerate(networks):
        assert not any(network.overlaps(other) for other in networks[index + 1 :])


def test_link_names_fit_the_kernels_limit() -> None:
    topology = Topology(SLOTS - 1, default_nodes(MAX_NODES))
    assert len(topology.link(f"worker{MAX_NODES}")) <= 15


def test_free_slot_is_the_lowest_not_in_use() -> None:
    assert free_slot(["lo", "eth0"]) == 0
    assert free_slot(["kn0", "kn0-1", "kn2"]) == 1
    with pytest.raises(TopologyError, match="slots are taken"):
        free_slot([f"kn{slot}" for slot in range(SLOTS)])


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "{}",
        '{"nodes": []}',
        '{"nodes": [{"name": "a", "region": "r"}]}',
        '{"nodes": [{"name": "A b", "region": "r", "zone": "z"}]}',
        '{"nodes": [{"name": "a", "region": "r", "zone": "z"}, {"name": "a", "region": "r", "zone": "z"}]}',
    ],
)
def test_topology_files_that_cannot_be_built_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "topology.json"
    path.write_text(content)
    with pytest.raises(TopologyError, match=r"topology\.json"):
        read_nodes(path)


def test_topology_file(tmp_path: Path) -> None:
    path = tmp_path / "topology.json"
    path.write_text('{"nodes": [{"name": "a", "region": "r", "zone": "z"}]}')
    assert read_nodes(path) == (Node("a", "r", "z"),)


@pytest.mark.parametrize("count", [0, MAX_NODES + 1])
def test_node_counts_out_of_range_are_refused(count: int) -> None:
    with pytest.raises(TopologyError, match="nodes: between"):
        default_nodes(count)


def test_node_objects_carry_place_and_pod_range() -> None:
    nodes = manifests.nodes(Topology(0, default_nodes(3)))
    assert [node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes] == [
        "eu-de-1",
        "eu-de-2",
        "eu-nl-1",
    ]
    assert len({node["spec"]["podCIDR"] for node in nodes}) == 3


def test_one_node_gets_one_dns_replica() -> None:
    by_kind = {each["kind"]: each for each in manifests.dns(Topology(0, default_nodes(1)))}
    assert by_kind["Deployment"]["spec"]["replicas"] == 1
    assert by_kind["Service"]["spec"]["clusterIP"] == "10.96.0.10"
