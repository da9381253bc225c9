"""The control plane's command lines: pure functions of where things are."""

import json
from dataclasses import dataclass
from pathlib import Path

# A dead node is noticed after about 11 s and its pods are replaced 10 s later: development has no patience for the
# defaults of 50 s and 5 min. Much shorter, and restarting the API server on a busy machine would evict pods.
NODE_GRACE = "10s"
NODE_PERIOD = "1s"
TOLERATION_SECONDS = 10


@dataclass(frozen=True)
class ControlPlane:
    """Where the control plane of one cluster listens and keeps its files.

    With `workers` false there is neither controller manager nor scheduler: only the API.
    """

    binaries: Path
    folder: Path
    host: str
    port: int
    etcd_port: int
    etcd_peer_port: int
    service_network: str
    workers: bool

    @property
    def server(self) -> str:
        """The API's URL."""
        return f"https://{self.host}:{self.port}"

    @property
    def pki(self) -> str:
        """The folder of certificates."""
        return str(self.folder / "pki")

    @property
    def audit_log(self) -> Path:
        """One JSON line per write."""
        return self.folder / "log" / "audit.log"


def etcd_command(plane: ControlPlane) -> list[str]:
    """Etcd, one member on loopback, without fsync: the cluster's data is not meant to survive the machine."""
    client = f"http://127.0.0.1:{plane.etcd_port}"
    peer = f"http://127.0.0.1:{plane.etcd_peer_port}"
    return [
        str(plane.binaries / "etcd"),
        "--name=native",
        f"--data-dir={plane.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=native={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--quota-backend-bytes=2147483648",
    ]


def audit_policy() -> str:
    """Who wrote what, without contents: reads, leases and events are left out, so that lines count writes."""
    return json.dumps(
        {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [
                {"level": "None", "verbs": ["get", "list", "watch"]},
                {
                    "level": "None",
                    "resources": [
                        {"group": "coordination.k8s.io", "resources": ["leases"]},
                        {"group": "", "resources": ["events"]},
                        {"group": "events.k8s.io", "resources": ["events"]},
                    ],
                },
                {"level": "Metadata"},
            ],
        }
    )


def apiserver_command(plane: ControlPlane) -> list[str]:
    """kube-apiserver; with workers also what kubelets, aggregated APIs and the node controller need."""
    pki = plane.pki
    command = [
        str(plane.binaries / "kube-apiserver"),
        f"--bind-address={plane.host}",
        f"--advertise-address={plane.host}",
        f"--secure-port={plane.port}",
        f"--etcd-servers=http://127.0.0.1:{plane.etcd_port}",
        f"--service-cluster-ip-range={plane.service_network}",
        "--authorization-mode=Node,RBAC",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--cert-dir={pki}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-account.pub",
        f"--service-account-signing-key-file={pki}/service-account.key",
        f"--audit-policy-file={plane.folder / 'audit-policy.json'}",
        f"--audit-log-path={plane.audit_log}",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=5",
        "--profiling=false",
    ]
    if not plane.workers:
        # No controller makes default ServiceAccounts here, and loopback cannot be an endpoint.
        return [*command, "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none"]
    return [
        *command,
        "--allow-privileged=true",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        # Webhooks, APIServices and proxies go to pod addresses: no kube-proxy runs beside this process.
        "--enable-aggregator-routing=true",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        f"--default-not-ready-toleration-seconds={TOLERATION_SECONDS}",
        f"--default-unreachable-toleration-seconds={TOLERATION_SECONDS}",
    ]


def controller_manager_command(plane: ControlPlane) -> list[str]:
    """kube-controller-manager; its client is not throttled, else the first ServiceAccount comes 5 s later."""
    return [
        str(plane.binaries / "kube-controller-manager"),
        f"--kubeconfig={plane.folder / 'controller-manager.kubeconfig'}",
        "--secure-port=0",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        # Its default is a folder of the host, which it makes.
        f"--flex-volume-plugin-dir={plane.folder / 'volume-plugins'}",
        f"--root-ca-file={plane.pki}/ca.crt",
        f"--service-account-private-key-file={plane.pki}/service-account.key",
        f"--cluster-signing-cert-file={plane.pki}/ca.crt",
        f"--cluster-signing-key-file={plane.pki}/ca.key",
        f"--node-monitor-grace-period={NODE_GRACE}",
        f"--node-monitor-period={NODE_PERIOD}",
    ]


def scheduler_command(plane: ControlPlane) -> list[str]:
    """kube-scheduler."""
    return [
        str(plane.binaries / "kube-scheduler"),
        f"--kubeconfig={plane.folder / 'scheduler.kubeconfig'}",
        "--secure-port=0",
        "--leader-elect=false",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
    ]
