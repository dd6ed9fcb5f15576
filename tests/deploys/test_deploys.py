"""Deploying the application drops no socket and loses no frame."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploys.run import deploys
from tests.support.ports import free_port

pytestmark = pytest.mark.timeout(300)

SOCKETS = 200


@pytest.fixture
def folder() -> Iterator[Path]:
    """Its name is short, as a socket in it needs it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


async def test_an_application_that_comes_and_goes_drops_no_socket_and_loses_no_frame(
    folder: Path, database_url: str
) -> None:
    async with deploys(folder, database_url, SOCKETS, f"unix:{folder}/app.sock") as running:
        async with running.commits(database_url):
            await running.start()
            async with running.token_requests():
                await running.replace(signal.SIGTERM)
                await running.replace(signal.SIGKILL)
                await running.succeed()
                await running.replace(signal.SIGTERM)
        await running.verdict()
        assert all(running.heads.values())
        # A request that an application had begun to answer when it ended has no better answer than 502.
        assert set(running.answers) <= {200, 502, 503}
        assert running.answers[200]
        assert running.answers[503]


async def test_on_a_port_too(folder: Path, database_url: str) -> None:
    async with deploys(folder, database_url, 8, f"http://127.0.0.1:{free_port()}") as running:
        async with running.commits(database_url):
            await running.start()
            await running.replace(signal.SIGTERM)
            await running.replace(signal.SIGKILL)
        await running.verdict()
