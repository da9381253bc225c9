"""The configuration of a node's daemons: pure functions of the topology and of where things are."""

import json
from dataclasses import dataclass
from pathlib import Path

from kind.native.hostpackages import CNI_PLUGINS
from kind.native.images import PAUSE
from kind.native.topology import Topology

# Where a pod finds the folder all nodes share, and where the runtime listens inside a node.
SHARED = "/var/lib/kmip-shared"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class NodePlan:
    """One node: its name, the cluster's topology, its folder and those of the binaries, certificates, shared files."""

    name: str
    topology: Topology
    folder: Path
    binaries: Path
    pki: Path
    shared: Path
    cgroup: str

    @property
    def address(self) -> str:
        """The node's address."""
        return self.topology.address(self.name)


def containerd_config(plan: NodePlan) -> str:
    """Containerd's configuration (TOML, version 3)."""
    return f"""\
version = 3
root = "{plan.folder}/containerd"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "{plan.folder}/containerd/opt"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI_PLUGINS}"]
conf_dir = "{plan.folder}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{plan.binaries}/runc"
SystemdCgroup = false
"""


def cni_config(plan: NodePlan) -> str:
    """A bridge with routed pod addresses: sources stay what they are."""
    return json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": "native",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": plan.topology.pods(plan.name)}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
    )


def kubelet_config(plan: NodePlan) -> str:
    """The kubelet's configuration (JSON, which is YAML)."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{plan.pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{plan.pki}/node-{plan.name}.crt",
            "tlsPrivateKeyFile": f"{plan.pki}/node-{plan.name}.key",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": plan.cgroup,
            "failCgroupV1": False,
            "failSwapOn": False,
            "resolvConf": "",
            "clusterDNS": [plan.topology.dns_address],
            "clusterDomain": "cluster.local",
            "volumePluginDir": f"{plan.folder}/volume-plugins",
            "serializeImagePulls": False,
            # A machine's disk may look full to the kubelet (blocks reserved for root count as used); images that
            # were loaded by hand cannot be pulled again, so they are never collected.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "100Mi"},
            # With the controller manager's grace of 10 s: several updates may be lost before a node counts as dead.
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 6,
        }
    )


def kube_proxy_config(plan: NodePlan) -> str:
    """kube-proxy's configuration; connection-tracking limits of the host are not a node's to set."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clusterCIDR": str(plan.topology.pod_network),
            "hostnameOverride": plan.name,
            "clientConnection": {"kubeconfig": f"{plan.folder}/kube-proxy.kubeconfig"},
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "iptables": {"minSyncPeriod": "100ms"},
        }
    )


def init_script(plan: NodePlan) -> str:
    """The node's process 1: mounts its own folders, then keeps the three daemons running and reaps orphans.

    containerd starts at once, the others when the file `registered` appears: a kubelet that came before its Node
    object would make one without region and zone.
    """
    folder, binaries = plan.folder, plan.binaries
    return f"""\
set -eu
export PATH="{binaries}:$PATH:/usr/sbin:/sbin"
# Before the new /proc is mounted this file still tells the pid the host knows this process by.
read -r pid _ < /proc/self/stat
hostname {plan.name}
mount --make-rshared /
mount -t tmpfs -o mode=0755 tmpfs /run
mount --bind {folder}/kubelet /var/lib/kubelet
mount --bind {folder}/log /var/log
mount --bind {folder}/cni-state /var/lib/cni
mount --bind {plan.shared} {SHARED}
mount -t proc proc /proc
for setting in ipv4/ip_forward bridge/bridge-nf-call-iptables; do
  [ ! -e /proc/sys/net/$setting ] || echo 1 > /proc/sys/net/$setting
done
echo "$pid" > {folder}/pid.new
mv {folder}/pid.new {folder}/pid

keep() {{
  local log={folder}/log/$1.log
  shift
  while :; do
    "$@" >> "$log" 2>&1 < /dev/null || true
    echo "$1 ended and is started again" >> "$log"
    sleep 0.2
  done
}}

keep containerd {binaries}/containerd --config {folder}/containerd.toml --log-level warn &
until [ -e {folder}/registered ] && [ -S {CONTAINERD_SOCKET} ]; do sleep 0.05; done
keep kubelet {binaries}/kubelet --config={folder}/kubelet.json --kubeconfig={folder}/kubelet.kubeconfig \\
  --hostname-override={plan.name} --node-ip={plan.address} --root-dir=/var/lib/kubelet --cert-dir={folder}/kubelet-pki &
keep kube-proxy {binaries}/kube-proxy --config={folder}/kube-proxy.json &
while :; do wait || true; done
"""
