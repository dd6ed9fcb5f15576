"""What is done to a server under load, and what the clients saw of it."""

import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jasaweb_rt._core import LoadClient, LoadReport
from jasaweb_rt.bench.targets import Publish, Target
from jasaweb_rt.exceptions import ConfigurationError

__all__ = ["QUANTILES", "Delivered", "Opened", "check_open_files", "explain", "fan_out", "hold", "ramp", "storms"]

QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)
"""Shares of the deliveries whose delay is told."""

_OTHER_FILES = 64
_LOOK_SECONDS = 0.1
_QUIET_SECONDS = 10.0
_LATE_SECONDS = 30.0

_REFUSALS = {
    0: "nobody listens there, or the server's queue of new connections is full",
    401: "the token was refused",
    403: "the server does not accept this origin",
    404: "there is no WebSocket under this path",
    426: "the server wants TLS (JASAWEB_RT_REQUIRE_TLS), or there is no WebSocket under this path",
    429: "JASAWEB_RT_CONNECT_RATE_PER_IP, _CONNECT_BURST_PER_IP or _MAX_CONNECTIONS_PER_IP of the server: all clients "
    "come from one address; 0 switches them off",
    503: "JASAWEB_RT_MAX_CONNECTIONS of the server, or it is draining",
}
_CLOSES = {
    1006: "the connection broke",
    1008: "the server does not know the user, or not the key of the token: name users of its database by --user, and "
    "give this command the server's JASAWEB_RT_TOKEN_SECRET",
    4002: "the client did not keep up; it shares this machine with the server",
    4003: "no pong: the clients were too busy",
    4004: "JASAWEB_RT_MAX_CONNECTIONS_PER_USER of the server: name more users by --user",
}


@dataclass(frozen=True)
class Opened:
    """Some connections were opened."""

    asked: int
    opened: int
    seconds: float
    total: int
    """All that are open now."""

    @property
    def rate(self) -> float:
        """Handshakes a second."""
        return self.opened / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Delivered:
    """What arrived of the messages that name their moment."""

    messages: int
    """Of what others published, the newest 4096 at most."""
    deliveries: int
    expected: int | None
    """None: others published, nobody knows how many."""
    seconds: float
    """From the first message to the last receipt that was waited for."""
    delays: tuple[float, ...]
    """Seconds, by `QUANTILES`; empty where no message named its moment."""

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.deliveries / self.seconds


def check_open_files(connections: int) -> None:
    """Raises the limit of open files as far as `connections` need it, for us and for what we start.

    Raises:
        ConfigurationError: the system does not let us.
    """
    needed = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise ConfigurationError(
                f"{connections:,} connections need {needed:,} open files, and `ulimit -n` is {hard:,} at most: raise "
                f"it as root (`ulimit -Hn {needed}`), or ask for up to {max(1, hard - _OTHER_FILES):,} connections"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def ramp(
    client: LoadClient, target: Target, tokens: Sequence[str], *, steps: int, in_flight: int, wait: float
) -> Iterator[Opened]:
    """Opens a connection for each token, in so many steps, and yields each step."""
    total = 0
    for step in range(steps):
        part = tokens[len(tokens) * step // steps : len(tokens) * (step + 1) // steps]
        requests = [target.request(token) for token in part]
        opened, seconds = client.connect(target.address, requests, in_flight=in_flight, wait=wait)
        total += opened
        yield Opened(len(part), opened, seconds, total)


def storms(
    target: Target, tokens: Sequence[str], *, rounds: int, in_flight: int, wait: float
) -> Iterator[tuple[Opened, LoadReport]]:
    """Opens a connection for each token at once, and drops all of them; so many times."""
    for _ in range(rounds):
        client = LoadClient()
        try:
            [opened] = ramp(client, target, tokens, steps=1, in_flight=in_flight, wait=wait)
            yield opened, client.report()
        finally:
            client.stop()


def fan_out(
    client: LoadClient, publish: Publish | None, *, rate: float, seconds: float, size: int, connections: int
) -> Delivered:
    """Publishes to all connections for `seconds`, or with `publish` None listens for so long to what others publish."""
    client.clear()
    began = time.monotonic()
    if publish is None:
        time.sleep(seconds)
        report, expected = client.report(), None
        messages = len(report.publications)
    else:
        messages = max(1, round(rate * seconds))
        publish(rate, messages, size)
        expected = messages * connections
        report = _wait(client, expected)
    took = time.monotonic() - began
    return Delivered(
        messages=messages,
        deliveries=report.timed,
        expected=expected,
        seconds=took,
        delays=tuple(delay for quantile in QUANTILES if (delay := report.delay(quantile)) is not None),
    )


def hold(client: LoadClient, seconds: float) -> LoadReport:
    """Keeps the connections for so long; pings are answered."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and client.report().open:
        time.sleep(min(left, _LOOK_SECONDS))
    return client.report()


def explain(report: LoadReport) -> Iterator[str]:
    """Sentences about what was refused and closed, and what to look at."""
    for status, number in report.refused:
        answer = f"were answered by {status}" if status else "had no answer"
        yield f"{number:,} handshakes {answer}: {_REFUSALS.get(status, 'see the log of the server')}."
    for code, number in report.closed:
        yield f"{number:,} connections were closed with {code}: {_CLOSES.get(code, 'see the log of the server')}."


def _wait(client: LoadClient, expected: int) -> LoadReport:
    """What arrived, once all of it has, or where no more comes."""
    began = changed = time.monotonic()
    report = client.report()
    while report.timed < expected and time.monotonic() - began < _LATE_SECONDS:
        if time.monotonic() - changed > _QUIET_SECONDS:
            break
        time.sleep(_LOOK_SECONDS)
        before, report = report.timed, client.report()
        if report.timed != before:
            changed = time.monotonic()
    return report
