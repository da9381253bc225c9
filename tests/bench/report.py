"""The table."""

from __future__ import annotations

import platform
import ssl
from collections.abc import Mapping, Sequence
from statistics import median

from .rows import Row, Sample

Samples = Mapping[tuple[str, str], list[Sample]]


def print_report(rows: Sequence[Row], samples: Samples, memory: Mapping[str, tuple[float, float | None]]) -> int:
    """Print medians, ratios of paired rounds, and bars; returns 1 if a bar is missed or an answer was wrong, else 0."""
    print(f"\nPython {platform.python_version()}, {ssl.OPENSSL_VERSION}; P-256; server on core 0, client on core 1")
    print("operations per second, p50 / p99 in ms, µs of server CPU per operation: medians of the rounds")
    print("ratio kmipd : PyKMIP, of paired rounds: median [least, greatest]\n")
    header = (
        "row",
        "PyKMIP/s",
        "kmipd/s",
        "bare/s",
        "ratio",
        "bar",
        "p50 / p99 PyKMIP",
        "p50 / p99 kmipd",
        "µs PyKMIP / kmipd / bare",
        "ratio of µs",
        "",
    )
    lines: list[Sequence[str]] = [header]
    missed = False
    for row in rows:
        line, good = _line(row, samples)
        lines.append(line)
        missed = missed or not good
    _print_table(lines)
    missed = _print_versions(samples) or missed
    for name, (idle, held) in memory.items():
        more = "" if held is None else f", {held:.0f} MB with 500 open connections"
        print(f"memory of {name}: {idle:.0f} MB after the load{more}")
    errors = {key: sum(sample.errors for sample in found) for key, found in samples.items()}
    for (title, name), count in errors.items():
        if count:
            print(f"{count} failed operations: {title}, {name}")
            missed = missed or name == "kmipd"
    return int(missed)


def _line(row: Row, samples: Samples) -> tuple[Sequence[str], bool]:
    found = {name: samples.get((row.title, name), []) for name in ("pykmip", "kmipd", "bare")}
    pairs = zip(found["kmipd"], found["pykmip"], strict=False)
    # A round in which PyKMIP finished nothing says nothing.
    ratios = [ours.rate / theirs.rate for ours, theirs in pairs if theirs.rate]
    ratio = median(ratios) if ratios else None
    good = row.bar is None or ratio is None or ratio >= row.bar
    bar = "" if row.bar is None else f"≥ {row.bar:g}"
    tail = 0.0
    if row.p99_bar is not None and ratios:
        tail = _median(found["kmipd"], "p99") / _median(found["pykmip"], "p99")
        good = good and tail <= row.p99_bar
        bar += f", p99 ≤ {row.p99_bar:g}: {tail:.3f}"
    verdict = "" if not bar or ratio is None else ("ok" if good else "MISSED")
    line = (
        row.title,
        *(_rate(found[name]) for name in ("pykmip", "kmipd", "bare")),
        f"{ratio:.1f} [{min(ratios):.1f}, {max(ratios):.1f}]" if ratio is not None else "-",
        bar,
        *(_latencies(found[name]) for name in ("pykmip", "kmipd")),
        " / ".join(_microseconds(found[name]) for name in ("pykmip", "kmipd", "bare")),
        _cpu_ratio(found["pykmip"], found["kmipd"]),
        verdict,
    )
    return line, good


def _print_versions(samples: Samples) -> bool:
    """The latency of TLS 1.3 beside TLS 1.2's, for one client; whether the bar of 1.3 is missed."""
    old, new = samples.get(("connect + Get, 1", "kmipd")), samples.get(("connect + Get, 1, TLS 1.3", "kmipd"))
    if not old or not new:
        return False
    ratio = _median(new, "p50") / _median(old, "p50")
    verdict = "ok" if ratio <= 1.3 else "MISSED"
    print(f"connect + Get, one client, p50: TLS 1.3 takes {ratio:.2f} of TLS 1.2's time (bar ≤ 1.3): {verdict}")
    return ratio > 1.3


def _rate(samples: Sequence[Sample]) -> str:
    return f"{_median(samples, 'rate'):,.1f}" if samples else "-"


def _microseconds(samples: Sequence[Sample]) -> str:
    return f"{_median(samples, 'cpu_us'):,.0f}" if samples else "-"


def _cpu_ratio(theirs: Sequence[Sample], ours: Sequence[Sample]) -> str:
    """What other work on the machine disturbs least."""
    used = _median(ours, "cpu_us") if ours else 0.0
    return f"{_median(theirs, 'cpu_us') / used:.1f}" if theirs and used else "-"


def _latencies(samples: Sequence[Sample]) -> str:
    return f"{_median(samples, 'p50'):.2f} / {_median(samples, 'p99'):.2f}" if samples else "-"


def _median(samples: Sequence[Sample], field: str) -> float:
    value: float = median(getattr(sample, field) for sample in samples)
    return value


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()
