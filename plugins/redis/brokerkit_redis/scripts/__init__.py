"""The scripts that run in the server: each is one atomic step. `queue.lua` stands before those that work on queues."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from brokerkit_redis.client import Script

__all__ = [
    "ACK",
    "BOUND",
    "CLAIM",
    "DECLARE",
    "EXTEND",
    "MANAGE",
    "PUBLISH",
    "PUT",
    "RELEASE",
    "SEND",
    "STORE",
    "TOPIC",
]


def _script(*names: str) -> Script:
    texts = [files(__name__).joinpath(f"{name}.lua").read_text("utf-8") for name in names]
    return Script(names[-1], "\n".join(texts))


DECLARE: Final = _script("queue", "repair", "declare")
SEND: Final = _script("send_common", "queue", "repair", "send")
STORE: Final = _script("queue", "store")
CLAIM: Final = _script("claim_common", "queue", "repair", "claim")
ACK: Final = _script("queue", "ack")
EXTEND: Final = _script("queue", "extend")
RELEASE: Final = _script("queue", "release")
MANAGE: Final = _script("queue", "manage")
BOUND: Final = _script("queue", "bound")
PUBLISH: Final = _script("queue", "publish")
TOPIC: Final = _script("topic")
PUT: Final = _script("put")
