"""Options of the RabbitMQ transport. Names that Celery, kombu and py-amqp have keep them, and their meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from brokerkit.errors import InvalidOption
from brokerkit.options import FanoutOptions, setting
from brokerkit.tls import TLSOptions
from brokerkit_rabbitmq.tables import encode_table

__all__ = ["RabbitMQOptions"]

_NAME: Final = re.compile(r"[!-~]{1,100}")


@dataclass(frozen=True, kw_only=True, repr=False)
class RabbitMQOptions(TLSOptions, FanoutOptions):
    """Options of the RabbitMQ transport."""

    queue_type: Literal["quorum", "classic"] = setting(
        "quorum",
        "Of the queues that are declared. quorum counts attempts and keeps what it confirmed on several nodes; classic has "
        "priorities and the shorter way, and cannot count attempts.",
    )
    consumer_timeout: float | None = setting(
        1800.0,
        "The server's setting of this name, in seconds, which AMQP cannot ask for; none if it has none. It bounds how long a "
        "delivery may be held, however often it is extended: larger than the server's, and the server takes deliveries back.",
        above=3,
    )
    heartbeat: int | None = setting(
        None,
        "Seconds between signs of life; a frozen or cut off server is noticed after two of them, a frozen consumer by the "
        "server after up to three. None for 2 s, and for consumers what goes with their visibility_timeout. Small values "
        "lose connections when a machine is busy, large ones leave the messages of a frozen consumer held.",
        min=1,
        max=3600,
    )
    connect_timeout: float = setting(
        5.0, "Seconds to reach one host and to log in; then the next is tried.", above=0, max=3600
    )
    failover_strategy: Literal["round-robin", "shuffle"] = setting(
        "round-robin",
        "Which of several hosts is tried first: round-robin, the one that answered last, then the others in their order; "
        "shuffle, any.",
    )
    login_method: Literal["PLAIN", "AMQPLAIN", "EXTERNAL"] = setting(
        "PLAIN", "How to log in: by name and password, in two forms, or EXTERNAL, by the certificate of `ssl_certfile`."
    )
    client_name: str | None = setting(
        None, "Begins the names of our connections, as the management pages show them; None for brokerkit."
    )
    client_properties: Mapping[str, Any] | None = setting(
        None, "Further facts that the server shows with our connections; in a URL as JSON."
    )
    frame_max: int = setting(
        131_072, "Bytes of the largest frame that we offer; the server may choose less.", min=4096, max=2_147_483_647
    )
    channel_max: int = setting(
        2047, "Channels of one connection that we offer; the server may choose less.", min=8, max=65_535
    )
    confirm_publish: bool = setting(
        True, "kombu's switch of publisher confirms. Here they are always on: only true is taken."
    )

    def __post_init__(self) -> None:
        TLSOptions.__post_init__(self)
        FanoutOptions.__post_init__(self)
        if not self.confirm_publish:
            raise InvalidOption(
                "option 'confirm_publish' is false; without confirms nobody knows what was stored: leave it out, and use "
                "send_many, which has them at a small price"
            )
        if self.client_name is not None and not _NAME.fullmatch(self.client_name):
            raise InvalidOption(f"option 'client_name' is {self.client_name!r}; it must be ASCII without blanks")
        try:
            encode_table(self.client_properties or {})
        except ValueError as error:
            raise InvalidOption(f"option 'client_properties' cannot be told to the server: {error}") from error
        if self.login_method == "EXTERNAL" and self.ssl_certfile is None:
            raise InvalidOption(
                "option 'login_method' is EXTERNAL, which is by our certificate; give 'ssl_certfile' and amqps://"
            )
