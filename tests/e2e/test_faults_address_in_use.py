"""A port that another program has."""

import signal
import socket
import tempfile
from pathlib import Path

from tests.support.embedded import left_in
from tests.support.program import environment, names, program, run


async def test_a_taken_port_ends_the_start_in_one_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environ = environment(PORT=str(port)) | {"TMPDIR": temporary}
        code, output = await run(tmp_path, environ, "serve")
        assert code == 2
        assert output.strip().splitlines()[-1] == (
            f"Error: Cannot listen on 127.0.0.1 port {port} (Address already in use); "
            "stop what uses it, or choose another by JASAWEB_RT_PORT and JASAWEB_RT_HOST."
        )
        assert "Traceback" not in output
        assert left_in(tmp_path / ".jasaweb" / "postgres") == []
        assert not {"postgres.url", "postgres.new"} & set(names(tmp_path / ".jasaweb"))
        assert not (tmp_path / ".jasaweb" / "postgres" / "postmaster.pid").exists()
        assert names(Path(temporary)) == []

        # Nor is anything locked: once the port is free, the same command starts.
        taken.close()
        async with program(tmp_path, environ, "serve") as server:
            assert await server.url() == f"http://127.0.0.1:{port}"
            assert await server.end(signal.SIGTERM) == 0
