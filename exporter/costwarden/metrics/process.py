"""What every Prometheus client tells of its process, where there is a /proc: https://prometheus.io/docs/instrumenting/writing_clientlibs/."""

import os
from collections.abc import Iterator
from pathlib import Path

from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family

# Positions in /proc/self/stat behind the program's name, from proc_pid_stat(5): field 14 there is number 11 here.
_UTIME, _STIME, _STARTTIME, _RSS = 11, 12, 19, 21


def collect_process(proc: Path = Path("/proc")) -> Iterator[tuple[Family, list[Sample]]]:
    """CPU time, open files, memory and start of this process; nothing where the system has no /proc."""
    if not (proc / "self" / "stat").is_file():
        return
    # The program's name may hold spaces and parentheses; the last one closes it.
    fields = (proc / "self" / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    figures = {
        "process_cpu_seconds_total": (int(fields[_UTIME]) + int(fields[_STIME])) / ticks,
        "process_open_fds": float(sum(1 for _ in (proc / "self" / "fd").iterdir())),
        "process_resident_memory_bytes": float(int(fields[_RSS]) * os.sysconf("SC_PAGE_SIZE")),
        "process_start_time_seconds": _boot_time(proc) + int(fields[_STARTTIME]) / ticks,
    }
    for name, value in figures.items():
        yield FAMILIES[name], [((), value)]


def _boot_time(proc: Path) -> float:
    lines = (proc / "stat").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("btime "))
