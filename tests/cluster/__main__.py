"""Three servers that are one: three NATS servers, one PostgreSQL, one address. `make run-cluster`.

Kill what you like: what has ended is started again, its clients go to the others, and nothing that was committed is
lost.
"""

import argparse
import asyncio
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from jasaweb_rt import demo
from jasaweb_rt.config import PREFIX
from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate
from jasaweb_rt.database.pool import connect
from tests.cluster.balancer import Balancer, Server
from tests.cluster.nodes import Node, keep_nats
from tests.support.nats_server import NatsCluster, NatsServer
from tests.support.ports import free_port

_END_SECONDS: Final = 60.0


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    options.add_argument("--port", type=int, default=8000, help="of the one address (8000)")
    options.add_argument("--count", type=int, default=3, help="servers, and NATS servers (3)")
    options.add_argument("--folder", type=Path, default=Path(".jasaweb/cluster"), help="where data are kept")
    given = options.parse_args()
    given.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = given.folder.resolve()
    # Here, on the main thread, for PostgreSQL dies with the thread that started it.
    postgres = EmbeddedPostgres(folder / ".jasaweb")
    database_url = postgres.start()
    try:
        with tempfile.TemporaryDirectory(prefix="jasaweb-rt-nats-") as nats_folder:
            names = [f"nats-{number}" for number in range(1, given.count + 1)]
            nats = NatsCluster([NatsServer(Path(nats_folder), name) for name in names])
            asyncio.run(_run(postgres, database_url, nats, folder, given.port))
    finally:
        postgres.stop()


async def _run(postgres: EmbeddedPostgres, database_url: str, nats: NatsCluster, folder: Path, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    nodes = [
        Node(
            f"node-{number}",
            port_of_node,
            folder,
            _environ(database_url, nats, port_of_node),
            _Teller(f"node-{number}"),
        )
        for number, port_of_node in enumerate((free_port() for _ in nats), start=1)
    ]
    balancer = Balancer([Server("127.0.0.1", node.port) for node in nodes])
    keeping: list[asyncio.Task[None]] = []
    running: list[asyncio.Task[None]] = []
    try:
        await postgres.wait_ready()
        await migrate(database_url)
        connection = await connect(database_url)
        await demo.seed(connection)
        await connection.close(timeout=5)
        nats.start()
        await nats.wait_ready()
        try:
            await balancer.start("127.0.0.1", port)
        except OSError as error:
            raise SystemExit(f"Port {port} cannot be had ({error.strerror}); choose another by --port.") from None
        keeping = [asyncio.create_task(keep_nats(server, _Teller(server.name))) for server in nats]
        running = [asyncio.create_task(node.run()) for node in nodes]
        ready = asyncio.create_task(balancer.wait_all_ready())
        ended = [*running, asyncio.create_task(stop.wait())]
        await asyncio.wait([ready, *ended], return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            _invite(database_url, nats, nodes, port)
        ready.cancel()
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            raise SystemExit("A server has ended for good; its last lines say why.")
    finally:
        for node in nodes:
            node.stop()
        if running:
            await asyncio.wait(running, timeout=_END_SECONDS)
        for task in (*keeping, *running):
            task.cancel()
        await balancer.stop()
        await nats.stop()


def _environ(database_url: str, nats: NatsCluster, port: int) -> dict[str, str]:
    """The environment of a node: ours, and what makes it one of these. They share a folder, and so generated keys."""
    return dict(os.environ) | {
        "DATABASE_URL": database_url,
        f"{PREFIX}NATS_URL": ",".join(nats.urls),
        f"{PREFIX}HOST": "127.0.0.1",
        f"{PREFIX}PORT": str(port),
    }


class _Teller:
    """Prints lines with the name of who wrote them."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, line: str) -> None:
        print(f"{self._name} | {line}", flush=True)


def _invite(database_url: str, nats: NatsCluster, nodes: list[Node], port: int) -> None:
    program = Path(sys.executable).with_name("jasaweb-rt")
    print(
        f"""
  {len(nodes)} servers are one, on http://127.0.0.1:{port}

{chr(10).join(f"    {node.name}  http://127.0.0.1:{node.port}  process {node.pid}" for node in nodes)}
{chr(10).join(f"    {server.name}  {server.url}  process {server.pid}" for server in nats)}

  Log in as {", ".join(demo.EMAILS)}; password {demo.PASSWORD}
  Open it in two browsers, kill a process of these, and notify:

    DATABASE_URL={shlex.quote(database_url)} {program} notify demo-client --type user_message --title Hello --message Hi
""",
        flush=True,
    )


if __name__ == "__main__":
    main()
