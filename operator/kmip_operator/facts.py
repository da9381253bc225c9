"""What an observation knows of objects that are not decided about: small, typed, free of secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kmip_contract.kmipd import KmipdStatus
from kmip_contract.rootkey import RootKeyResult


@dataclass(frozen=True)
class Images:
    """The images the operator starts unless an object names its own, and how they are pulled."""

    kmipd: str
    custody: str
    pull_policy: str = "IfNotPresent"


@dataclass(frozen=True)
class ObjectMeta:
    """Metadata of an object whose content is not read: a user's Secret, a retained volume claim."""

    name: str
    uid: str
    resource_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner_uids: tuple[str, ...] = ()
    deleting: bool = False


@dataclass(frozen=True)
class PemSource:
    """Certificates as a spec gives them: ``pem`` is the text, or ``problem`` says why there is none.

    ``problem`` is ``SecretMissing`` or ``SecretKeyMissing``, ``None`` when there is a text. For an inline certificate ``pem``
    is the field's text.
    """

    pem: str | None = None
    problem: str | None = None
    secret_name: str | None = None
    secret_key: str | None = None


@dataclass(frozen=True)
class JobFacts:
    """A root-key Job and what its pod answered.

    ``result`` is read from the termination message of a pod that this Job controls, ``None`` until there is one (or when the
    message did not parse). ``pod_problem`` says why the pod does not start or ended without a result (``ImagePullBackOff: …``,
    ``Unschedulable: …``, ``FailedMount: …``), empty otherwise. ``finished`` is the completion or failure time.
    """

    name: str
    uid: str
    created: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    finished: datetime | None = None
    result: RootKeyResult | None = None
    pod_problem: str = ""
    deleting: bool = False


@dataclass(frozen=True)
class PodFacts:
    """A serving pod and its answer to /status.

    ``problem``: why it is not running (as in :class:`JobFacts`), empty when it runs. ``status`` is ``None`` when it has not
    been asked or did not answer; ``status_error`` says why. ``ready`` is the pod's Ready condition, ``ready_since`` its last
    transition. ``zone`` of its node, empty when unknown.
    """

    name: str
    uid: str
    created: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ip: str = ""
    node: str = ""
    zone: str = ""
    ready: bool = False
    ready_since: datetime | None = None
    deleting: bool = False
    problem: str = ""
    status: KmipdStatus | None = None
    status_error: str = ""


@dataclass(frozen=True)
class NodeFacts:
    """A node's labels, for region and zone checks.

    ``schedulable``: Ready and not cordoned. ``address``: where clients reach its ports (its external, else internal, address).
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    schedulable: bool = True
    address: str = ""
