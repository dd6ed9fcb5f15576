"""The embedded PostgreSQL where we are root, which PostgreSQL itself refuses to be."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.embedded_binaries import choose_identity, find_binaries
from jasaweb_rt.exceptions import EmbeddedPostgresError
from tests.support.embedded import OWNER, end, eventually, left_in, query, running, works_in

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")


@pytest.fixture
def cluster(data_dir: Path) -> Iterator[Path]:
    """Where the server works; after the test nothing does."""
    yield data_dir / "postgres"
    assert left_in(data_dir / "postgres") == []


@pytest.fixture
def reachable_data_dir() -> Iterator[Path]:
    """A data directory that every user can come to, unlike those that pytest makes."""
    parent = Path(tempfile.mkdtemp(prefix="jasaweb-test-"))
    parent.chmod(0o755)
    data_dir = parent / "data"
    data_dir.mkdir(mode=0o755)
    yield data_dir
    assert left_in(data_dir / "postgres") == []
    shutil.rmtree(parent)


async def test_in_a_user_namespace_nothing_changes_hands(data_dir: Path, cluster: Path) -> None:
    data_dir.mkdir(mode=0o700)
    async with running(data_dir) as server:
        assert await query(server.url, "select 1") == 1
        assert choose_identity(find_binaries(), data_dir, cluster).user == -1
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert cluster.stat().st_uid == 0


async def test_as_nobody_where_namespaces_are_refused(
    reachable_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    async with running(reachable_data_dir) as server:
        await query(server.url, "create table t as select 42 as n")
        assert server.pid is not None
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
    cluster = reachable_data_dir / "postgres"
    assert cluster.stat().st_uid == NOBODY
    # Whoever owns the data goes on with them, though namespaces are allowed again.
    monkeypatch.undo()
    async with running(reachable_data_dir) as server:
        assert await query(server.url, "select n from t") == 42
        assert server.pid is not None
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY


async def test_nothing_is_left_of_nobodys_server_when_we_are_killed(
    reachable_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.which", lambda _: None)
        async with running(reachable_data_dir):
            pass
    cluster = reachable_data_dir / "postgres"
    process = subprocess.Popen(
        [sys.executable, OWNER, reachable_data_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline)
    assert len(works_in(cluster)) > 1
    end(process, reachable_data_dir)
    await eventually(lambda: not works_in(cluster))


async def test_refused_where_neither_is_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match="cannot run as root here"):
        EmbeddedPostgres(tmp_path / "data").start()


async def test_as_an_ordinary_user(data_dir: Path, cluster: Path) -> None:
    """The whole way as someone who is not root; in a namespace, since Python itself may lie below root's home."""
    process = subprocess.Popen(
        ["/usr/bin/unshare", "-U", "--map-user=1000", sys.executable, OWNER, data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    if not line:
        pytest.fail(process.communicate()[1])
    _, url = line.split()
    assert await query(url, "select 1") == 1
    process.communicate("")
    assert process.returncode == 0
    assert works_in(cluster) == []


def test_another_users_data_are_refused_to_an_ordinary_user(
    reachable_data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    with pytest.raises(EmbeddedPostgresError, match="belongs to user 0"):
        choose_identity(find_binaries(), reachable_data_dir, reachable_data_dir)
