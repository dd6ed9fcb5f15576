"""`jasaweb-rt bench` against a core of its own, and against a whole server."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support.program import Program, environment, names, python, run

BOTH_CLIENTS = ("--user", "client", "--user", "other")


async def test_connections_are_opened_step_by_step_and_kept(tmp_path: Path) -> None:
    code, output = await run(
        tmp_path, environment(), "bench", "connections", "-n", "20", "--hold", "0.1", "--chart", "ramp.svg"
    )
    assert code == 0, output
    steps = [line.split()[:3] for line in output.splitlines()[1:11]]
    assert steps == [[str(total), "2", "2"] for total in range(2, 21, 2)]
    assert "20 open after 0.1 seconds more." in output
    ET.parse(tmp_path / "ramp.svg")  # noqa: S314  # it is ours
    assert names(tmp_path) == ["ramp.svg"]


async def test_storms(tmp_path: Path) -> None:
    code, output = await run(
        tmp_path, environment(), "bench", "storm", "-n", "30", "--rounds", "2", "--chart", "storms.svg"
    )
    assert code == 0, output
    assert [line.split()[:3] for line in output.splitlines()[1:3]] == [["1", "30", "30"], ["2", "30", "30"]]
    ET.parse(tmp_path / "storms.svg")  # noqa: S314  # it is ours


async def test_fan_out_tells_deliveries_and_delays(tmp_path: Path) -> None:
    arguments = ("bench", "fan-out", "-n", "10", "--rate", "20", "--seconds", "0.5", "--size", "4096", "--workers", "1")
    code, output = await run(tmp_path, environment(), *arguments, "--chart", "delays.svg")
    assert code == 0, output
    assert "10 messages in " in output
    assert "100 of 100 deliveries" in output
    assert re.search(r"99 % within \d+\.\d\d ms", output)
    ET.parse(tmp_path / "delays.svg")  # noqa: S314  # it is ours


async def test_a_whole_server_is_loaded_by_its_broadcast_route(
    server: Program, tmp_path: Path, database_url: str
) -> None:
    url = (await server.url()).replace("http", "ws") + "/ws"
    arguments = ("bench", "fan-out", "--url", url, "-n", "6", "--rate", "10", "--seconds", "0.5")
    code, output = await run(tmp_path, environment(), *arguments, *BOTH_CLIENTS, "--admin", "admin")
    assert code == 0, output
    assert "30 of 30 deliveries" in output
    code, output = await run(tmp_path, environment(), *arguments, *BOTH_CLIENTS, "--admin", "client")
    assert code == 1
    assert "The server refused a broadcast with 403" in output
    code, output = await run(tmp_path, environment(), *arguments, *BOTH_CLIENTS)
    assert code == 1
    assert 'Nothing came that has a member "stamp"' in output


async def test_users_who_do_not_exist_are_explained(server: Program, tmp_path: Path) -> None:
    url = (await server.url()).replace("http", "ws") + "/ws"
    code, output = await run(tmp_path, environment(), "bench", "connections", "--url", url, "-n", "3", "--hold", "20")
    assert code == 1
    assert "3 connections were closed with 1008: the server does not know the user" in output


async def test_a_server_that_is_not_there_is_explained(tmp_path: Path) -> None:
    code, output = await run(
        tmp_path, environment(), "bench", "storm", "--url", "ws://127.0.0.1:1/ws", "-n", "2", "--rounds", "1"
    )
    assert code == 1
    assert "2 handshakes had no answer: nobody listens there" in output


async def test_too_few_open_files_are_named(tmp_path: Path) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200));"
        "from jasaweb_rt.cli import main; main(sys.argv[1:])"
    )
    async with python(tmp_path, environment(), "-c", program, "bench", "storm", "-n", "150") as running:
        assert await running.end() == 2
        assert "150 connections need 214 open files, and `ulimit -n` is 200 at most" in running.output
        assert "up to 136 connections" in running.output


async def test_a_low_limit_of_open_files_is_raised_on_both_sides(tmp_path: Path) -> None:
    program = (
        "import resource, sys; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard)); from jasaweb_rt.cli import main; main(sys.argv[1:])"
    )
    arguments = ("bench", "storm", "-n", "250", "--rounds", "1")
    async with python(tmp_path, environment(), "-c", program, *arguments) as running:
        assert await running.end() == 0, running.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "none"],
        ["bench", "storm", "-n", "0"],
        ["bench", "storm", "--user", "client"],
        ["bench", "storm", "--token", "t"],
        ["bench", "storm", "--url", "ws://127.0.0.1:1/ws", "--token", "t", "--user", "u"],
        ["bench", "storm", "--url", "ws://127.0.0.1:1/ws", "--workers", "2"],
        ["bench", "storm", "--url", "http://127.0.0.1:1/ws"],
        ["bench", "storm", "--url", "wss://127.0.0.1:1/ws"],
        ["bench", "storm", "--url", "ws://127.0.0.1:port/ws"],
        ["bench", "storm", "--chart", "chart.png"],
        ["bench", "fan-out", "--admin", "admin"],
        ["bench", "fan-out", "--rate", "0"],
        ["bench", "fan-out", "--size", "10"],
    ],
)
async def test_bad_usage_exits_with_2(tmp_path: Path, arguments: list[str]) -> None:
    code, output = await run(tmp_path, environment(), *arguments)
    assert code == 2, output
    assert "Traceback" not in output
