"""Made-up requests, the same in each run; `make fuzz-api` goes on with others for as long as one likes."""

from pathlib import Path

import httpx
import pytest

from tests.support.api_fuzz import fuzz
from tests.support.people import session_token
from tests.support.program import Program

SECONDS = 160.0


@pytest.mark.parametrize("who", ["admin", "client", "nobody"])
async def test_every_answer_is_as_the_schema_says(
    server: Program, http: httpx.AsyncClient, tmp_path: Path, who: str
) -> None:
    token = None if who == "nobody" else session_token(who)
    options = ("--phases", "coverage,fuzzing", "--max-examples", "3", "--generation-deterministic")
    code, output = await fuzz(await server.url(), token, tmp_path, *options, seconds=SECONDS)
    assert code == 0, output
    assert (await http.get("/readyz")).json()["success"] is True
    assert "a request failed" not in server.output
    assert "Traceback" not in server.output
