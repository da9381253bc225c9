import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kind.native.agent.policies import MAIN, Pod, block_networks, rulesets
from kind.native.agent.selectors import matches

WEB = Pod("shop", "web", "10.244.1.2", "n1", {"app": "web"}, (("http", "TCP", 8080),))
API = Pod("shop", "api", "10.244.1.3", "n1", {"app": "api"})
DB = Pod("shop", "db", "10.244.2.2", "n2", {"app": "db"}, (("sql", "TCP", 5432),))
DNS = Pod("kube-system", "dns", "10.244.2.3", "n2", {"k8s-app": "kube-dns"})
PODS = [WEB, API, DB, DNS]
SPACES = {"shop": {"team": "shop"}, "kube-system": {"kubernetes.io/metadata.name": "kube-system"}}


def policy(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name}, "spec": spec}


def chain(rules: dict[str, Any], node: str, prefix: str) -> list[str]:
    found = [lines for name, lines in rules[node].chains.items() if name.startswith(prefix)]
    assert len(found) == 1
    lines: list[str] = found[0]
    return lines


def test_without_policies_nothing_is_judged() -> None:
    rules = rulesets(["n1", "n2"], PODS, SPACES, [])
    assert all(each.chains == {MAIN: []} for each in rules.values())


def test_default_deny_drops_both_ways_for_every_pod_of_the_namespace_alone() -> None:
    deny = policy(podSelector={}, policyTypes=["Ingress", "Egress"])
    rules = rulesets(["n1", "n2"], PODS, SPACES, [deny])
    judged = {line.split()[1] for each in rules.values() for line in each.chains[MAIN][1:]}
    assert judged == {f"{pod.address}/32" for pod in (WEB, API, DB)}
    assert chain(rules, "n2", "KN-I-") == ["-s 10.244.2.2/32 -j RETURN", "-j DROP"]
    assert chain(rules, "n2", "KN-E-") == ["-d 10.244.2.2/32 -j RETURN", "-j DROP"]
    assert "RELATED,ESTABLISHED" in rules["n1"].chains[MAIN][0]


def test_named_port_of_the_receiver_and_peer_selector() -> None:
    allow = policy(
        podSelector={"matchLabels": {"app": "db"}},
        ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}], "ports": [{"port": "sql"}]}],
    )
    rules = rulesets(["n1", "n2"], PODS, SPACES, [allow])
    assert "-s 10.244.1.3/32 -p tcp --dport 5432 -j RETURN" in chain(rules, "n2", "KN-I-")
    assert rules["n1"].chains == {MAIN: []}


def test_policy_types_default_to_egress_only_when_there_are_egress_rules() -> None:
    only_in = rulesets(["n2"], PODS, SPACES, [policy(podSelector={})])["n2"].chains
    assert not any(name.startswith("KN-E-") for name in only_in)
    both = rulesets(["n2"], PODS, SPACES, [policy(podSelector={}, egress=[{}])])["n2"].chains
    assert any(name.startswith("KN-E-") for name in both)


def test_dns_egress_by_namespace_and_pod_selector() -> None:
    allow = policy(
        podSelector={"matchLabels": {"app": "db"}},
        policyTypes=["Egress"],
        egress=[
            {
                "to": [
                    {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
                    }
                ],
                "ports": [{"protocol": "UDP", "port": 53}, {"port": 8000, "endPort": 8010}],
            }
        ],
    )
    lines = chain(rulesets(["n2"], PODS, SPACES, [allow]), "n2", "KN-E-")
    assert lines == [
        "-d 10.244.2.2/32 -j RETURN",
        "-d 10.244.2.3/32 -p udp --dport 53 -j RETURN",
        "-d 10.244.2.3/32 -p tcp --dport 8000:8010 -j RETURN",
        "-j DROP",
    ]


def test_a_pod_selector_alone_means_the_policys_namespace() -> None:
    allow = policy(podSelector={"matchLabels": {"app": "db"}}, ingress=[{"from": [{"podSelector": {}}]}])
    lines = chain(rulesets(["n2"], PODS, SPACES, [allow]), "n2", "KN-I-")
    assert "-s 10.244.1.2/32 -j RETURN" in lines
    assert not any("10.244.2.3" in line for line in lines)


def test_an_empty_rule_allows_all_and_an_unknown_named_port_allows_none() -> None:
    everything = policy(podSelector={"matchLabels": {"app": "db"}}, ingress=[{}])
    assert "-j RETURN" in chain(rulesets(["n2"], PODS, SPACES, [everything]), "n2", "KN-I-")
    nothing = policy(podSelector={"matchLabels": {"app": "db"}}, ingress=[{"ports": [{"port": "nope"}]}])
    assert chain(rulesets(["n2"], PODS, SPACES, [nothing]), "n2", "KN-I-")[1:] == ["-j DROP"]


def test_pods_of_the_host_network_are_not_judged() -> None:
    host = Pod("shop", "host", "10.250.0.11", "n1", {}, host_network=True)
    assert rulesets(["n1"], [host], SPACES, [policy(podSelector={})])["n1"].chains == {MAIN: []}


def test_restore_text_declares_every_chain_before_use_and_removes_stale_ones() -> None:
    ruleset = rulesets(["n2"], PODS, SPACES, [policy(podSelector={})])["n2"]
    lines = ruleset.restore_text({"KN-I-old", MAIN}).splitlines()
    assert lines[0] == "*mangle"
    assert lines[-2:] == ["-X KN-I-old", "COMMIT"]
    declared = {line[1:].split()[0] for line in lines if line.startswith(":")}
    used = {line.split()[1] for line in lines if line.startswith("-A")}
    targets = {line.rsplit(" ", 1)[1] for line in lines if line.startswith("-A")} - {"RETURN", "DROP"}
    assert used | targets <= declared
    assert all(len(name) < 29 for name in declared)


networks = st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)).map(
    lambda pair: str(ipaddress.ip_network(pair, strict=False))
)


@settings(deadline=None)
@given(networks, st.lists(networks, max_size=3), st.integers(0, 2**32 - 1))
def test_block_networks_hold_exactly_the_addresses_that_are_not_excepted(
    cidr: str, exceptions: list[str], number: int
) -> None:
    whole = ipaddress.ip_network(cidr)
    inside = ipaddress.ip_address(int(whole.network_address) + number % whole.num_addresses)
    parts = [ipaddress.ip_network(part) for part in block_networks(cidr, exceptions)]
    wanted = not any(inside in ipaddress.ip_network(each) for each in exceptions)
    assert sum(inside in part for part in parts) == int(wanted)


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ({}, {}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
    ],
)
def test_label_selectors(selector: dict[str, Any], labels: dict[str, str], expected: bool) -> None:
    assert matches(selector, labels) is expected


def test_pods_that_ended_or_have_no_address_are_left_out() -> None:
    item = {"metadata": {"namespace": "a", "name": "b"}, "spec": {"containers": []}, "status": {"phase": "Pending"}}
    assert Pod.read(item) is None
    assert Pod.read({**item, "status": {"phase": "Succeeded", "podIP": "10.0.0.1"}}) is None
    assert Pod.read({**item, "status": {"phase": "Running", "podIP": "10.0.0.1"}}) is not None
