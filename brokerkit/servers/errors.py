"""What can go wrong with a server for tests: it is missing, it failed, or it is not ours to break.

ServerError
├── ServerMissing     there is no such server here; the text says what to type
├── ServerFailed      it ended early, did not get ready in time, or refused a command; the text shows its log
└── NotOurs           it is somebody else's (from the environment): it cannot be killed, paused or restarted
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from brokerkit.errors import BrokerkitError

__all__ = ["NotOurs", "ServerError", "ServerFailed", "ServerMissing", "required"]


class ServerError(BrokerkitError):
    """Root of the errors of `brokerkit.servers`."""


class ServerMissing(ServerError):
    """No place has this server: no environment URL, no binary, no docker daemon.

    Attributes:
        product: the name of the server, such as "redis".
        required: whether its absence has to be a failure and not a reason to leave a test out; see `required`.
    """

    def __init__(self, product: str, looked: str, remedy: str) -> None:
        super().__init__(product, looked, remedy)
        self.product = product
        self.looked = looked
        self.remedy = remedy
        self.required = required(product)

    def __str__(self) -> str:
        demand = " It is required here, by CI=true or BROKERKIT_REQUIRE." if self.required else ""
        return f"no server for {self.product}: {self.looked}. {self.remedy}.{demand}"


class ServerFailed(ServerError):
    """The server ended early, did not answer in time, or refused what it was told. The text ends with its log."""


class NotOurs(ServerError):
    """The server was named by an environment variable: whoever runs it decides about its life, not a test."""


def required(product: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a missing server has to be a failure: named in `BROKERKIT_REQUIRE`, or without that, under `CI=true`.

    `BROKERKIT_REQUIRE` is a list of products with commas between them, such as "redis,rabbitmq"; where it is set, even
    empty, it decides alone.
    """
    listed = environ.get("BROKERKIT_REQUIRE")
    if listed is None:
        return environ.get("CI", "").lower() == "true"
    return product in {word.strip() for word in listed.split(",")}
