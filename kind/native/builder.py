"""Builds the binaries once, into the cache: resumable, safe to run twice at the same time, progress shown."""

import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kind.native import hostpackages
from kind.native.pins import OPTIONAL_TOOLS, TOOLS, Tool, bin_folder, cache_root, tool_folder
from kind.native.progress import Progress

# A long compile says how far it is this often (seconds): often enough to see that it lives, rare enough for a log.
REPORT_EVERY = 20.0


class BuildError(Exception):
    """A compile that failed; the message carries the compiler's last lines."""


def ensure_binaries(progress: Progress, folders: Sequence[str] | None = None) -> Path:
    """Build what is missing and return the folder of binaries.

    Args:
        progress: Where steps are printed.
        folders: Only these folders of `build/`; all of them when None.

    Raises:
        BuildError: A compile failed.
        hostpackages.MissingError: The machine lacks a compiler or a library.
    """
    wanted = [tool for tool in TOOLS if folders is None or tool.folder in folders]
    if not _linked(wanted):
        with _build_lock(progress):
            for tool in wanted:
                _ensure_tool(tool, progress)
            _link(wanted)
    return bin_folder()


def ensure_optional(progress: Progress, folder: str) -> Path:
    """Build one of the tools that no cluster needs; the folder of its binaries.

    Raises:
        BuildError: A compile failed.
        hostpackages.MissingError: The machine lacks a compiler or a library.
    """
    (tool,) = (tool for tool in OPTIONAL_TOOLS if tool.folder == folder)
    if not _built(tool):
        with _build_lock(progress):
            _ensure_tool(tool, progress)
    return tool_folder(tool)


def missing(folders: Sequence[str] | None = None) -> list[str]:
    """The folders of `build/` whose binaries are not in the cache."""
    return [tool.folder for tool in TOOLS if (folders is None or tool.folder in folders) and not _built(tool)]


def prune(progress: Progress) -> None:
    """Remove Go's own module and build caches, and binaries of other pins."""
    with progress.step("remove Go's caches"):
        subprocess.run(["go", "clean", "-cache", "-modcache"], check=True)
    kept = {tool_folder(tool).name for tool in (*TOOLS, *OPTIONAL_TOOLS)}
    for kind, keep in (("tools", kept), ("bin", {bin_folder().name}), ("images", {bin_folder().name})):
        parent = cache_root() / kind
        for folder in parent.iterdir() if parent.is_dir() else ():
            if folder.name not in keep:
                shutil.rmtree(folder)


def _built(tool: Tool) -> bool:
    return all((tool_folder(tool) / name).is_file() for name, _ in tool.outputs)


def _linked(tools: Sequence[Tool]) -> bool:
    return all((bin_folder() / name).is_file() for tool in tools for name, _ in tool.outputs)


def _link(tools: Sequence[Tool]) -> None:
    bin_folder().mkdir(parents=True, exist_ok=True)
    for tool in tools:
        for name, _ in tool.outputs:
            link = bin_folder() / name
            fresh = link.with_name(f".{name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(tool_folder(tool) / name)
            fresh.replace(link)


def _ensure_tool(tool: Tool, progress: Progress) -> None:
    if _built(tool):
        return
    hostpackages.ensure(hostpackages.BUILD_NEEDS if tool.cgo else (), progress)
    hostpackages.require_go()
    target = tool_folder(tool)
    # Each binary is moved into place whole: one found there is finished, also after a kill.
    scratch = target.with_name(f"{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with progress.step(f"build {tool.folder}: {' '.join(name for name, _ in tool.outputs)}"):
        if tool.outputs[0][1].endswith(".c"):
            _compile_c(tool, scratch)
        else:
            _compile_go(tool, scratch, progress)
        target.mkdir(parents=True, exist_ok=True)
        for name, _ in tool.outputs:
            (scratch / name).replace(target / name)
        scratch.rmdir()


def _compile_c(tool: Tool, target: Path) -> None:
    for name, source in tool.outputs:
        command = ["gcc", "-Os", "-Wall", "-static", "-s", "-o", str(target / name), str(tool.source / source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"{source}: {done.stderr.strip()[-2000:]}"
            raise BuildError(message)


def _compile_go(tool: Tool, target: Path, progress: Progress) -> None:
    # One `go build` for all of a folder's packages shares their compiles; the trailing slash names each after its
    # package's last element, which a single package of another name (or a main package here) must be given.
    single = len(tool.outputs) == 1
    output = str(target / tool.outputs[0][0]) if single else f"{target}/"
    command = [
        *(("nice", "-n", "5") if shutil.which("nice") else ()),
        "go", "build", "-v", "-mod=readonly", "-buildvcs=false", "-trimpath",
        f"-ldflags={' '.join(('-s', *tool.linker))}", f"-tags={tool.tags}",
        "-o", output, *(package for _, package in tool.outputs),
    ]  # fmt: skip
    environment = os.environ | {"CGO_ENABLED": "1" if tool.cgo else "0", "GOFLAGS": "", "GOWORK": "off"}
    process = subprocess.Popen(
        command, cwd=tool.source, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    lines: list[str] = []
    finished = threading.Event()
    reporter = threading.Thread(target=_report, args=(tool, lines, finished, progress), daemon=True)
    reporter.start()
    try:
        lines.extend(line.rstrip() for line in process.stderr or ())
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        finished.set()
        reporter.join()
        if process.stderr is not None:
            process.stderr.close()
    if code != 0:
        message = f"go build in build/{tool.folder} failed:\n" + "\n".join(lines[-30:])
        raise BuildError(message)


def _report(tool: Tool, lines: list[str], finished: threading.Event, progress: Progress) -> None:
    while not finished.wait(REPORT_EVERY):
        compiled = sum(1 for line in lines if not line.startswith("go: "))
        fetched = len(lines) - compiled
        progress.note(f"  {tool.folder}: {fetched} modules fetched, {compiled} packages compiled")


@contextmanager
def _build_lock(progress: Progress) -> Iterator[None]:
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note("another build is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
