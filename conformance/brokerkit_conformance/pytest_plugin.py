"""The pytest plugin. pytest imports it in every run of every project, so it imports nothing of the suite by itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from brokerkit_conformance.merging import Merged
    from brokerkit_conformance.pytest_suite import Desk
    from brokerkit_conformance.verdict import Judgement

_KEY = "brokerkit_evidence"
_reports: dict[str, list[dict[str, Any]]] = {}
_crashed: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("brokerkit", "brokerkit's conformance suite")
    group.addoption("--brokerkit", metavar="HARNESS", help="with --pyargs brokerkit_conformance: module:Class")
    group.addoption("--brokerkit-waivers", metavar="FILE", help="known failures, such as brokerkit-waivers.toml")
    group.addoption(
        "--brokerkit-report", metavar="DIR", help="folder for report.json, junit.xml, report.md, report.html"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test a law."""
    desk: Desk | None = getattr(metafunc.cls, "brokerkit_desk", None)
    if desk is not None and "law_id" in metafunc.fixturenames:
        metafunc.parametrize("law_id", desk.open(metafunc.config))
    elif desk is not None:
        desk.open(metafunc.config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell each desk what will be asked of it, and let its verdict come last."""
    if (desks := _desks()) and items:
        verdicts = [item for item in items if _desk_of(item) is not None and item.name == "test_verdict"]
        items[:] = [item for item in items if item not in verdicts] + verdicts
    for desk in desks:
        desk.selected = [
            item.callspec.params["law_id"] for item in items if _desk_of(item) is desk and hasattr(item, "callspec")
        ]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Under pytest-xdist: take in what a worker has found."""
    output = getattr(node, "workeroutput", None)
    if output is None:
        _crashed.append(str(node))
    for name, report in (output or {}).get(_KEY, {}).items():
        _reports.setdefault(name, []).append(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Close the desks; under pytest-xdist pass their reports on, or weigh all workers' together. Write what was asked for."""
    desks = _desks()
    found = {desk.name: desk.report() for desk in desks}
    for desk in desks:
        desk.close()
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_KEY] = found
        return
    merged = _merged()
    if any(not each.judgement.verdict.holds for each in merged.values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    folder = session.config.getoption("--brokerkit-report")
    for report in [*found.values(), *(each.report for each in merged.values())] if folder else ():
        from brokerkit_conformance import reporting  # noqa: PLC0415 - only where there is a report

        reporting.write(report, Path(folder))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say the verdict, whatever was selected."""
    seen = (getattr(report, "nodeid", "") for reports in terminalreporter.stats.values() for report in reports)
    if _crashed and not _reports and any("::test_law[" in nodeid for nodeid in seen):
        terminalreporter.section("brokerkit conformance")
        terminalreporter.line("INCOMPLETE: no worker came back with evidence", bold=True)
    for name, judgement in _judgements().items():
        terminalreporter.section(f"brokerkit conformance of {name}")
        terminalreporter.line(str(judgement.verdict), green=judgement.verdict.holds, bold=True)
        unshown = [i for i, outcome in judgement.outcomes.items() if not outcome.shown]
        if unshown:
            terminalreporter.line(f"Not shown to work: {', '.join(unshown)}")
        for flaw in judgement.flaws:
            terminalreporter.line(f"invalid: {flaw}")
        terminalreporter.line(", ".join(f"{n} {outcome}" for outcome, n in sorted(judgement.totals.items())))


def pytest_unconfigure() -> None:
    """Forget this session: pytest may be called again in one process."""
    _desks().clear()
    _reports.clear()
    _crashed.clear()


def _desks() -> list[Desk]:
    module = sys.modules.get("brokerkit_conformance.pytest_suite")
    return module.desks if module is not None else []


def _desk_of(item: pytest.Item) -> Desk | None:
    return getattr(getattr(item, "cls", None), "brokerkit_desk", None)


def _judgements() -> dict[str, Judgement]:
    own = {desk.name: desk.trial.judge() for desk in _desks() if desk.trial is not None and not desk.in_worker}
    return {name: merged.judgement for name, merged in _merged().items()} | own


def _merged() -> dict[str, Merged]:
    if not _reports:
        return {}
    from brokerkit_conformance.merging import merge  # noqa: PLC0415 - only under pytest-xdist

    return {name: merge(reports) for name, reports in _reports.items()}
