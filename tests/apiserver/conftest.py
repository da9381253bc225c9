"""A real kube-apiserver with etcd, shared by the session; each test uses names of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kind.native.apiserver import ApiServer, running_apiserver
from kind.native.builder import ensure_binaries, missing
from kind.native.pins import API_TOOLS, cache_root
from kind.native.progress import Progress


@pytest.fixture(scope="session")
def apiserver(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """`kubeconfig`, `kubectl(...)`, `run_kubectl(...)`, `user_kubeconfig(name, group)`, `audit_log`, `binaries`."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    lacking = missing(API_TOOLS)
    if lacking and capture is not None:
        with capture.global_and_fixture_disabled():
            print(f"\nBUILDING {', '.join(lacking)} into {cache_root()}: about six minutes on two cores, once")
            ensure_binaries(Progress(), API_TOOLS)
    with running_apiserver() as server:
        yield server
