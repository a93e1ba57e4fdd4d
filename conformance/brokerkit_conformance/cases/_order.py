"""What came, compared with what was sent: in order where the engine keeps one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from brokerkit_conformance.bench import Bench

__all__ = ["as_sent"]


def as_sent(bench: Bench, came: Sequence[str], sent: Sequence[str]) -> bool:
    """Tell whether exactly what was sent came, each as often; and in its order, if the engine keeps that of a queue."""
    return list(came) == list(sent) if bench.capabilities.order == "queue" else Counter(came) == Counter(sent)
