"""Very many who come back at once, each with something to catch up with."""

import functools
import statistics
import time
from collections.abc import Callable, Iterator

from benches.durable import FRAMES_AT_JOIN, IS_LOGGED, in_sync, received
from benches.load import ALL_CORES, busy_client, connected, own_cpu
from benches.measures.figures import RATIO, Figure, Run
from benches.messages import requests
from benches.postgres import Database, postgres
from benches.programs import Program, durable, fan_out
from jasaweb_rt._core import LoadClient, LoadReport

__all__ = ["reconnect"]

_MANY = 10_000
_KNOWN, _BEHIND = 5, 20
_WARM = 100
_CONNECT_SECONDS = 120.0

_STORE = """
insert into public.real_time_notifications (id, user_id, type, title, message, data)
select gen_random_uuid()::text, u.id, 'project_update', 'Landing page', 'The project was approved',
       jsonb_build_object('stamp', $1::bigint + n)
from public.users u cross join generate_series(1, $2::int) n order by n, u.id
"""


def reconnect(run: Run) -> Iterator[Figure]:
    """All connect anew and name the last that they have, against bare handshakes with the core alone."""
    many = run.share(_MANY)
    bare: list[float] = []
    ours: list[float] = []
    shakes: list[float] = []
    doubts: list[str] = []
    alone = fan_out(workers=len(ALL_CORES))
    with postgres() as server, server.database(many) as database:
        epoch = _store(database)
        for number in range(run.rounds):
            with connected(alone, many, ALL_CORES) as users:
                bare.append(users.seconds)
                doubts += [f"core alone: {doubt}" for doubt in users.connect_doubts()]
            with Program(durable(database.url), ALL_CORES) as program:
                is_logged = functools.partial(database.wait_for, IS_LOGGED, (number + 1) * many * _BEHIND)
                handshakes, synced, found = _resume(program, many, epoch, is_logged)
            shakes.append(handshakes)
            ours.append(synced)
            doubts += found
    base, value, each = (statistics.median(found) for found in (bare, ours, shakes))
    yield Figure(
        f"storm of {many:,} that reconnect, each {_BEHIND} frames behind: until the last frame is there, against bare "
        "handshakes",
        value / base,
        RATIO,
        6.0,
        f"{value:.2f} s against {base:.2f} s; its handshakes took {each:.2f} s",
        tuple(doubts),
    )


def _store(database: Database) -> str:
    """Gives every user notifications that nobody was there for, and returns the epoch."""
    with database.session() as session:
        session.run(_STORE, time.monotonic_ns(), _KNOWN + _BEHIND)
        # Relaying them to nobody is no part of this.
        session.run("truncate jasaweb_rt.outbox")
        session.run("vacuum analyze")
        # Of what was stored just now, not of what is measured.
        session.run("checkpoint")
        return str(session.run("select epoch from jasaweb_rt.epoch"))


def _resume(program: Program, many: int, epoch: str, is_logged: Callable[[], bool]) -> tuple[float, float, list[str]]:
    """Seconds from the first `connect(2)` to the last handshake and to the last frame, and what was wrong.

    `is_logged` waits until the message log has all that was sent.
    """
    warm = min(_WARM, many)
    head = requests((f"user-{number}" for number in range(warm)), query=f"?last_seq={_KNOWN + _BEHIND}&epoch={epoch}")
    behind = requests((f"user-{number}" for number in range(many)), query=f"?last_seq={_KNOWN}&epoch={epoch}")
    client = LoadClient()
    try:
        # A server that people come back to has its connections to the database.
        client.connect(program.address, head, wait=_CONNECT_SECONDS)
        in_sync(client, warm)
        client.close(warm)
        client.clear()
        own, began = own_cpu(), time.monotonic_ns()
        opened, handshakes = client.connect(program.address, behind, wait=_CONNECT_SECONDS)
        report = received(client, many * _BEHIND)
        used, used_here = (now - before for now, before in zip(own_cpu(), own, strict=True))
        # Or it would be written beside what is measured next.
        complete = is_logged()
    finally:
        client.stop()
    synced = (max((last for _, _, last in report.publications), default=began) - began) / 1e9
    doubts = [*_losses(report, opened, many), *busy_client((used - used_here) / max(synced, handshakes))]
    doubts += [] if complete else ["not all was in the message log a minute later, and known to have arrived"]
    return handshakes, synced, doubts


def _losses(report: LoadReport, opened: int, many: int) -> Iterator[str]:
    if opened < many or report.refused or report.closed:
        yield f"{opened:,} of {many:,} connected; refused: {report.refused}, closed: {report.closed}"
    frames = report.timed
    if frames != many * _BEHIND or any(received != many for _, received, _ in report.publications):
        yield f"{frames:,} of {many * _BEHIND:,} frames arrived"
    # What is not replayed has no stamp. There may be more: one who waits for long is told the unread count meanwhile.
    if (greetings := report.messages - frames) < many * FRAMES_AT_JOIN:
        yield f"{greetings:,} of {many * FRAMES_AT_JOIN:,} welcomes and `sync` frames arrived"
