"""The laws of brokerkit as a suite: proves what a transport or a result backend promises."""

from __future__ import annotations

from typing import Any

from brokerkit_conformance.faults import Proxy
from brokerkit_conformance.harness import Admin, FullServer, Harness, SecureServer, ServerControl
from brokerkit_conformance.model import NotRun
from brokerkit_conformance.storage import Role, StorageMap, key

__all__ = [
    "Admin",
    "FullServer",
    "Harness",
    "NotRun",
    "Proxy",
    "Role",
    "SecureServer",
    "ServerControl",
    "StorageMap",
    "key",
    "suite",
]


def __getattr__(name: str) -> Any:
    if name == "suite":  # it needs pytest, which the command does not
        from brokerkit_conformance.pytest_suite import suite  # noqa: PLC0415

        return suite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
