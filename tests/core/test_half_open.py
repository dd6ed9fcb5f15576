"""Peers that have vanished without a word, as when a cable is cut."""

import asyncio
import json
import shutil
import sys

import pytest

from tests.support import half_open
from tests.support.pages import ROOT

_NETWORK = ("unshare", "--user", "--map-root-user", "--net")


async def _run(*command: str) -> tuple[int | None, bytes]:
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out


@pytest.mark.timeout(120)
async def test_peers_that_vanish_are_cleaned_up() -> None:
    if shutil.which("unshare") is None or (await _run(*_NETWORK, "true"))[0] != 0:
        pytest.skip("a network of one's own is not to be had here")
    code, out = await _run(*_NETWORK, sys.executable, "-m", half_open.__name__)
    assert code == 0
    found = json.loads(out)
    assert found["before"] == 0, "nobody was given up before the cut"
    assert found["ends"] == [[4003, "timeout"]] * half_open.COUNT
    assert found["again"] == 1, "the server serves on"
