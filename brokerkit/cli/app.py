"""The commands, put together, and the way out of the process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from brokerkit.cli import doctor, engines, exits, messages, queues, runs

__all__ = ["app", "run"]

# typer does not export it in all its versions, and click is not always there by that name
_UsageError: Final[type[BaseException]] = typer.BadParameter.__mro__[1]

_EPILOG: Final = "Exit codes: " + " · ".join(f"{code} {meaning}" for code, meaning in exits.TABLE)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="One API for message brokers and result stores: a URL picks the engine.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_letters = typer.Typer(no_args_is_help=True, help="Show dead letters, and move them back.")

app.command()(runs.demo)
app.command()(engines.plugins)
app.command()(engines.capabilities)
app.command()(doctor.doctor)
app.command()(messages.send)
app.command()(messages.receive)
app.command()(queues.depth)
app.command()(queues.purge)
app.add_typer(_letters, name="dead-letters")
app.command()(runs.bench)
_letters.command("list")(queues.list_dead_letters)
_letters.command("redrive")(queues.redrive)


def run(args: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    before = signal.signal(signal.SIGTERM, _terminated)  # so that what is held goes back at once
    try:
        code = app(args=list(args), prog_name="brokerkit", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return exits.TERMINATED
    except (typer.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except _UsageError as error:
        sys.stderr.write(f"brokerkit: {_without_urls(_message(error), args)} (see brokerkit --help)\n")
        return exits.USAGE
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if isinstance(code, int) else exits.OK


def _version(given: bool) -> None:  # noqa: FBT001 - typer's callback
    if given:
        from importlib.metadata import version  # noqa: PLC0415 - only here

        sys.stdout.write(version("brokerkit-messaging") + "\n")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, help="Print the version.", callback=_version),
    ] = False,
) -> None:
    del version


def _message(error: BaseException) -> str:
    told = error.format_message() if hasattr(error, "format_message") else str(error)
    return str(told).rstrip(".")


def _without_urls(text: str, args: Sequence[str]) -> str:
    """Take arguments that may hold a password out of a text; typer repeats what it does not understand."""
    for arg in args:
        if "://" in arg:
            text = text.replace(arg, arg.partition("://")[0] + "://…")
    return text


def _terminated(_number: int, _frame: object) -> None:
    raise SystemExit(exits.TERMINATED)
