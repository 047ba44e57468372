"""The top of `myc`: options that all commands share, and what an error looks like.

Every error ends here: its message and hint go to stderr, its kind decides the exit code (base/errors.py), and with
`--json` its document goes to stdout, so that a program always reads exactly one.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException
from typer.main import get_command

from mycelium.base.errors import Problem, Unavailable
from mycelium.cli.coerce import HELP, lighten
from mycelium.cli.flags import takes_settings
from mycelium.cli.lazy import Lazy
from mycelium.client import settings, show

BROKEN = 70  # EX_SOFTWARE of sysexits.h: the fault is in myc itself
EPILOG = "`myc COMMAND --help` says more. A first job: `myc up --detach`, then `myc run -- echo hello`."


def build() -> Any:
    """The whole command tree; nothing behind a command is imported yet."""
    app = typer.Typer(cls=Lazy, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
    app.callback(epilog=EPILOG, context_settings={"help_option_names": HELP})(shared)
    return lighten(get_command(app))


def _print_version(on: bool) -> None:
    if on:
        from mycelium.base.version import __version__

        print(f"myc {__version__}")
        raise typer.Exit


@takes_settings("")
def shared(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Mycelium: one computer out of many machines.

    Starts a site, runs jobs on its nodes, and says why what happens happens.
    """


def main() -> None:
    """What the console script `myc` calls."""
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command line; the exit code. Errors: none, all of them are printed."""
    try:
        settings.told()
        code = build().main(args, prog_name="myc", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except Problem as problem:
        show.problem(problem)
        return problem.exit
    except TyperException as wrong:
        show.usage(wrong)
        return wrong.exit_code
    except (KeyboardInterrupt, Abort):
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the last flush must not fail a second time
        return 141  # as a shell reports a program that SIGPIPE ended
    except OSError as error:
        problem = Unavailable(f"{error.strerror or error}".lower() + (f": {error.filename}" if error.filename else ""))
        show.problem(problem)
        return problem.exit
    except Exception as error:  # the top of the process
        if _wants_traceback():
            raise
        show.line(f"myc: this is a fault in myc: {type(error).__name__}: {error}")
        show.line("  hint: MYC_TRACEBACK=1 shows where; please report it")
        return BROKEN


def _wants_traceback() -> bool:
    try:
        return bool(settings.get("traceback"))
    except Problem:  # the fault is what has to be said, and not how it should have been shown
        return False


if __name__ == "__main__":
    main()
