"""As many sockets as are asked for, and as many deploys; says what everybody was told, and how late."""

import argparse
import asyncio
import resource
import signal
import statistics
import tempfile
from pathlib import Path

from jasaweb_rt.database.embedded import EmbeddedPostgres
from jasaweb_rt.database.migrations import migrate_for
from tests.deploys.run import deploys


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m tests.deploys", description=__doc__)
    options.add_argument("--sockets", type=int, default=6000, help="open sockets (6000)")
    options.add_argument("--rounds", type=int, default=3, help="times three deploys (3)")
    given = options.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        postgres = EmbeddedPostgres(folder / "data")
        url = postgres.start()
        try:
            asyncio.run(_run(folder, postgres, url, given.sockets, given.rounds))
        finally:
            postgres.stop()


async def _run(folder: Path, postgres: EmbeddedPostgres, database_url: str, sockets: int, rounds: int) -> None:
    await postgres.wait_ready()
    await migrate_for(database_url, None)
    async with deploys(folder, database_url, sockets, f"unix:{folder}/app.sock") as running:
        async with running.commits(database_url):
            await running.start()
            async with running.token_requests():
                for _ in range(rounds):
                    await running.replace(signal.SIGTERM)
                    await running.replace(signal.SIGKILL)
                    await running.succeed()
        await running.verdict()
        delays = sorted(delay for device in running.devices for delay in device.delays)
        cuts = statistics.quantiles(delays, n=100, method="inclusive")
        print(
            f"{len(running.devices):,} sockets, {3 * rounds} deploys: none closed, nothing lost\n"
            f"{sum(running.heads.values()):,} notifications, {len(delays):,} seen; commit to receipt "
            f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, most {delays[-1] * 1000:.1f} ms\n"
            f"tokens asked for: {dict(sorted(running.answers.items()))}",
            flush=True,
        )


if __name__ == "__main__":
    main()
