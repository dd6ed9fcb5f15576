"""`make fuzz-api`: made-up requests against a whole server, other ones in each run, for FUZZ_SECONDS."""

import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

import asyncpg
import httpx

from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate
from tests.support.api_fuzz import fuzz
from tests.support.payments import KEY
from tests.support.people import insert_people, session_token
from tests.support.program import environment, program

_END_SECONDS = 120.0
"""For what was begun when the time is over, and for making what was found smaller."""


async def _run(seconds: float, seed: int, folder: Path) -> bool:
    """Whether nothing was found."""
    postgres = EmbeddedPostgres(folder / "postgres", settings={"fsync": "off"})
    url = postgres.start()
    try:
        await postgres.wait_ready()
        await migrate(url)
        connection = await asyncpg.connect(url)
        await insert_people(connection)
        await connection.close()
        async with program(folder, environment(url, MIDTRANS_SERVER_KEY=KEY), "serve") as server:
            found = False
            for who, token in (
                ("admin", session_token("admin")),
                ("client", session_token("client")),
                ("nobody", None),
            ):
                share = seconds / 3
                options = ("--max-time", f"{share:.0f}", "--max-examples", "100000", "--seed", str(seed))
                code, output = await fuzz(await server.url(), token, folder, *options, seconds=share + _END_SECONDS)
                print(f"--- as {who}, seed {seed}: exit code {code}\n{output}")
                found |= code != 0
            async with httpx.AsyncClient(base_url=await server.url(), timeout=30) as http:
                found |= (await http.get("/readyz")).json()["success"] is not True
            if "a request failed" in server.output or "Traceback" in server.output:
                print(f"--- the server's log:\n{server.output}")
                found = True
            return not found
    finally:
        postgres.stop()


def main() -> None:
    """Fuzzes; exits with 1 where anything was found."""
    seconds = float(os.environ.get("FUZZ_SECONDS", "600"))
    seed = int(os.environ.get("FUZZ_SEED", random.SystemRandom().randrange(2**32)))
    with tempfile.TemporaryDirectory(prefix="jasaweb-rt-fuzz-") as folder:
        clean = asyncio.run(_run(seconds, seed, Path(folder)))
    print("Nothing was found." if clean else f"Something was found; the same again: FUZZ_SEED={seed} make fuzz-api")
    sys.exit(not clean)


if __name__ == "__main__":
    main()
