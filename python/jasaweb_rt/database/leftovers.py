"""What a killed run of the embedded server left on its data directory; for the holder of the directory's lock only."""

import os
import signal
import time
from pathlib import Path

from jasaweb_rt.exceptions import EmbeddedPostgresError


def clear_leftover_server(cluster: Path) -> None:
    """Stops a server that still runs on `cluster`, and removes a `postmaster.pid` that stands for a foreign process.

    PostgreSQL takes a `postmaster.pid` for stale only if no process has that id. But process ids come again, in
    containers soon, and a killed server stays as a zombie where process 1 does not reap. Backends that outlive their
    server are still noticed by PostgreSQL itself, by the shared memory that belongs to the directory: then it ends, and
    is started again.
    """
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text("ascii").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if not Path("/proc/self/cwd").exists():
        return
    for leftover_signal, seconds in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        if not _works_in(pid, cluster):
            break
        os.kill(pid, leftover_signal)
        deadline = time.monotonic() + seconds
        while _works_in(pid, cluster) and time.monotonic() < deadline:
            time.sleep(0.02)
    else:
        if _works_in(pid, cluster):
            raise EmbeddedPostgresError(
                f"Process {pid}, a server left over on {cluster}, does not end; kill it, then start again"
            )
    pid_file.unlink(missing_ok=True)


def _works_in(pid: int, cluster: Path) -> bool:
    """Whether the process `pid` lives (a zombie does not) and works in `cluster`, as a PostgreSQL server does."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(cluster)
    except OSError:
        return False
