"""A client of the Kubernetes API: what this package needs, with the standard library alone."""

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

Object = dict[str, Any]

# A request of a healthy API server ends within milliseconds; a minute is what a machine under load may need.
REQUEST_TIMEOUT = 60.0
FIELD_MANAGER = "kmip-native"
_PLURALS = {"NetworkPolicy": "networkpolicies", "StorageClass": "storageclasses", "Endpoints": "endpoints"}
_CLUSTER_SCOPED = {
    "ClusterRole", "ClusterRoleBinding", "Namespace", "Node", "PersistentVolume", "PriorityClass", "StorageClass",
}  # fmt: skip


class ApiError(Exception):
    """The API server's refusal."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def path_of(resource: Object) -> str:
    """The API path of an object, from its apiVersion, kind, namespace and name."""
    version, kind, meta = resource["apiVersion"], resource["kind"], resource["metadata"]
    base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    plural = _PLURALS.get(kind) or kind.lower() + ("es" if kind.endswith("s") else "s")
    space = "" if kind in _CLUSTER_SCOPED else f"/namespaces/{meta.get('namespace', 'default')}"
    return f"{base}{space}/{plural}/{quote(meta['name'])}"


def kubeconfig(server: str, authority: Path, certificate: Path, key: Path) -> str:
    """A kubeconfig that names its files by path (JSON, which is YAML)."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "native", "cluster": {"server": server, "certificate-authority": str(authority)}}],
            "users": [{"name": "native", "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
            "contexts": [{"name": "native", "context": {"cluster": "native", "user": "native"}}],
            "current-context": "native",
        },
        indent=1,
    )


class Client:
    """Requests as the user of a kubeconfig written by `kubeconfig`; one connection per thread."""

    def __init__(self, config: Path) -> None:
        parsed = json.loads(config.read_text())
        cluster, user = parsed["clusters"][0]["cluster"], parsed["users"][0]["user"]
        address = urlsplit(cluster["server"])
        if address.hostname is None or address.port is None:
            message = f"{config}: the server needs a host and a port"
            raise ValueError(message)
        self._host, self._port = address.hostname, address.port
        self._context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._context.load_cert_chain(user["client-certificate"], user["client-key"])
        self._local = threading.local()

    def get(self, path: str) -> Object:
        """GET an object or a list."""
        answer: Object = json.loads(self.request("GET", path))
        return answer

    def items(self, path: str) -> list[Object]:
        """GET the items of a list."""
        found: list[Object] = self.get(path).get("items") or []
        return found

    def apply(self, resource: Object) -> Object:
        """Create or change an object by server-side apply."""
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        body = json.dumps(resource).encode()
        answer = self.request("PATCH", path_of(resource) + query, body, "application/apply-patch+yaml")
        applied: Object = json.loads(answer)
        return applied

    def merge(self, path: str, change: Object) -> None:
        """Merge-patch an object or one of its subresources."""
        self.request("PATCH", path, json.dumps(change).encode(), "application/merge-patch+json")

    def delete(self, path: str) -> None:
        """Delete; what is already gone is fine."""
        try:
            self.request("DELETE", path)
        except ApiError as error:
            if error.status != http.client.NOT_FOUND:
                raise

    def request(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """One request; a connection that broke while idle is replaced once.

        Raises:
            ApiError: The answer is not a success.
            OSError: The server cannot be reached.
        """
        headers = {"Content-Type": kind, "Accept": "application/json"}
        reused = getattr(self._local, "connection", None)
        connection = reused or self._connect()
        try:
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
            except (http.client.HTTPException, ConnectionError, ssl.SSLError):
                self._drop()
                if reused is None:
                    raise
                connection = self._connect()
                connection.request(method, path, body, headers)
                response = connection.getresponse()
            data = response.read()
        except http.client.HTTPException as error:
            self._drop()
            raise ConnectionError(repr(error)) from error
        except OSError:
            self._drop()
            raise
        if response.status >= http.client.BAD_REQUEST:
            raise ApiError(response.status, _message(data))
        return data

    def watch(self, path: str, version: str) -> Iterator[Object]:
        """Events of a list since a resource version (of the list read before), until the server ends the stream."""
        connection = self._open()
        try:
            connection.request("GET", f"{path}?watch=true&resourceVersion={version}&allowWatchBookmarks=true")
            response = connection.getresponse()
            if response.status >= http.client.BAD_REQUEST:
                raise ApiError(response.status, _message(response.read()))
            while line := response.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def close(self) -> None:
        """Close the calling thread's connection."""
        self._drop()

    def _open(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, context=self._context, timeout=REQUEST_TIMEOUT)

    def _connect(self) -> http.client.HTTPSConnection:
        self._local.connection = self._open()
        connection: http.client.HTTPSConnection = self._local.connection
        return connection

    def _drop(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
        self._local.connection = None


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body).get("message", ""))
    except (json.JSONDecodeError, AttributeError):
        return body[:300].decode("utf-8", "replace")
