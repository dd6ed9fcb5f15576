"""`kill -HUP`: keys are read again and no socket is closed. A terminal that is closed is an end."""

import asyncio
import fcntl
import os
import pty
import re
import resource
import signal
import sys
import termios
from pathlib import Path

import asyncpg
import httpx
from websockets.asyncio.client import connect

from tests.support.people import insert_people, session_token
from tests.support.program import END_SECONDS, START_SECONDS, environment, program
from tests.support.sockets import frame

_SAME = b"the keys were read again; they are the same"
FIRST, SECOND = "the first key of this test is long", "the second key of this test is long"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {session_token('client', secret=secret)}"}


async def test_keys_are_replaced_under_open_sockets(
    tmp_path: Path, database_url: str, connection: asyncpg.Connection
) -> None:
    await insert_people(connection)
    key = tmp_path / "key"
    key.write_text(FIRST)
    environ = environment(database_url) | {"JASAWEB_RT_JWT_SECRET_FILE": str(key)}
    del environ["JASAWEB_RT_JWT_SECRET"], environ["JASAWEB_RT_TOKEN_SECRET"]
    async with (
        program(tmp_path, environ, "--debug", "serve") as server,
        httpx.AsyncClient(base_url=f"{await server.url()}/", timeout=30) as http,
    ):
        issued, unused = [
            (await http.post("/api/websocket/token", headers=bearer(FIRST))).json()["token"] for _ in range(2)
        ]
        url = f"{str(http.base_url).replace('http', 'ws', 1)}ws?token="
        async with connect(url + issued) as held:
            assert [(await frame(held))["type"] for _ in range(2)] == ["system_announcement", "sync"]
            key.write_text("too short")
            server.send_signal(signal.SIGHUP)
            await server.line("ERROR .*the keys stay as they are: JASAWEB_RT_JWT_SECRET_FILE is too short")
            assert (await http.get("/api/auth/me", headers=bearer(FIRST))).status_code == 200
            key.write_text(SECOND)
            server.send_signal(signal.SIGHUP)
            await server.line("the keys were read again; replaced: JWT_SECRET, TOKEN_SECRET$")
            assert (await http.get("/api/auth/me", headers=bearer(FIRST))).status_code == 401
            fresh = (await http.post("/api/websocket/token", headers=bearer(SECOND))).json()["token"]
            for token in (unused, fresh):
                async with connect(url + token) as socket:
                    assert (await frame(socket))["type"] == "system_announcement"
            await connection.execute(
                "insert into public.real_time_notifications (id, user_id, type, title, message) "
                "values ('n', 'client', 'user_message', 'T', 'M')"
            )
            assert (await frame(held))["id"] == "n"
        assert await server.end(signal.SIGTERM) == 0
        assert "Traceback" not in server.output
        assert not re.search(f"{FIRST}|{SECOND}|too short$", server.output)


async def test_a_terminal_that_is_closed_ends_the_server(tmp_path: Path, database_url: str) -> None:
    ours, its = pty.openpty()

    def take_terminal() -> None:
        # Whoever runs the tests may have had it ignored, as nohup does; a server goes on then.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.setsid()
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)

    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).parent / "jasaweb-rt"), "serve"),
        cwd=tmp_path,
        env=environment(database_url),
        stdin=its,
        stdout=its,
        stderr=its,
        preexec_fn=take_terminal,
    )
    try:
        os.close(its)
        said = b""
        async with asyncio.timeout(START_SECONDS):
            while b"listening on" not in said:
                said += await asyncio.to_thread(os.read, ours, 4096)
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(START_SECONDS):
            while said.count(_SAME) < 1:
                said += await asyncio.to_thread(os.read, ours, 4096)
        # Where no file can be opened, nobody can see whether there is a terminal: that is no end.
        limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(START_SECONDS):
            while said.count(_SAME) < 2:
                said += await asyncio.to_thread(os.read, ours, 4096)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        os.close(ours)
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
