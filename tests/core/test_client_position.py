"""Where the asyncio client keeps its position, and when: behind what its caller has dealt with."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jasaweb_rt.client import FilePosition, Position, RealtimeClient
from jasaweb_rt.client_position import Keeper
from tests.support.scripted_server import ScriptedServer, durable, scripted_server
from tests.support.sockets import until

WAIT_SECONDS = 20.0


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> FilePosition:
    return FilePosition(tmp_path / "position.json")


class Recorder:
    """A store that tells what it was given."""

    def __init__(self, position: Position | None = None) -> None:
        self.saved: list[int] = []
        self.loads = 0
        self.failures: list[Exception] = []
        self._position = position

    async def load(self) -> Position | None:
        self.loads += 1
        return self._position

    async def save(self, position: Position) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.saved.append(position.last_seq)
        self._position = position


def client_of(scripted: ScriptedServer, store: FilePosition | Recorder, **options: object) -> RealtimeClient:
    url = scripted.base_url.replace("http", "ws") + "/ws"
    return RealtimeClient(url, scripted.token, position=store, **options)  # type: ignore[arg-type]


async def until_seq(client: RealtimeClient, seq: int) -> None:
    """Iterates up to the durable frame `seq`, which the caller then has in hand."""
    async with asyncio.timeout(WAIT_SECONDS):
        async for frame in client:
            if frame.get("seq") == seq:
                return


async def serve(scripted: ScriptedServer, *seqs: int, head: int) -> dict[str, str]:
    """Accepts a connection and sends it what it asks for; its query."""
    socket = await scripted.accept()
    after = socket.query.get("last_seq")
    await socket.sync(head=head, resumed_from=None if after is None else int(after))
    await socket.send(*(durable(seq) for seq in seqs))
    return socket.query


async def test_a_new_client_goes_on_where_the_last_one_was(scripted: ScriptedServer, file: FilePosition) -> None:
    async with client_of(scripted, file) as client:
        serving = asyncio.create_task(serve(scripted, 5, 6, 7, head=4))
        await until_seq(client, 6)
        assert await serving == {"batch": "1"}
    # Left in peace: what was in hand is dealt with.
    assert await file.load() == Position("E1", 6)
    async with client_of(scripted, file) as client:
        serving = asyncio.create_task(serve(scripted, 7, head=7))
        await until_seq(client, 7)
        assert await serving == {"batch": "1", "last_seq": "6", "epoch": "E1"}


async def test_what_was_in_hand_when_the_program_failed_comes_again(
    scripted: ScriptedServer, file: FilePosition
) -> None:
    async def fail() -> None:
        async with client_of(scripted, file) as client:
            serving = asyncio.create_task(serve(scripted, 5, 6, 7, head=4))
            await until_seq(client, 6)
            await serving
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await file.load() == Position("E1", 5)


async def test_where_a_position_is_given_it_counts(scripted: ScriptedServer) -> None:
    store = Recorder(Position("E0", 1))
    async with client_of(scripted, store, last_seq=4, epoch="E1") as client:
        serving = asyncio.create_task(serve(scripted, 5, head=5))
        await until_seq(client, 5)
        assert (await serving)["last_seq"] == "4"
    assert (store.loads, store.saved[-1]) == (0, 5)


async def test_it_is_saved_before_the_client_waits(scripted: ScriptedServer) -> None:
    store = Recorder()
    async with client_of(scripted, store) as client:
        waiting = asyncio.create_task(until_seq(client, 6))
        socket = await scripted.accept()
        await socket.sync(head=4)
        await until(lambda: store.saved == [4])
        await socket.send(durable(5))
        await until(lambda: store.saved == [4, 5])
        await socket.send(durable(6))
        await asyncio.wait_for(waiting, WAIT_SECONDS)
        assert (store.saved, store.loads) == ([4, 5], 1)


async def test_a_save_that_fails_is_the_callers_and_loses_no_frame(scripted: ScriptedServer) -> None:
    store = Recorder()
    async with client_of(scripted, store) as client:
        serving = asyncio.create_task(serve(scripted, 5, head=4))
        store.failures.append(OSError("disk full"))
        with pytest.raises(OSError, match="disk full"):
            await until_seq(client, 6)
        await until_seq(client, 5)
        await serving
    assert store.saved[-1] == 5


async def test_a_long_run_of_frames_is_saved_now_and_then() -> None:
    store = Recorder()
    keeper = Keeper(store)
    for seq in range(1, 301):
        keeper.settle("E1", seq)
        if keeper.overdue:
            await keeper.save()
    assert store.saved == [100, 200, 300]
    keeper.settle("E1", 300)
    await keeper.save()
    assert store.saved == [100, 200, 300]


async def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "position.json"
    store = FilePosition(path)
    assert await store.load() is None
    await store.save(Position("E1", 1))
    first = path.stat().st_ino
    # Of a process that was killed in the middle.
    (tmp_path / "position.json.new").write_bytes(b'{"epo')
    await store.save(Position("E1", 2))
    assert path.stat().st_ino != first
    assert path.read_text() == '{"epoch":"E1","lastSeq":2}'
    assert [entry.name for entry in tmp_path.iterdir()] == ["position.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"epoch":"E1"}', b'{"epoch":"E1","lastSeq":-1}', b"\xff"])
async def test_a_file_that_holds_something_else_is_not_passed_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "position.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"position\.json holds no position; remove it"):
        await FilePosition(path).load()


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await FilePosition(tmp_path / "none" / "position.json").save(Position("E1", 1))


SAVES = """
import asyncio, sys
from jasaweb_rt.client import FilePosition, Position

async def main():
    store = FilePosition(sys.argv[1])
    seq = 0
    while True:
        await store.save(Position("E" * 5000, seq := seq + 1))
        print(seq, flush=True)

asyncio.run(main())
"""


async def test_a_kill_at_any_moment_leaves_a_position(tmp_path: Path) -> None:
    path = tmp_path / "position.json"
    for saves in (1, 2, 7):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SAVES, os.fspath(path), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(50):
            for _ in range(saves):
                last = int(await process.stdout.readline())
            process.kill()
            printed = [int(line) async for line in process.stdout]
            await process.wait()
        found = await FilePosition(path).load()
        assert found is not None
        assert found.last_seq in ((printed or [last])[-1], (printed or [last])[-1] + 1)


async def test_a_full_disk_leaves_the_old_position(file: FilePosition, tmp_path: Path) -> None:
    await file.save(Position("e", 1))
    # Every write to this device finds no room.
    (tmp_path / "position.json.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        await file.save(Position("e", 2))
    assert await file.load() == Position("e", 1)
    (tmp_path / "position.json.new").unlink()
    await file.save(Position("e", 3))
    assert await file.load() == Position("e", 3)
