"""The command `brokerkit-conformance`: run, list, mutants, verify."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console

from brokerkit_conformance import console as output
from brokerkit_conformance import report as reports
from brokerkit_conformance.catalogue import LEVELS, catalogue
from brokerkit_conformance.harness import load
from brokerkit_conformance.model import Evidence, HarnessError
from brokerkit_conformance.trial import Trial
from brokerkit_conformance.verdict import Verdict

__all__ = ["app", "main"]

USAGE: Final = 64
"""Exit code for a mistake in the command line; 0 conformant, 1 not, 2 incomplete, 3 invalid."""

# the parent of BadParameter covers unknown commands and options too; typer has had it in different places
_USAGE_ERRORS: Final[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The laws of brokerkit as a suite.")
_out = Console()
_err = Console(stderr=True)


@app.command()
def run(  # noqa: PLR0917 - typer's parameters
    harness: Annotated[str, typer.Argument(help="module:Class, or the name of an installed harness")],
    level: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(LEVELS)}; may be repeated")] = None,
    area: Annotated[str, typer.Option(help="areas apart by commas, such as PUB,ACK; no level is claimed then")] = "",
    report: Annotated[Path | None, typer.Option(help="folder for report.json")] = None,
    json_: Annotated[bool, typer.Option("--json", help="print the report instead of tables")] = False,  # noqa: FBT002
    jobs: Annotated[int, typer.Option(min=1, help="cases at once")] = 8,
) -> None:
    """Try a plugin against the laws, and say what was shown. Exit code: 0, 1, 2, 3 as the verdict; 64 for misuse."""
    levels, areas = _known(level or [], LEVELS, "level"), _areas(area)
    sys.path.insert(0, "")  # module:Class is looked for here first, as with `python -m`
    try:
        trial = Trial(load(harness), levels=levels, areas=areas)
    except HarnessError as error:
        _err.print(f"[red]INVALID[/]: {error}", highlight=False)
        raise typer.Exit(Verdict.INVALID.exit_code) from None
    try:
        _run(trial, jobs, quiet=json_)
    finally:
        trial.close()
    made = trial.report()
    if report is not None:
        path = reports.write(made, report)
        _err.print(f"written: {path}", highlight=False)
    if json_:
        sys.stdout.write(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    else:
        output.print_report(made, _out)
    raise typer.Exit(Verdict(made["verdict"]).exit_code)


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
    """Compute the verdict of a report again from its raw outcomes. Exit code as for run."""
    try:
        content: Any = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _err.print(f"[red]INVALID[/]: {report} cannot be read: {error}", highlight=False)
        raise typer.Exit(Verdict.INVALID.exit_code) from None
    verdict, flaws = reports.verify(content, catalogue())
    for flaw in flaws:
        _err.print(f"[red]invalid[/]: {flaw}", highlight=False)
    _out.print(f"{verdict}: {report}", highlight=False)
    raise typer.Exit(verdict.exit_code)


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
    return _known([part.strip().upper() for part in text.split(",") if part.strip()], catalogue().areas, "area")


def _known(given: Sequence[str], known: Any, what: str) -> list[str]:
    for one in given:
        if one not in known:
            raise typer.BadParameter(f"no {what} {one!r}; known: {', '.join(known)}")
    return list(given)
