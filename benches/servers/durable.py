"""The gateway under measurement, as `jasaweb-rt serve` runs it: relay, sync, recorder and core, without the web app.

Argument: settings, as a JSON object; `database_url` is one of them. Its orders, each a line, and what it answers:

| line | does | answer |
|---|---|---|
| `open COUNT` | waits until there are so many connections | `opened COUNT` |
| `stop SECONDS` | stops, in so much time at the most | `stopped` |
| `stats` | | `stats {counters}`: those of the core, and `not_recorded`, what the recorder did not write |
"""

import json
import sys
import time

from benches.messages import TOKEN_SECRET
from jasaweb_rt.config import Settings
from jasaweb_rt.gateway import Gateway

_LOOK_SECONDS = 0.005


def main() -> None:
    """Serves until its standard input ends."""
    settings = Settings(
        jwt_secret=TOKEN_SECRET,
        token_secret=TOKEN_SECRET,
        port=0,
        max_connections_per_ip=0,
        connect_rate_per_ip=0,
        **json.loads(sys.argv[1]),
    )
    if settings.database_url is None:
        raise SystemExit("database_url is missing")
    gateway = Gateway(settings, settings.database_url)
    gateway.start()
    print(f"port {gateway.server.address[1]}", flush=True)
    for line in sys.stdin:
        print(_carry_out(gateway, line), flush=True)
    gateway.stop(1)


def _carry_out(gateway: Gateway, line: str) -> str:
    match line.split():
        case ["open", count]:
            while gateway.server.stats().connections < int(count):
                time.sleep(_LOOK_SECONDS)
            return f"opened {count}"
        case ["stop", seconds]:
            gateway.stop(float(seconds))
            return "stopped"
        case ["stats"]:
            stats = gateway.server.stats()
            found = {name: getattr(stats, name) for name in dir(stats) if not name.startswith("_")}
            counters = {name: value for name, value in found.items() if isinstance(value, int)}
            drops = gateway.recorder_drops
            counters["not_recorded"] = drops.connection_rows + drops.messages + drops.proofs
            return f"stats {json.dumps(counters)}"
        case _:
            raise SystemExit(f"this is no command: {line}")


main()
