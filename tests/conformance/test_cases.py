"""The cases of the protocol's basics. Great messages and compression take minutes: `make conformance`."""

import subprocess
import sys

import pytest

from jasaweb_rt._core import FanoutServer
from tests.support.tokens import SECRET

# Everything but 9 (great messages) and 12 and 13 (permessage-deflate).
GROUPS = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
# Of those, one of each kind: sizes, offers.
SAMPLES = ["9.1.1", "9.2.1", "9.3.1", "9.5.1", "9.8.1", "12.1.1", "12.2.4", "13.1.11", "13.2.4", "13.3.1", "13.7.6"]


def suite(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The suite in a process of its own: kosoku alters the interpreter that it runs in."""
    command = [sys.executable, "-m", "tests.conformance", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)


@pytest.mark.parametrize("cases", [GROUPS, SAMPLES], ids=["basics", "samples"])
def test_every_case_ends_as_it_should(cases: list[str]) -> None:
    finished = suite(*cases)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_a_server_that_sends_nothing_back_is_found_out() -> None:
    server = FanoutServer(token_secret=SECRET)
    server.start()
    try:
        host, port = server.address
        finished = suite("--server", f"{host}:{port}", "1.1.2")
    finally:
        server.stop(0)
    assert finished.returncode == 1
    assert "1.1.2; FAILED" in finished.stderr


def test_cases_that_do_not_exist_are_no_success() -> None:
    assert suite("99.*").returncode == 1
