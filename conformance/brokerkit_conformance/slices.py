"""A finding of the history checker as rows of a timeline: plain data for a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from brokerkit_conformance.history.events import Event, FaultRecord
from brokerkit_conformance.history.findings import Finding

__all__ = ["rows_of"]

_DETAILS: Final = ("attempt", "delay", "ttl", "lease", "deadline", "priority", "group")


def rows_of(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return each finding with its slice of history: seconds from its first row, who, what, and what became of it."""
    return [_slice(finding) for finding in findings]


def _slice(finding: Finding) -> dict[str, Any]:
    began = min([e.mono for e in finding.events] + [f.began for f in finding.faults], default=0.0)
    rows = [_event(event, began) for event in finding.events] + [_fault(fault, began) for fault in finding.faults]
    return {
        "kind": str(finding.kind),
        "message": finding.message,
        "queue": finding.queue,
        "text": finding.text,
        "rows": sorted(rows, key=lambda row: float(row["at"])),
    }


def _event(event: Event, began: float) -> dict[str, Any]:
    moments = {"deadline"}
    told: Mapping[str, Any] = {name: getattr(event, name) for name in _DETAILS}
    words = [
        f"{name} {value - began if name in moments else value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in told.items()
        if value
    ]
    return {
        "at": round(event.mono - began, 4),
        "actor": event.actor,
        "what": str(event.verb),
        "phase": str(event.phase),
        "detail": ", ".join(
            [*([event.delivery] if event.delivery else []), *words, *([event.error] if event.error else [])]
        ),
    }


def _fault(fault: FaultRecord, began: float) -> dict[str, Any]:
    until = "" if fault.ended is None else f"until {fault.ended - began:.4g} s; "
    return {
        "at": round(fault.began - began, 4),
        "actor": fault.target,
        "what": f"fault: {fault.kind}",
        "phase": "fault",
        "detail": until + (fault.evidence or ("proved" if fault.proved else "effect not proved")),
    }
