"""Counters as rates."""

import asyncio
import time
from typing import Any, cast

import pytest

from jasaweb_rt import rates
from jasaweb_rt._core import FanoutServer, Stats
from jasaweb_rt.rates import RateMeter, Rates


class Server:
    """Its counters grow by 10 with each look."""

    def __init__(self) -> None:
        self.looks = 0

    def stats(self) -> Any:
        self.looks += 1
        return counters(self.looks * 10)


def counters(value: int) -> Stats:
    return cast("Stats", Rates(*[value] * len(Rates.__struct_fields__)))


def test_before_the_first_look_nothing_is_known() -> None:
    assert RateMeter(cast("FanoutServer", Server())).rates(counters(5), time.monotonic()).deliveries == 0


async def test_rates_are_over_the_last_looks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_INTERVAL_SECONDS", 0.001)
    server = Server()
    meter = RateMeter(cast("FanoutServer", server))
    began = time.monotonic()
    task = asyncio.create_task(meter.run())
    async with asyncio.timeout(20):
        while server.looks < 25:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    oldest = (server.looks - 9) * 10
    now = time.monotonic()
    rate = meter.rates(counters(oldest + 1000), now + 100).deliveries
    assert 1000 / (100 + now - began) - 0.001 <= rate <= 10


async def test_right_after_the_start_a_second_is_assumed() -> None:
    meter = RateMeter(cast("FanoutServer", Server()))
    now = time.monotonic()
    task = asyncio.create_task(meter.run())
    await asyncio.sleep(0)
    assert meter.rates(counters(17), now).deliveries == 7
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
