"""Which functions make a round of each kind."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from kmip_operator.clientcertificate.decide import decide as decide_client_certificate
from kmip_operator.clientcertificate.observe import observe as observe_client_certificate
from kmip_operator.keymanager.decide import decide as decide_key_manager
from kmip_operator.keymanager.observe import observe as observe_key_manager
from kmip_operator.keymanager.prepare import prepare as prepare_key_manager
from kmip_operator.kmipinstance.decide import decide as decide_instance
from kmip_operator.kmipinstance.observe import observe as observe_instance
from kmip_operator.kmipinstance.prepare import prepare as prepare_instance
from kmip_operator.kube.resources import CLIENT_CERTIFICATES, KEY_MANAGERS, KMIP_INSTANCES, ROOT_KEYS
from kmip_operator.observing import Sources
from kmip_operator.reconciler import Rounds
from kmip_operator.rootkey.decide import decide as decide_root_key
from kmip_operator.rootkey.observe import observe as observe_root_key

Snapshot = TypeVar("Snapshot")


def rounds(sources: Sources) -> dict[str, Rounds[Any]]:
    """By kind: observe from ``sources``, prepare, decide."""
    return {
        KEY_MANAGERS.kind: Rounds(partial(observe_key_manager, sources), prepare_key_manager, decide_key_manager),
        ROOT_KEYS.kind: Rounds(partial(observe_root_key, sources), _as_is, decide_root_key),
        KMIP_INSTANCES.kind: Rounds(partial(observe_instance, sources), prepare_instance, decide_instance),
        CLIENT_CERTIFICATES.kind: Rounds(
            partial(observe_client_certificate, sources), _as_is, decide_client_certificate
        ),
    }


def _as_is(snapshot: Snapshot, _: datetime) -> Snapshot:
    return snapshot
