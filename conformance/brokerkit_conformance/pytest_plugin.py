"""The pytest plugin. pytest imports it in every run of every project, so it imports nothing of the suite by itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from brokerkit_conformance.pytest_suite import Desk
    from brokerkit_conformance.verdict import Judgement

_KEY = "brokerkit_evidence"
_merged: dict[str, dict[str, Any]] = {}
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
    """Under pytest-xdist: put together what a worker has found."""
    output = getattr(node, "workeroutput", None)
    if output is None:
        _crashed.append(str(node))
    for name, found in (output or {}).get(_KEY, {}).items():
        merged = _merged.setdefault(name, found | {"evidence": []})
        merged["evidence"] += found["evidence"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Close the desks; under pytest-xdist pass their evidence on, or weigh it."""
    desks = _desks()
    folder = session.config.getoption("--brokerkit-report")
    for desk in desks:
        desk.close()
        if folder and not desk.in_worker:
            desk.write_report(Path(folder))
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_KEY] = {desk.name: desk.evidence() for desk in desks}
    elif any(not judgement.verdict.holds for judgement in _judgements(merged_only=True).values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say the verdict, whatever was selected."""
    seen = (getattr(report, "nodeid", "") for reports in terminalreporter.stats.values() for report in reports)
    if _crashed and not _merged and any("::test_law[" in nodeid for nodeid in seen):
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
    _merged.clear()
    _crashed.clear()


def _desks() -> list[Desk]:
    module = sys.modules.get("brokerkit_conformance.pytest_suite")
    return module.desks if module is not None else []


def _desk_of(item: pytest.Item) -> Desk | None:
    return getattr(getattr(item, "cls", None), "brokerkit_desk", None)


def _judgements(*, merged_only: bool = False) -> dict[str, Judgement]:
    found: dict[str, Judgement] = {}
    if _merged:
        from brokerkit_conformance.merging import judge_merged  # noqa: PLC0415 - only under pytest-xdist

        found = {name: judge_merged(plain) for name, plain in _merged.items()}
    if not merged_only:
        found |= {desk.name: desk.trial.judge() for desk in _desks() if desk.trial is not None and not desk.in_worker}
    return found
