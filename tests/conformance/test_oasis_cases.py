"""The published OASIS test cases, replayed against ``kmipd dev`` by a runner from outside this repository.

``KMIP_OASIS_RUNNER`` is the runner (a Python program with the command line used below), ``KMIP_OASIS_DATA`` the folders with
the cases, separated as in PATH. The cases are OASIS's and are not part of this repository. With neither variable set there is
nothing to run; with only one, or with a path that is not there, this test fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import pki
from support.kmipd_process import dev, running, until
from support.oasis_cases import EXPECTED

from kmip_contract.allowlist import ALLOWLIST_KEY, Allowlist

RUNNER, DATA = "KMIP_OASIS_RUNNER", "KMIP_OASIS_DATA"

_CASE = re.compile(r"^([A-Z0-9]+(?:-[A-Z0-9]+)*?-1[0-4])(?=-[A-Za-z]|$)")


def case_name(file: str) -> str:
    """A case's name from its file's: ``SKFF_M_1_10_SymmetricKey….xml`` is ``SKFF-M-1-10``."""
    stem = file.removesuffix(".xml").replace("_", "-")
    found = _CASE.match(stem)
    return found[1] if found else stem


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("SKFF_M_10_10_SymmetricKeyFoundryAdvanced_10.xml", "SKFF-M-10-10"),
        ("SKLC_O_1_10-SymmetricKeysLifecycle_1.xml", "SKLC-O-1-10"),
        ("TC_111_12_Credential_Operation_Policy_Destroy_Date.xml", "TC-111-12"),
        ("TC-311-10-CREATE-DESTROY.xml", "TC-311-10"),
        ("TC-I18N-1-10.xml", "TC-I18N-1-10"),
        ("TC_ECC_2_10_Register_an_ECC_Key_Pair_in_PKCS8_Format_Unencrypted.xml", "TC-ECC-2-10"),
    ],
)
def test_names_of_cases(file: str, name: str) -> None:
    assert case_name(file) == name


def given_paths() -> tuple[Path, list[Path]]:
    """The runner and the folders; skips when neither is given, fails when what is given is not there."""
    runner, data = os.environ.get(RUNNER, ""), os.environ.get(DATA, "")
    if not runner and not data:
        pytest.skip(f"{RUNNER} and {DATA} are not set: the OASIS cases are not part of this repository")
    assert runner, f"{DATA} is set and {RUNNER} is not"
    assert data, f"{RUNNER} is set and {DATA} is not"
    folders = [Path(part) for part in data.split(os.pathsep)]
    for path in (Path(runner), *folders):
        assert path.exists(), f"{path} does not exist"
    return Path(runner), folders


def run(runner: Path, folder: Path, directory: Path, port: int, user: tuple[Path, Path]) -> list[dict[str, Any]]:
    """All cases of one folder."""
    report = directory / f"{folder.parent.name}-{folder.name}.json"
    done = subprocess.run(
        [
            *(sys.executable, str(runner), "run", "--data", str(folder), "--sweep", "--sweep-version", "1.2"),
            *("--host", "127.0.0.1", "--server-name", "localhost", "--port", str(port)),
            *("--ca", str(directory / "ca.crt"), "--cert", str(directory / "client.crt")),
            *("--key", str(directory / "client.key"), "--user", f"Barney={user[0]},{user[1]}"),
            *("--json", str(report)),
        ],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    cases: list[dict[str, Any]] = json.loads(report.read_text())["cases"]
    return cases


@pytest.mark.timeout(3600)
def test_expected_cases_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner, folders = given_paths()
    directory = tmp_path / "dev"
    with running(dev(directory)) as server:
        # A second client that may do nothing stands for the user whom the credential cases expect to be refused.
        barney = pki.make("barney")
        user = barney.write(directory, "barney")
        file = directory / ALLOWLIST_KEY
        kept = Allowlist.read(file)
        changed = kept.model_copy(
            update={
                "revision": kept.revision + 1,
                "entries": (*kept.entries, barney.entry("barney", operations=frozenset())),
            }
        )
        file.write_bytes(changed.to_json())
        until(lambda: any(event.get("revision") == changed.revision for event in server.events()), "the new allowlist")
        cases = [case for folder in folders for case in run(runner, folder, directory, server.address[1], user)]
    with capsys.disabled():
        totals = Counter((case["version"], case["result"]) for case in cases)
        for version in sorted({case["version"] for case in cases}):
            counts = {result: totals[version, result] for result in ("PASS", "FAIL", "SKIP", "ERROR")}
            print(f"\nOASIS {version}: " + ", ".join(f"{count} {result}" for result, count in counts.items()), end="")
        print()
    expected = [case for case in cases if case_name(case["file"]) in EXPECTED.get(case["version"], ())]
    assert expected, "none of the folders holds a case that is expected to pass"
    failed = {f"{case['version']} {case['file']}": case.get("diff") for case in expected if case["result"] != "PASS"}
    assert not failed
