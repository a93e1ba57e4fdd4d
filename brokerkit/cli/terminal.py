"""What a command prints: the answer on stdout, for people or as one JSON document; everything else on stderr."""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, final

import typer

from brokerkit._secrets import masker, secrets_in
from brokerkit._text import error_text
from brokerkit.cli import exits
from brokerkit.errors import BrokerkitError, SendFailed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Debug", "Json", "Terminal", "Url", "table", "terminal"]

Url = Annotated[
    str, typer.Argument(metavar="URL", help="of the engine, such as sqlite:///orders.db", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and everything that is logged.")]

_MOST_ERRORS: Final = 5


@final
class Terminal:
    """Where a command's answer and remarks go. Nothing that it prints shows a secret of the command line.

    Attributes:
        json: whether the answer is one JSON document.
        debug: whether tracebacks are shown.
    """

    def __init__(self, *, json: bool, debug: bool, arguments: Sequence[str] = ()) -> None:
        self.json = json
        self.debug = debug
        self.answered = False
        self._mask = masker({secret for text in arguments for secret in secrets_in("", text)})

    def answer(self, document: Any, people: Callable[[], object]) -> None:
        """Print the answer: `document` as JSON, or what `people` returns, a text or a table of rich."""
        self.answered = True
        if self.json:
            text = json.dumps(document, ensure_ascii=False, indent=2, default=str)
            sys.stdout.write(self._mask(text) + "\n")
        else:
            shown = people()
            if shown is not None:
                self.show(shown)
        sys.stdout.flush()

    def show(self, shown: object) -> None:
        """Print a text as it is, or something of rich's, on stdout."""
        if not isinstance(shown, str):
            shown = self._rendered(shown)
        sys.stdout.write(self._mask(shown) + "\n")

    def remark(self, text: str) -> None:
        """Print a line on stderr."""
        sys.stderr.write(self._mask(text).replace("\n", " ") + "\n")

    def console(self, *, stderr: bool = False) -> Console:
        """Return a console of rich's. Tables keep their full width where nobody looks at them."""
        from rich.console import Console  # noqa: PLC0415 - rich is slow to import, and many runs need none

        console = Console(stderr=stderr, highlight=False)
        if not console.is_terminal:
            console.width = 1000
        return console

    def _rendered(self, shown: object) -> str:
        """Return what rich would print; it does not get stdout, as it would end the process on a broken pipe."""
        from rich.console import Console  # noqa: PLC0415 - see `console`

        real = self.console()
        inner = Console(file=io.StringIO(), force_terminal=real.is_terminal, width=real.width, highlight=False)
        with inner.capture() as capture:
            inner.print(shown, soft_wrap=True)
        return capture.get().rstrip("\n")

    def fail(self, error: BaseException) -> int:
        """Tell of an error in one sentence, and return the exit code."""
        if self.debug:
            sys.stderr.write(self._mask("".join(traceback.format_exception(error))))
        text = _sentence(error)
        self.remark(f"brokerkit: {text}")
        if self.json and not self.answered:
            told = {
                "type": type(error).__name__,
                "message": text,
                "retryable": bool(getattr(error, "retryable", False)),
            }
            self.answer({"error": told}, lambda: None)
        return exits.code_of(error)


@contextmanager
def terminal(*, json: bool, debug: bool) -> Iterator[Terminal]:
    """Give a command its terminal; errors of the body become one sentence and an exit code."""
    out = Terminal(json=json, debug=debug, arguments=sys.argv[1:])
    with _remarks(out):
        try:
            yield out
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # for `run`
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - no traceback reaches a user who did not ask
            code = out.fail(error)
            raise typer.Exit(code) from None


def table(
    columns: Iterable[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = (), title: str = ""
) -> Table:
    """Return a plain table for people.

    Args:
        columns: their headings.
        rows: their cells; texts are shown as they are, without markup.
        numbers: headings of columns that stand to the right.
        title: above it.
    """
    from rich import box  # noqa: PLC0415 - see Terminal.console
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SendFailed):
        causes = list(dict.fromkeys(str(one) for one in error.exceptions))
        more = f" … and {len(causes) - _MOST_ERRORS} other reasons" if len(causes) > _MOST_ERRORS else ""
        return f"{error.message}: {'; '.join(causes[:_MOST_ERRORS])}{more}"
    if isinstance(error, BrokerkitError):
        return "; ".join([str(error), *getattr(error, "__notes__", ())])
    return f"{error_text(error)} (a defect; --debug shows where)"


@contextmanager
def _remarks(out: Terminal) -> Iterator[None]:
    """Let warnings and what brokerkit logs be remarks, each one line, while a command runs."""
    logger, handler = logging.getLogger("brokerkit"), _Handler(out)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if out.debug else logging.WARNING)
    logger.propagate = False
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_args, **_more: out.remark(f"warning: {message}")
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.level, logger.propagate = before


class _Handler(logging.Handler):
    def __init__(self, out: Terminal) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        self._out.remark(f"{record.levelname.lower()}: {record.getMessage()}")
