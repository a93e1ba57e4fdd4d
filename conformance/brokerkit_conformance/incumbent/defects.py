"""What was known of kombu before the trial, and the law that has to show it; and what else its failures mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFECTS", "REMARKS", "Defect"]


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
        "`BRPOP` takes the message out of its list, and only a second round trip (`QoS.append`) writes it to `unacked`. In "
        "between, one socket holds the only copy. The case needs no luck: a proxy holds the reply that has the message's id "
        "in it, the consumer is killed with SIGKILL, the reply is dropped. No list, no hash and no consumer has the message "
        "afterwards. kombu 5.7 reads such a reply when a channel is closed in good order; a process that is killed closes "
        "nothing.",
    ),
    Defect(
        "L3",
        "What cannot be decoded is gone",
        "POI-01",
        "KombuRedis",
        "`_brpop_read` pops first and decodes after. Bytes that are no JSON raise out of `drain_events`, once, and are "
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
        "time was up, it removes the record of the second consumer's delivery, and nobody is told. If the second consumer "
        "then gives the message back or dies, there is nothing left to restore.",
    ),
    Defect(
        "D1",
        "No lease is ever renewed",
        "VIS-20",
        "KombuRedis",
        "kombu has no call that prolongs a claim, so whatever takes longer than `visibility_timeout`, by default one hour, "
        "runs again while it is still running, in the same process too. PRE-05 shows the same of messages that only wait in "
        "a consumer's buffer. The bridge declares that leases cannot be extended, so the laws on extending are refusals "
        "here, not failures.",
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

_AUTO: Final = (
    "kombu makes a queue on first use, and cannot say that there is none. The law lets an engine declare this; the contract "
    "of brokerkit has no word for it, so it counts as a failure here"
)
_COUNT: Final = "kombu knows whether a message was redelivered, not how often, so `max_attempts` cannot be kept"
_SAYS: Final = (
    "Celery's write looks for a success first, and tells nobody that it then wrote nothing; "
    "and look and write are two steps"
)


REMARKS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("PUB-07", "PUB-08", "PUB-14", "PUB-15", "PUB-16", "PUB-23", "PUB-24", "FAN-14", "ACK-18"),
        _AUTO,
    ),
    **dict.fromkeys(("DLQ-01", "DLQ-02", "DLQ-08", "DLQ-10"), _COUNT),
    **dict.fromkeys(("RES-13", "RES-14", "RES-15", "RES-21"), _SAYS),
    **dict.fromkeys(
        ("VIS-13", "ACK-09", "ACK-13"),
        "the case waits for the end of a lease, and this transport has leases that last as long as the connection; what "
        "fails is rather the case",
    ),
    **dict.fromkeys(
        ("VIS-11", "VIS-18"),
        "who looks for ended leases applies its own timeout, here a longer one: two consumers of one database with different "
        "timeouts get each other's",
    ),
    "PRI-04": "ended leases are looked for only when nothing else is there, so what waits goes first",
    "PRI-05": "the highest priority of a queue is no setting of kombu's",
    "ACK-17": "a close gives messages back in another order than they had",
    "EVI-03": "an entry of `unacked` without its index is never looked at again",
    "EVI-05": "the case asks for an extension, which is declared absent; what fails is rather the case",
    "EVI-07": "of a list that was removed there is no trace",
    "EVI-11": "kombu cannot tell an empty database from a new one",
    "EVI-13": "an ack of kombu's is a transaction that a full Redis refuses",
    "EVI-14": "kombu does not look at `maxmemory-policy`",
    "FAN-02": "`fanout_prefix` is a thing of fanout exchanges; topic exchanges do not know it",
    "FAN-05": "`#` is one word or more, where AMQP says any number",
    "FAN-12": "`queue_unbind` changes a copy of the bindings, and the set in Redis stays as it is",
    "FAN-15": "a message that is given back goes to every queue that is bound to its key, not to the one it came from",
    "ORD-03": "a message that comes back loses its place",
    "PRE-05": "as D1",
    "VIS-07": "as L7: a late release is obeyed, and a second copy runs",
    "VIS-10": "as the loss on SQL",
}
