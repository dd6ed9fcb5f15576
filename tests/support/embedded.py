"""An embedded PostgreSQL in a test, and what is left of it."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from jasaweb_rt.database.embedded import EmbeddedPostgres

OWNER = Path(__file__).with_name("embedded_owner.py")
"""A program that owns an embedded server; argument: data directory."""


def works_in(cluster: Path) -> list[int]:
    """Process ids of all that lives and works in `cluster`: the server, its workers, its backends."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").readlink() == cluster:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def left_in(cluster: Path, seconds: float = 30) -> list[int]:
    """What still works in `cluster` after all that is on its way out had the time to go."""
    deadline = time.monotonic() + seconds
    while (found := works_in(cluster)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


async def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        await asyncio.sleep(0.02)


def end(process: "subprocess.Popen[str]", data_dir: Path) -> None:
    """Kills an owner and removes what it could not: the folder of the socket."""
    process.kill()
    process.communicate()
    folders = (data_dir / "postgres.lock").read_text().splitlines()[1:]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


async def query(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def running(data_dir: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir, settings=settings)
    server.start()
    try:
        await server.wait_ready()
        yield server
    finally:
        await asyncio.to_thread(server.stop)
