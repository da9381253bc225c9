"""opencryptoki's software token in namespaces of its own: no AEAD, the mechanisms of an EP11 HSM.

``inside`` starts this file as a script in new mount, IPC and process namespaces; there it starts ``pkcsslotd``, initialises the
token, writes the PIN to ``DIRECTORY/pin`` and becomes the command.
"""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MODULE = Path("/usr/lib/x86_64-linux-gnu/libopencryptoki.so.0")
LABEL = "kmip"
_PIN = "userpin2"
_TOKEN = "swtok"


def ensure_installed() -> None:
    """Install opencryptoki from the distribution if it is not there.

    Raises:
        RuntimeError: it is not there and cannot be installed.
    """
    if MODULE.exists():
        return
    done = subprocess.run(
        ["apt-get", "install", "-y", "--no-install-recommends", "opencryptoki"],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not MODULE.exists():
        raise RuntimeError(f"opencryptoki is needed and could not be installed: {done.stderr[-500:]}")


def inside(directory: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run ``command`` where the token is; needs root."""
    ensure_installed()
    namespaces = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
    return subprocess.run(
        [*namespaces, sys.executable, __file__, str(directory), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _set_up(directory: Path) -> None:
    path = f"{os.environ['PATH']}:/usr/sbin"
    for place in ("/var/lib/opencryptoki", "/run", "/dev/shm"):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    group = grp.getgrnam("pkcs11").gr_gid
    for place in (f"/var/lib/opencryptoki/{_TOKEN}/TOK_OBJ", f"/run/lock/opencryptoki/{_TOKEN}", "/run/opencryptoki"):
        Path(place).mkdir(parents=True)
        os.chown(place, 0, group)
        os.chmod(place, 0o770)
    daemon = shutil.which("pkcsslotd", path=path) or "pkcsslotd"
    subprocess.run([daemon], check=True, stdout=subprocess.DEVNULL)
    slot = "3"
    for option, answers in (
        ("-I", ("87654321", LABEL)),
        ("-P", ("87654321", "sopin123", "sopin123")),
        ("-u", ("sopin123", "userpin1", "userpin1")),
        ("-p", ("userpin1", _PIN, _PIN)),
    ):
        subprocess.run(
            [shutil.which("pkcsconf", path=path) or "pkcsconf", option, "-c", slot],
            input="\n".join(answers) + "\n",
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    (directory / "pin").write_text(_PIN + "\n")


if __name__ == "__main__":
    _set_up(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
