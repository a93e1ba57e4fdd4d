"""What was known of kombu before the trial, and the law that has to show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFECTS", "Defect"]


@dataclass(frozen=True, slots=True)
class Defect:
    """A known defect.

    Attributes:
        name: as it is called in our notes on kombu.
        title: in a few words.
        law: whose case has to fail.
        harness: on which.
        text: what happens, and where in kombu's source.
    """

    name: str
    title: str
    law: str
    harness: str
    text: str


DEFECTS: Final = (
    Defect(
        "L1",
        "A message dies with the process that popped it",
        "VIS-09",
        "KombuRedis",
        "`BRPOP` takes the message out of its list, and only a second round trip (`QoS.append`) writes it to `unacked`. "
        "In between, one socket holds the only copy. The case needs no luck: a proxy holds the reply that has the message "
        "in it, known by a header, the consumer is killed with SIGKILL, the reply is dropped. No list, no hash and no "
        "consumer has the message afterwards. kombu 5.7 reads such a reply when a channel is closed in good order; a "
        "process that is killed closes nothing.",
    ),
    Defect(
        "L3",
        "What cannot be decoded is gone",
        "POI-01",
        "KombuRedis",
        "`Channel._brpop_read` pops first and decodes after. Bytes that are no JSON raise out of `drain_events`, once, and are "
        "nowhere any more: no dead letter, no copy, and no name of the queue in the error.",
    ),
    Defect(
        "L4",
        "Bindings that are gone read as nobody listening",
        "EVI-01",
        "KombuRedis",
        "A named exchange's bindings are one Redis set. If it is evicted or deleted, `get_table` returns an empty list, the "
        "publish succeeds, and nothing is delivered. Until 5.1 kombu raised `InconsistencyError` there; 5.2 took the raise "
        "out, and a loud failure became a silent loss. Celery sends its tasks to the default exchange, which asks for no "
        "bindings: the case's send to a queue survives, its publish to a topic does not.",
    ),
    Defect(
        "L7",
        "A late ack takes away the next owner's protection",
        "VIS-06",
        "KombuRedis",
        "A redelivered message keeps the delivery tag that its publisher gave it. When the first consumer acks after its "
        "time was up, it removes the record of the second consumer's delivery, and nobody is told. The case goes on to "
        "let the second consumer give the message back: `QoS.restore_by_tag` finds no record, pushes nothing and raises nothing.",
    ),
    Defect(
        "D1",
        "No lease is ever renewed, and nobody is told",
        "VIS-20",
        "KombuRedis",
        "kombu has no call that prolongs a claim, so whatever takes longer than `visibility_timeout`, by default one hour, is "
        "restored by `QoS.restore_visible` and runs again while it is still running, in the same process too. Its documents "
        "say so, the bridge declares it, and the case allows it, if only the first handler is told; but nothing in kombu's "
        "`Message` says when its time is up, and nothing looks. The same silence is what PRE-05, of messages that wait in a "
        "consumer's buffer, and the refusals of VIS-03, 04, 05, 21 and 22 fail by.",
    ),
    Defect(
        "SQL",
        "A killed consumer's messages stay invisible for ever",
        "VIS-08",
        "KombuSQLite",
        "`_get` marks a row invisible and commits; an ack is kept in the process's memory, and no sweep exists. A consumer "
        "that is killed leaves rows that nobody sees again, and that no one can tell from acked ones, as these are not "
        "deleted either.",
    ),
)
