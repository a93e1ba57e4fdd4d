"""The command `brokerkit-conformance`: run, list, mutants, verify."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from brokerkit_conformance import console as output
from brokerkit_conformance import reporting, verifying, waivers
from brokerkit_conformance.catalogue import LEVELS, catalogue
from brokerkit_conformance.harness import load
from brokerkit_conformance.masking import hide_passwords
from brokerkit_conformance.model import Evidence, HarnessError
from brokerkit_conformance.reporting import views
from brokerkit_conformance.trial import Trial
from brokerkit_conformance.verdict import Verdict

__all__ = ["app", "main"]

USAGE: Final = 64
BAD_WAIVERS: Final = 14
NO_FILE: Final = 66

_CODES: Final = """

Exit codes: 0 CONFORMANT, with waivers or without; 1 NONCONFORMANT; 2 INCOMPLETE, also without a server; 3 INVALID.

Bad input: 10 the harness cannot be made; 11 its URLs or options lead to no plugin; 12 it lies; 13 UNDECLARED, the plugin
leaves questions open; 14 the waivers file does not count.

Reports: 20 edited; 21 truncated; 22 foreign; 23 of another suite, older or newer; 66 cannot be read.

64 a mistake in the command line.
"""

# the parent of BadParameter covers unknown commands and options too; typer has had it in different places
_USAGE_ERRORS: Final[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")

app = typer.Typer(add_completion=False, no_args_is_help=True, help=f"The laws of brokerkit as a suite.{_CODES}")
_out = Console()
_err = Console(stderr=True)


@app.command()
def run(  # noqa: PLR0917 - typer's parameters
    harness: Annotated[str, typer.Argument(help="module:Class, or the name of an installed harness")],
    level: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(LEVELS)}; may be repeated")] = None,
    area: Annotated[str, typer.Option(help="areas apart by commas, such as PUB,ACK; no level is claimed then")] = "",
    case: Annotated[str, typer.Option(help="laws apart by commas, such as VIS-05; no level is claimed then")] = "",
    waivers_file: Annotated[
        Path | None, typer.Option("--waivers", help="known failures: brokerkit-waivers.toml")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="folder for report.json, junit.xml, report.md, report.html")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="print the report instead of tables")] = False,  # noqa: FBT002
    allow_incomplete: Annotated[  # noqa: FBT002
        bool, typer.Option("--allow-incomplete", help="0 as exit code of INCOMPLETE; the verdict stays what it is")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="cases at once")] = 8,
) -> None:
    """Try a plugin against the laws, and say what was shown."""
    levels = _known(level or [], LEVELS, "level")
    scope = {"levels": levels, "areas": _areas(area), "cases": _known(_split(case), catalogue(), "law")}
    trial = _trial(harness, scope, waivers_file)
    try:
        _run(trial, jobs, quiet=json_)
        made = trial.report()
    finally:
        trial.close()
    if report is not None:
        path = reporting.write(made, report)
        _err.print(f"written: {path}", highlight=False, markup=False)
    if json_:
        sys.stdout.write(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    else:
        output.print_report(made, _out)
    verdict = Verdict(made["verdict"])
    raise typer.Exit(0 if allow_incomplete and verdict is Verdict.INCOMPLETE else verdict.exit_code)


@app.command("list")
def list_laws(
    area: Annotated[str, typer.Option(help="areas apart by commas")] = "",
    json_: Annotated[bool, typer.Option("--json", help="for machines")] = False,  # noqa: FBT002
) -> None:
    """Show the catalogue: every law, its level, and whether this suite has its case yet."""
    areas = _areas(area)
    laws = [law for law in catalogue() if not areas or law.area in areas]
    if json_:
        fields = ("id", "version", "level", "duty", "gate", "since", "title", "must")
        sys.stdout.write(json.dumps([{f: getattr(law, f) for f in fields} for law in laws], indent=1) + "\n")
    else:
        output.print_laws(laws, _out)
        ready = sum(law.since is not None for law in laws)
        _out.print(f"{ready} of {len(laws)} laws have their case in this suite; catalogue {catalogue().digest}")


@app.command()
def mutants(
    only: Annotated[str, typer.Option(help="run only mutants whose name contains this")] = "",
    json_: Annotated[bool, typer.Option("--json", help="for machines")] = False,  # noqa: FBT002
) -> None:
    """Try the suite itself: plant one defect at a time, and see whether the cases that name it notice. 1 if any survives."""
    from brokerkit_conformance.mutants import score  # noqa: PLC0415 - most runs need no mutants

    result = score.run(only, progress=None if json_ else _out.print)
    if json_:
        sys.stdout.write(json.dumps(result.plain(), indent=1) + "\n")
    else:
        score.show(result, _out)
    raise typer.Exit(0 if result.perfect else 1)


@app.command()
def verify(report: Annotated[Path, typer.Argument(help="a report.json")]) -> None:
    """Compute the verdict of a report again from its raw outcomes, and say which levels hold."""
    try:
        text = report.read_bytes().decode(errors="replace")
    except OSError as error:
        _fail(f"{report} cannot be read: {error.strerror}", NO_FILE)
    found = verifying.verify(text, catalogue(), today=datetime.now(UTC).date())
    for reason in found.reasons:
        _err.print(f"[red]invalid[/]: {escape(reason)}", highlight=False)
    for each in found.expired:
        _err.print(f"[yellow]expired since[/]: {escape(each)}", highlight=False)
    _out.print(f"{found.verdict}: {report}", highlight=False, markup=False)
    for name, level in found.levels.items():
        _out.print(f"  {name}: {level['verdict']}, {views.level_shown(level)}", highlight=False)
    raise typer.Exit(found.exit_code)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command, with 64 as the exit code for a mistake in its use."""
    try:
        code = app(args=list(args) if args is not None else None, standalone_mode=False)
    except _USAGE_ERRORS as error:
        error.show()
        sys.exit(USAGE)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _trial(name: str, scope: dict[str, list[str]], waivers_file: Path | None) -> Trial:
    sys.path.insert(0, "")  # module:Class is looked for here first, as with `python -m`
    try:
        waived = waivers.read(waivers_file) if waivers_file is not None else []
        return Trial(load(name), **scope, waived=waived, name=name)
    except HarnessError as error:
        _fail(hide_passwords(str(error)), error.exit_code)
    except waivers.WaiverError as error:
        _fail("the waivers do not count: " + "; ".join(error.faults), BAD_WAIVERS)


def _fail(text: str, code: int) -> NoReturn:
    _err.print(f"[red]INVALID[/]: {escape(text)}", highlight=False)
    raise typer.Exit(code) from None


def _run(trial: Trial, jobs: int, *, quiet: bool) -> None:
    # cases make handlers fail and leases end on purpose; the core would tell standard error of each
    logging.getLogger("brokerkit").addHandler(logging.NullHandler())
    if quiet:
        trial.run(jobs=jobs)
        return
    with _err.status("") as status:
        finished: list[Evidence] = []

        def done(record: Evidence) -> None:
            finished.append(record)
            status.update(f"{len(finished)} of {len(trial.runnable)}: {record.id} {record.outcome}")

        trial.run(jobs=jobs, done=done)


def _areas(text: str) -> list[str]:
    return _known(_split(text), catalogue().areas, "area")


def _split(text: str) -> list[str]:
    return [part.strip().upper() for part in text.split(",") if part.strip()]


def _known(given: Sequence[str], known: Any, what: str) -> list[str]:
    for one in given:
        if one not in known:
            listed = "see `brokerkit-conformance list`" if what == "law" else f"known: {', '.join(known)}"
            raise typer.BadParameter(f"no {what} {one!r}; {listed}")
    return list(given)
