"""Histories: what actors did to messages, and whether a correct broker could have answered so."""

from brokerkit_conformance.history.checker import check
from brokerkit_conformance.history.events import Drain, Event, FaultKind, FaultRecord, Found, History, Phase, Verb
from brokerkit_conformance.history.findings import Checked, Finding, Kind, Standing
from brokerkit_conformance.history.joining import join
from brokerkit_conformance.history.log import EventLog, FaultLog, Operation, Parsed, read_events, read_faults
from brokerkit_conformance.history.promises import Excuse, Promises
from brokerkit_conformance.history.tape import Tape

__all__ = [
    "Checked",
    "Drain",
    "Event",
    "EventLog",
    "Excuse",
    "FaultKind",
    "FaultLog",
    "FaultRecord",
    "Finding",
    "Found",
    "History",
    "Kind",
    "Operation",
    "Parsed",
    "Phase",
    "Promises",
    "Standing",
    "Tape",
    "Verb",
    "check",
    "join",
    "read_events",
    "read_faults",
]
