"""`jasaweb-rt serve`."""

import ipaddress
import os
import sys
from pathlib import Path

import rich_click as click

from jasaweb_rt import demo
from jasaweb_rt.cli.common import log_to_stderr
from jasaweb_rt.config import ROLES, Settings, load_keys, load_settings
from jasaweb_rt.exceptions import ConfigurationError

__all__ = ["serve"]


@click.command("serve")
@click.option("--demo", "with_demo", is_flag=True, help="Insert people and projects to play with; loopback only.")
@click.option(
    "--role", type=click.Choice(ROLES), help="Run this part of a server instead of JASAWEB_RT_ROLE; all: one process."
)
@click.option("--host", help="Listen here instead of JASAWEB_RT_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen here instead of JASAWEB_RT_PORT; 0: a free one.")
@click.option("--take-over", is_flag=True, help="Share the port with the server before, which you stop next.")
@click.option("--access-log", is_flag=True, help="Log a line for each request.")
@click.pass_context
def serve(
    context: click.Context,
    with_demo: bool,
    role: str | None,
    host: str | None,
    port: int | None,
    take_over: bool,
    access_log: bool,
) -> None:
    """Runs web application and WebSocket front door on one port, or by --role one of the two.

    Without DATABASE_URL it brings its own PostgreSQL, with its data in .jasaweb/.
    """
    log_to_stderr(context)
    # Over the environment, so that the same rules hold for both.
    given = {"JASAWEB_RT_ROLE": role, "JASAWEB_RT_HOST": host, "JASAWEB_RT_PORT": None if port is None else str(port)}
    settings = load_settings({**os.environ, **{name: value for name, value in given.items() if value is not None}})
    if with_demo and settings.role != "all":
        raise ConfigurationError(
            f"--demo is the whole server in one process, and not its role {settings.role!r}; leave one of the two out"
        )
    if with_demo and not _is_loopback(settings.host):
        raise ConfigurationError(
            f"--demo has well-known passwords and listens on loopback only, not on {settings.host}; leave --host out"
        )
    if take_over:
        _check_take_over(settings)
    # Here and not above: the other commands need no web framework, and start in half the time without.
    from jasaweb_rt.serving import Server

    Server(
        settings,
        with_demo=with_demo,
        take_over=take_over,
        access_log=access_log,
        on_ready=_invite if with_demo else lambda _: None,
        load_keys=load_keys,
    ).run()


def _check_take_over(settings: Settings) -> None:
    if settings.role == "app":
        raise ConfigurationError(
            "--take-over is about the public port, and an app takes over from the one before by itself; leave it out"
        )
    if not sys.platform.startswith("linux"):
        raise ConfigurationError("--take-over works on Linux only; stop the server before, and then start this one")
    if settings.port == 0:
        raise ConfigurationError("--take-over needs the port of the server before; set JASAWEB_RT_PORT, or --port")
    if settings.database_url is None:
        raise ConfigurationError(
            "--take-over needs DATABASE_URL: the embedded PostgreSQL ends with the server before, which brought it"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _invite(url: str) -> None:
    client = demo.EMAILS[1]
    click.echo(f"""
  JasaWeb demo on {url}

  Log in as {", ".join(demo.EMAILS)}; password {demo.PASSWORD}
  Then, as {client} in the browser, try this in another terminal:

    {_program()} notify demo-client --type user_message --title Hello --message "Straight from a commit"
""")


def _program() -> str:
    """How this program was called, for a shell in this folder."""
    path = Path(sys.argv[0])
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
