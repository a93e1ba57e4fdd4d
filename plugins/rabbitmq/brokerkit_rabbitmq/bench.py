"""What this plugin is measured against by `brokerkit bench rabbitmq`. Nothing else imports this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Final, final

from brokerkit.bench.contract import Contender, Extra, Goal
from brokerkit.bench.kombu_peer import KOMBU
from brokerkit_rabbitmq.bench_extras import EXTRAS
from brokerkit_rabbitmq.bench_rivals import UNCONFIRMED, RawAMQP, kombu, url_of

__all__ = ["RABBITMQ", "RabbitMQBenchmark"]


@final
class RabbitMQBenchmark:
    """See `brokerkit.bench.contract.Benchmark`."""

    title: str = "RabbitMQ"
    modes: Sequence[str] = ("quorum", "classic")
    driver: str = RawAMQP.name
    peer: str = KOMBU
    where: str = "against one private node on this machine, by TCP, with persistent messages"
    modules: Sequence[str] = ("kombu.connection", "amqp")
    extras: Sequence[Extra] = EXTRAS
    goals: ClassVar[Sequence[Goal]] = (
        Goal("send", None, KOMBU, "at least", 1.1),
        Goal("batches", None, KOMBU, "at least", 12),
        Goal("batches", None, UNCONFIRMED, "at least", 1),
        Goal("consume_100", None, KOMBU, "at least", 4),
        Goal("latency", "classic", KOMBU, "at most", 1.25),
        Goal("import", None, "", "at most", 0),
    )

    def url(self, folder: Path, mode: str) -> str:
        """Return brokerkit's URL."""
        return f"{url_of(folder)}?queue_type={mode}"

    def rivals(self, mode: str) -> Sequence[Contender]:
        """Return the other contenders."""
        return [RawAMQP(mode), kombu()]

    def versions(self) -> Mapping[str, str]:
        """Return what is measured."""
        return {name: version(name) for name in ("brokerkit-rabbitmq", "amqp", "kombu")}


RABBITMQ: Final = RabbitMQBenchmark()
"""What the entry point gives."""
