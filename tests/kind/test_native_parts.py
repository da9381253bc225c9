import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from kind.native import cgroups, pins
from kind.native.images import docker_archive
from kind.native.kube import path_of
from kind.native.processes import MARK, Process, identify, kill, marked, spawn
from kind.native.state import State, StateError

V1 = """\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"


def test_hybrid_hierarchies_are_found_once_and_need_no_handing_down() -> None:
    found = cgroups.hierarchies(V1)
    assert [(str(each.root), each.version, each.managed) for each in found] == [
        ("/sys/fs/cgroup/memory", 1, False),
        ("/sys/fs/cgroup/pids", 1, False),
        ("/sys/fs/cgroup/unified", 2, False),
    ]


def test_version_2_alone_hands_controllers_down() -> None:
    assert [(each.version, each.managed) for each in cgroups.hierarchies(V2)] == [(2, True)]


def test_image_archives_are_valid_and_equal_for_equal_input() -> None:
    archive = docker_archive("localhost/x:1", "x", b"binary")
    assert archive == docker_archive("localhost/x:1", "x", b"binary")
    with tarfile.open(fileobj=io.BytesIO(archive)) as outer:
        members = {entry.name: outer.extractfile(entry) for entry in outer}
        contents = {name: file.read() for name, file in members.items() if file is not None}
    (manifest,) = json.loads(contents["manifest.json"])
    config = json.loads(contents[manifest["Config"]])
    layer = contents[manifest["Layers"][0]]
    assert manifest["RepoTags"] == ["localhost/x:1"]
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
    with tarfile.open(fileobj=io.BytesIO(layer)) as inner:
        assert [(entry.name, entry.mode) for entry in inner] == [("x", 0o755)]


def test_every_tool_has_pins_with_checksums() -> None:
    for tool in pins.TOOLS:
        if any(source.endswith(".c") for _, source in tool.outputs):
            continue
        module = (tool.source / "go.mod").read_text()
        assert "require" not in module or (tool.source / "go.sum").is_file()


def test_a_tools_identity_changes_with_pins_and_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = pins.TOOLS[0]
    assert pins.tool_hash(tool) != pins.tool_hash(replace(tool, tags="x"))
    before = pins.tool_hash(tool)
    copied = tmp_path / tool.folder
    copied.mkdir()
    for path in tool.source.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(pins, "BUILD", tmp_path)
    assert pins.tool_hash(tool) == before
    with (copied / "go.sum").open("a") as sums:
        sums.write("\n")
    assert pins.tool_hash(tool) != before


def test_pinned_version_names_what_is_missing() -> None:
    assert pins.pinned_version("kubernetes", "k8s.io/kubernetes").startswith("v1.")
    with pytest.raises(pins.PinError, match=r"example\.com/nothing"):
        pins.pinned_version("etcd", "example.com/nothing")


def test_api_paths() -> None:
    def path(version: str, kind: str, namespace: str | None = None) -> str:
        meta = {"name": "n", **({"namespace": namespace} if namespace else {})}
        return path_of({"apiVersion": version, "kind": kind, "metadata": meta})

    assert path("v1", "Node") == "/api/v1/nodes/n"
    assert path("v1", "Service", "kube-system") == "/api/v1/namespaces/kube-system/services/n"
    assert path("storage.k8s.io/v1", "StorageClass") == "/apis/storage.k8s.io/v1/storageclasses/n"
    assert path("networking.k8s.io/v1", "NetworkPolicy", "a") == (
        "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/n"
    )


def test_spawned_processes_are_found_by_mark_and_killed(tmp_path: Path) -> None:
    log = tmp_path / "log" / "sleep.log"
    process = spawn(["sh", "-c", "echo started; exec sleep 600"], log=log, environment={MARK: str(tmp_path)})
    assert process.alive()
    assert process in marked(str(tmp_path))
    kill([process])
    assert not process.alive()
    assert marked(str(tmp_path)) == []


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    process = identify(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process is None or not process.alive()
    assert identify(child.pid) is None
    assert child.wait() == 0


def test_a_process_whose_first_thread_ended_is_alive_while_others_run() -> None:
    # The other thread ends when its standard input does.
    script = "import ctypes, sys, threading; threading.Thread(target=sys.stdin.read).start(); ctypes.CDLL(None).pthread_exit(0)"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            assert child.poll() is None
        assert identify(child.pid) is not None
        child.kill()
    assert identify(child.pid) is None


def test_a_later_process_of_the_same_pid_is_another() -> None:
    own = identify(os.getpid())
    assert own is not None
    assert not Process(own.pid, own.started - 1).alive()


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b"])
def test_cluster_names_stay_one_path_element(name: str) -> None:
    with pytest.raises(StateError, match="cluster's name"):
        State.of(name)


def test_state_survives_missing_and_broken_files(tmp_path: Path) -> None:
    state = State(tmp_path / "c")
    state.create()
    assert state.process("etcd") is None
    (state.folder / "topology.json").write_text("{")
    with pytest.raises(StateError, match="half-made"):
        state.read("topology")
    state.remove()
    assert not state.folder.exists()
