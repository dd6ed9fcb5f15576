"""What the web application's event loop says of what failed on it."""

import asyncio
import errno
import os

import pytest

from jasaweb_rt import serving_http
from jasaweb_rt.sparing_log import SparingLog


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_a_system_without_descriptors_is_told_once_and_without_a_traceback(
    number: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_http, "sparing", SparingLog(serving_http.logger))
    context = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(number, os.strerror(number)),
    }
    for _ in range(5):
        serving_http.log_failure(asyncio.get_running_loop(), context)
    (record,) = caplog.records
    assert record.getMessage() == (f"The web application cannot take a request in: {os.strerror(number)}; trying again")
    assert record.exc_info is None


async def test_any_other_failure_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    context = {"message": "Task exception was never retrieved", "exception": KeyError("x")}
    serving_http.log_failure(asyncio.get_running_loop(), context)
    (record,) = caplog.records
    assert (record.name, bool(record.exc_info)) == ("asyncio", True)
