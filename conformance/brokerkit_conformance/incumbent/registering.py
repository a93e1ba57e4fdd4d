"""The schemes `kombu+…` and `celery+…`, known to the registry only while a harness runs."""

from __future__ import annotations

from brokerkit_conformance import registering

__all__ = ["Registration"]


class Registration(registering.Registration):
    """The incumbent as an installed distribution, for the length of a trial.

    Args:
        version: told in reports; that of kombu, as it is kombu that is tried.
    """

    def __init__(self, version: str) -> None:
        super().__init__(
            "brokerkit-incumbent",
            version,
            {
                "brokerkit.transports": {"kombu": "brokerkit_conformance.incumbent.transport:KombuTransport"},
                "brokerkit.result_backends": {"celery": "brokerkit_conformance.incumbent.results:CeleryResults"},
            },
        )
