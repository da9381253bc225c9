"""Puts the NetworkPolicies' rules into the nodes' namespaces."""

import sys
from dataclasses import dataclass, field

from kind.native.agent.policies import MAIN, Pod, Ruleset, rulesets
from kind.native.kube import Object
from kind.native.node import enter, init_process
from kind.native.processes import Process
from kind.native.state import State
from kind.native.topology import Topology


@dataclass
class _Applied:
    process: Process
    text: str = ""
    chains: set[str] = field(default_factory=set)


class Enforcer:
    """Applies rules where they changed; a node that was started again gets them anew."""

    def __init__(self, state: State, topology: Topology) -> None:
        self._state = state
        self._nodes = [node.name for node in topology.nodes]
        self._applied: dict[str, _Applied] = {}

    def reconcile(self, policies: list[Object], pods: list[Object], namespaces: list[Object]) -> None:
        """Compute and apply."""
        known = [pod for item in pods if (pod := Pod.read(item)) is not None]
        labels = {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in namespaces}
        ordered = sorted(policies, key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"]))
        for node, ruleset in rulesets(self._nodes, known, labels, ordered).items():
            process = init_process(self._state, node)
            if process is not None:
                self._apply(node, process, ruleset)

    def _apply(self, node: str, process: Process, ruleset: Ruleset) -> None:
        applied = self._applied.get(node)
        if applied is None or applied.process != process:
            applied = _Applied(process, chains=self._found(process))
            self._applied[node] = applied
        text = ruleset.restore_text(applied.chains)
        if text == applied.text:
            return
        enter(process, ["iptables-restore", "-w", "--noflush"], namespaces=("--net",), stdin=text)
        if f"-A FORWARD -j {MAIN}" not in self._save(process):
            enter(process, ["iptables", "-w", "-t", "mangle", "-A", "FORWARD", "-j", MAIN], namespaces=("--net",))
        applied.chains = set(ruleset.chains)
        applied.text = ruleset.restore_text(applied.chains)
        rules = sum(len(each) for each in ruleset.chains.values())
        print(f"network policies: {node}: {rules} rules", file=sys.stderr, flush=True)

    def _found(self, process: Process) -> set[str]:
        lines = self._save(process).splitlines()
        return {line[1:].split()[0] for line in lines if line.startswith((f":{MAIN} ", ":KN-I-", ":KN-E-"))}

    def _save(self, process: Process) -> str:
        return enter(process, ["iptables-save", "-t", "mangle"], namespaces=("--net",))
