"""The command `jasaweb-rt`: one module a command, and one place where errors become exit codes."""

import os
import sys
import traceback

import rich_click as click
from click.exceptions import Abort, ClickException, Exit

from jasaweb_rt.cli.bench import bench
from jasaweb_rt.cli.check import check
from jasaweb_rt.cli.common import EXIT_CODE_OF_ERRORS
from jasaweb_rt.cli.database_url import database_url
from jasaweb_rt.cli.doctor import doctor
from jasaweb_rt.cli.listen import listen
from jasaweb_rt.cli.migrate import migrate
from jasaweb_rt.cli.notify import notify
from jasaweb_rt.cli.serve import serve
from jasaweb_rt.cli.token import token
from jasaweb_rt.cli.trace import trace
from jasaweb_rt.exceptions import ConfigurationError, RealtimeError

__all__ = ["main"]


class Commands(click.RichGroup):
    """Turns errors into a sentence and an exit code: 2 for bad usage or configuration, else 1 or the command's own."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            _say(error)
            ctx.exit(2)
        except RealtimeError as error:
            _say(error)
            ctx.exit(ctx.meta.get(EXIT_CODE_OF_ERRORS, 1))
        except BrokenPipeError:
            # Whoever read our output has enough. Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except (ClickException, Exit, Abort):
            raise
        except Exception as error:
            if ctx.params["debug"]:
                traceback.print_exc()
            else:
                _say(
                    f"Unexpected {type(error).__name__}: {error}; run it again with `jasaweb-rt --debug …` for details"
                )
            ctx.exit(ctx.meta.get(EXIT_CODE_OF_ERRORS, 1))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Log more, and show where an unexpected error comes from.")
@click.version_option(package_name="jasaweb-rt")
def main(debug: bool) -> None:
    """Self-hosted real-time notifications: any committed INSERT is a push.

    Settings come from the environment and from a .env file; see the README.
    """


def _say(error: object) -> None:
    sentence = str(error).rstrip(".")
    click.echo(f"Error: {sentence}{'' if sentence.endswith('?') else '.'}", err=True)


for command in (serve, migrate, database_url, token, notify, listen, trace, check, doctor, bench):
    main.add_command(command)
