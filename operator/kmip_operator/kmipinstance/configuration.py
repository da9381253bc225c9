"""The configuration files of kmipd and custody in the pods of an instance, and where their parts are mounted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from uuid import UUID

from kmip_contract.allowlist import ALLOWLIST_KEY
from kmip_contract.custody import CustodyConfig
from kmip_contract.kmipd import (
    KMIP_PORT,
    KeyCache,
    KmipdConfig,
    Listen,
    PostgresqlStorage,
    ServerTls,
    SqliteStorage,
    StatusEndpoint,
    TlsProfile,
)
from kmip_contract.rootkey import KeyVersionState, RootKeyRef, RootKeyVersion
from kmip_operator import naming
from kmip_operator.keymanager.custody import connection, credential_check
from kmip_operator.keymanager.model import KeyManagerSpec
from kmip_operator.kmipinstance.children import Site, labels, postgresql, site_name
from kmip_operator.kmipinstance.model import KmipInstanceSpec
from kmip_operator.plan import Manifest
from kmip_operator.rootkey.model import RootKeyStatus

ADMIN_PORT = 8080
CUSTODY_HEALTH_PORT = 8081
STATUS_PORT = 8443

CONFIG_DIRECTORY = "/etc/kmip/config"
CUSTODY_DIRECTORY = "/etc/kmip/custody"
SERVER_DIRECTORY = "/etc/kmip/server"
CONTROL_DIRECTORY = "/etc/kmip/control"
ALLOWLIST_DIRECTORY = "/etc/kmip/allowlist"
STORAGE_DIRECTORY = "/etc/kmip/storage"
DATA_DIRECTORY = "/var/lib/kmip"
SOCKET_DIRECTORY = "/run/kmip"
KMIPD_FILE = "kmipd.json"
CUSTODY_FILE = "custody.json"
CONNECTION_FILE = "uri"

# Seconds: the largest time-out of a client that is measured waits 10 s for an answer; vCenter's connections live 0.2 s.
DRAIN = 20.0


def kmipd_config(
    instance: Manifest, spec: KmipInstanceSpec, site: Site, keyspace: str | None, config_id: str = ""
) -> KmipdConfig:
    """Kmipd's configuration file in one region."""
    database = postgresql(spec)
    storage: SqliteStorage | PostgresqlStorage = SqliteStorage(path=Path(DATA_DIRECTORY, "kmip.db"))
    if database is not None:
        storage = PostgresqlStorage(
            dsn_file=Path(STORAGE_DIRECTORY, CONNECTION_FILE), database_schema=database.database_schema or "kmip"
        )
    cache = KeyCache()
    if spec.cache and spec.cache.max_age:
        cache = KeyCache(max_age=min(naming.seconds(spec.cache.max_age), cache.max_age))
    return KmipdConfig(
        instance=instance["metadata"]["name"],
        region=site.region,
        config_id=config_id,
        keyspace=UUID(keyspace) if keyspace else None,
        listen=Listen(port=KMIP_PORT),
        admin=Listen(port=ADMIN_PORT),
        status=StatusEndpoint(
            listen=Listen(port=STATUS_PORT),
            certificate_file=Path(CONTROL_DIRECTORY, "tls.crt"),
            key_file=Path(CONTROL_DIRECTORY, "tls.key"),
            client_ca_file=Path(CONTROL_DIRECTORY, "ca.crt"),
        ),
        tls=ServerTls(
            certificate_file=Path(SERVER_DIRECTORY, "tls.crt"),
            key_file=Path(SERVER_DIRECTORY, "tls.key"),
            profile=(spec.tls and spec.tls.profile) or TlsProfile.MODERN,
        ),
        allowlist_file=Path(ALLOWLIST_DIRECTORY, ALLOWLIST_KEY),
        storage=storage,
        custody_socket=Path(SOCKET_DIRECTORY, "custody.sock"),
        cache=cache,
        drain=DRAIN,
    )


def custody_config(key_manager: KeyManagerSpec, root_key: RootKeyStatus, credential_hmac: str) -> CustodyConfig:
    """Custody's configuration file; the root key and the confirmed credential are taken in without a restart."""
    if root_key.key_id is None:
        raise ValueError("a root key without an identifier")
    versions = tuple(
        RootKeyVersion(version=item.version, handle=item.handle, state=KeyVersionState(item.state))
        for item in root_key.versions or []
    )
    return CustodyConfig(
        connection=connection(key_manager),
        root_key=RootKeyRef(key_id=root_key.key_id, versions=versions),
        credential=credential_check(credential_hmac),
        socket=Path(SOCKET_DIRECTORY, "custody.sock"),
        health_port=CUSTODY_HEALTH_PORT,
    )


def restart_id(kmipd: KmipdConfig, custody: CustodyConfig) -> str:
    """A hash of what takes effect only when a pod starts.

    The keyspace is left out: it is learnt after the first start. So are custody's root key and credential: it takes them in
    while it runs.
    """
    content = [
        kmipd.model_dump(mode="json", exclude={"keyspace", "config_id"}),
        custody.model_dump(mode="json", exclude={"root_key", "credential"}),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def config_map(instance: Manifest, site: Site, kmipd: KmipdConfig, custody: CustodyConfig) -> Manifest:
    """The configuration files of one region's pods."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": naming.metadata(instance, site_name(instance, site), labels(instance, "configuration")),
        "data": {KMIPD_FILE: kmipd.to_json().decode(), CUSTODY_FILE: custody.to_json().decode()},
    }
