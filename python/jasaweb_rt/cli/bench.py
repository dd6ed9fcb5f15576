"""`jasaweb-rt bench`: the load side, for a server of the user's or a core of its own."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich_click as click

from jasaweb_rt._core import LoadClient
from jasaweb_rt.auth import connection_token, session_jwt
from jasaweb_rt.bench import runs
from jasaweb_rt.bench.chart import chart
from jasaweb_rt.bench.runs import Delivered, Opened
from jasaweb_rt.bench.targets import Publish, Target, admin_publisher, named_target, own_server
from jasaweb_rt.config import load_settings

__all__ = ["bench"]

_TOKEN_SECONDS = 3600
_CONNECT_SECONDS = 60.0
_RAMP_STEPS = 10
_OPENING_COLUMNS = ("asked", "opened", "seconds", "handshakes/s")


@dataclass(frozen=True)
class Audience:
    """Who connects, and to what."""

    target: Target
    tokens: Sequence[str]
    publish: Publish | None
    in_flight: int

    def ramp(self, client: LoadClient, steps: int) -> Iterator[Opened]:
        """Opens a connection for each token."""
        return runs.ramp(client, self.target, self.tokens, steps=steps, in_flight=self.in_flight, wait=_CONNECT_SECONDS)


def _chart_file(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix != ".svg":
        raise click.BadParameter("an SVG is written; end the name in .svg")
    return value


def _audience_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all loads have."""
    for option in (
        click.option(
            "--chart",
            "chart_file",
            type=click.Path(dir_okay=False, writable=True, path_type=Path),
            callback=_chart_file,
            help="Write a chart into this SVG file.",
        ),
        click.option(
            "--in-flight", type=click.IntRange(1), default=256, show_default=True, help="Handshakes at the same time."
        ),
        click.option("--workers", type=click.IntRange(1, 256), help="Worker threads of the core; without --url."),
        click.option("--token", help="Connect with this connection token, all as one user; with --url."),
        click.option("--user", "users", multiple=True, help="Connect as these users in turn; with --url."),
        click.option("--url", help="The server, as in ws://127.0.0.1:8000/ws; by default a core of its own."),
        click.option(
            "-n", "--connections", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="How many."
        ),
    ):
        command = option(command)
    return command


@click.group("bench")
def bench() -> None:
    """Puts load on a server, and tells what the clients saw.

    Without --url it starts a server core of its own, to see what this machine can do. With it, tokens are signed by the
    settings that are in force here, for users that are called bench-1 and so on; a server with a database knows only
    its own, so name them by --user. All clients come from one address: a server needs JASAWEB_RT_MAX_CONNECTIONS_PER_IP
    and JASAWEB_RT_CONNECT_RATE_PER_IP at 0 for the time. Client and server share this machine, so figures are of both.
    """


@bench.command("connections")
@_audience_options
@click.option("--hold", type=click.FloatRange(0, 86_400), default=5.0, show_default=True, help="Seconds to stay.")
@click.pass_context
def connections(context: click.Context, /, hold: float, chart_file: Path | None, **options: Any) -> None:  # noqa: ANN401
    """Opens connections step by step, and keeps them."""
    with _audience(**options) as audience, _clients() as client:
        seen = _opened(audience.ramp(client, min(_RAMP_STEPS, len(audience.tokens))), chart_file)
        report = runs.hold(client, hold)
        click.echo(f"{report.open:,} open after {hold:g} seconds more.")
        _end(context, client, complete=report.open == len(audience.tokens) == seen[-1].total)


@bench.command("storm")
@_audience_options
@click.option("--rounds", type=click.IntRange(1, 1000), default=3, show_default=True, help="How often.")
@click.pass_context
def storm(context: click.Context, /, rounds: int, chart_file: Path | None, **options: Any) -> None:  # noqa: ANN401
    """Opens all connections at once and drops them, again and again."""
    with _audience(**options) as audience:
        trouble: list[str] = []

        def storms() -> Iterator[Opened]:
            for opened, report in runs.storms(
                audience.target, audience.tokens, rounds=rounds, in_flight=audience.in_flight, wait=_CONNECT_SECONDS
            ):
                trouble.extend(runs.explain(report))
                yield opened

        seen = _opened(storms(), chart_file, by_round=True)
        for sentence in trouble:
            click.echo(sentence, err=True)
        if any(opened.opened < opened.asked for opened in seen):
            context.exit(1)


@bench.command("fan-out")
@_audience_options
@click.option(
    "--rate",
    type=click.FloatRange(0, 100_000, min_open=True),
    default=8.0,
    show_default=True,
    help="Messages a second, to all.",
)
@click.option("--seconds", type=click.FloatRange(0, 86_400, min_open=True), default=10.0, show_default=True)
@click.option("--size", type=click.IntRange(256, 65_536), default=256, show_default=True, help="Bytes of a message.")
@click.option("--admin", help="With --url: publish as this administrator, by the broadcast route; nothing is stored.")
@click.pass_context
def fan_out(
    context: click.Context,
    /,
    rate: float,
    seconds: float,
    size: int,
    chart_file: Path | None,
    **options: Any,  # noqa: ANN401  # those of all loads
) -> None:
    """Sends messages to everyone, and times their way.

    With --url and without --admin it only listens: a program of yours publishes, on this machine, messages with a
    member "stamp" that holds time.monotonic_ns().
    """
    with _audience(**options) as audience, _clients() as client:
        [opened] = audience.ramp(client, 1)
        seen = runs.fan_out(client, audience.publish, rate=rate, seconds=seconds, size=size, connections=opened.opened)
        _tell(seen)
        if chart_file is not None and seen.delays:
            points = [(_share(share), delay * 1e3) for share, delay in zip(runs.QUANTILES, seen.delays, strict=True)]
            title = f"From publication to receipt, {opened.opened:,} connections"
            _write(chart_file, chart(title, "share of the deliveries", "milliseconds at most", points))
        if opened.opened and not seen.deliveries:
            click.echo('Nothing came that has a member "stamp".', err=True)
        complete = opened.opened == opened.asked and seen.deliveries > 0
        _end(context, client, complete=complete and seen.expected in (None, seen.deliveries))


@contextlib.contextmanager
def _audience(
    connections: int,
    url: str | None,
    users: tuple[str, ...],
    token: str | None,
    workers: int | None,
    in_flight: int,
    admin: str | None = None,
) -> Iterator[Audience]:
    """Who connects, to the server under `url` or to one of our own, for as long as the block."""
    if token is not None and users:
        raise click.UsageError("Name either --user or --token.")
    if url is None and (users or token is not None or admin is not None):
        raise click.UsageError("--user, --token and --admin are for a server that --url names.")
    if url is not None and workers is not None:
        raise click.UsageError("--workers is for the core that this command starts; leave it or --url out.")
    runs.check_open_files(connections)
    names = users or [f"bench-{number}" for number in range(1, connections + 1)]
    if url is None:
        with own_server(workers) as (target, secret, publish):
            yield Audience(target, _tokens(names, connections, secret), publish, in_flight)
        return
    target, settings = named_target(url), load_settings()
    publish_there = None
    if admin is not None:
        session = session_jwt.issue(user_id=admin, email="", name=admin, role="admin", secret=settings.jwt_secret)
        publish_there = admin_publisher(target, session)
    tokens = [token] * connections if token is not None else _tokens(names, connections, settings.token_secret)
    yield Audience(target, tokens, publish_there, in_flight)


@contextlib.contextmanager
def _clients() -> Iterator[LoadClient]:
    client = LoadClient()
    try:
        yield client
    finally:
        client.stop()


def _tokens(names: Sequence[str], count: int, secret: str) -> list[str]:
    """A token for each connection, of these users in turn."""
    tokens = [
        connection_token.issue(
            user_id=name, role="client", name=name, secret=secret, session_exp=None, lifetime=_TOKEN_SECONDS
        ).token
        for name in names[:count]
    ]
    return [tokens[number % len(tokens)] for number in range(count)]


def _opened(steps: Iterator[Opened], chart_file: Path | None, *, by_round: bool = False) -> list[Opened]:
    """Prints the steps as they come, and draws them."""
    seen: list[Opened] = []
    first = "round" if by_round else "open"
    click.echo(_row((first, *_OPENING_COLUMNS)))
    for step in steps:
        seen.append(step)
        number = len(seen) if by_round else step.total
        click.echo(
            _row((f"{number:,}", f"{step.asked:,}", f"{step.opened:,}", f"{step.seconds:.2f}", f"{step.rate:,.0f}"))
        )
    if chart_file is not None:
        points = [(f"{index if by_round else step.total:,}", step.rate) for index, step in enumerate(seen, 1)]
        title = "Handshakes a second, storm by storm" if by_round else "Handshakes a second, by connections open"
        _write(chart_file, chart(title, first, "handshakes/s", points))
    return seen


def _tell(seen: Delivered) -> None:
    expected = "" if seen.expected is None else f" of {seen.expected:,}"
    click.echo(f"{seen.messages:,} messages in {seen.seconds:.1f} seconds")
    click.echo(f"{seen.deliveries:,}{expected} deliveries, {seen.rate:,.0f} a second")
    for share, delay in zip(runs.QUANTILES, seen.delays, strict=False):
        click.echo(f"{_share(share):>8} within {delay * 1e3:,.2f} ms")


def _share(share: float) -> str:
    return f"{share * 100:g} %"


def _row(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:>12}" for cell in cells)


def _write(file: Path, svg: str) -> None:
    file.write_text(svg, encoding="utf-8")
    click.echo(f"Chart: {file}")


def _end(context: click.Context, client: LoadClient, *, complete: bool) -> None:
    """Says what went wrong, and with which exit code."""
    for sentence in runs.explain(client.report()):
        click.echo(sentence, err=True)
    if not complete:
        context.exit(1)
