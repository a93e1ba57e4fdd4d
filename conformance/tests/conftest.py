"""What tests of histories share: a tape to write one on, and what the checker says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from brokerkit_conformance.history import Checked, Kind, Promises, Standing, Tape, check

LEASE = Promises(lease=2.0)


@pytest.fixture
def tape() -> Tape:
    return Tape()


@pytest.fixture
def judge() -> Callable[..., Checked]:
    """Checks a tape's history against promises: by default that of leases alone."""

    def judge(tape: Tape, promises: Promises = LEASE, **drain: Any) -> Checked:
        return check(tape.history(**drain), promises)

    return judge


@pytest.fixture
def kinds() -> Callable[[Checked], list[Kind]]:
    return lambda checked: [finding.kind for finding in checked.findings]


@pytest.fixture
def clean() -> Callable[[Checked], bool]:
    """Tells whether nothing was found, and fails with what was."""

    def clean(checked: Checked) -> bool:
        assert checked.findings == (), "\n".join(map(str, checked.findings))
        return checked.standing is Standing.CLEAN

    return clean


@pytest.fixture
def twice() -> Callable[..., str]:
    """Hands m to a at 1, and to b at `second`, who acks it; returns a's delivery."""

    def twice(tape: Tape, second: float, **fields: Any) -> str:
        tape.send("m", 0)
        first = tape.receive("a", "m", 1, **fields)
        tape.ack(tape.receive("b", "m", second), second + 0.5)
        return first

    return twice
