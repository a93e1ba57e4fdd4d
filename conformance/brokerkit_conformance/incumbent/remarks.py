"""What failures mean, and whose they are: read one by one in kombu's and Celery's source, not guessed from the law."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from brokerkit_conformance.incumbent.defects import DEFECTS

__all__ = ["Remark", "Whose", "remark_on"]


class Whose(StrEnum):
    """What a failure says something about."""

    KOMBU = "kombu"
    """kombu or Celery loses, repeats or misreports something, or is silent about it."""

    CONTRACT = "contract"
    """brokerkit asks for what kombu promises nobody; kombu does as its documents say."""

    BRIDGE = "bridge"
    """The mapping or the case does not fit; nothing is said about kombu."""

    UNREAD = "unread"
    """Nobody has looked into it yet."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What one failure means.

    Attributes:
        whose: failure it is.
        text: the reason.
    """

    whose: Whose
    text: str


def remark_on(harness: str, law: str) -> Remark:
    """Return what is known of the failure of a law on a harness."""
    if any((defect.harness, defect.law) == (harness, law) for defect in DEFECTS):
        return Remark(Whose.KOMBU, "one of the six, see above")
    return _REMARKS.get((harness, law)) or _REMARKS.get(("", law)) or Remark(Whose.UNREAD, "")


_REMARKS: Final[dict[tuple[str, str], Remark]] = {}


def _note(whose: Whose, text: str, laws: Iterable[str], harness: str = "") -> None:
    for law in laws:
        _REMARKS[harness, law] = Remark(whose, text)


def _laws(text: str) -> list[str]:
    """Read "VIS-03 04, PRE-05"."""
    found: list[str] = []
    for part in text.replace(",", " ").split():
        found.append(part if "-" in part else f"{found[-1].partition('-')[0]}-{part}")
    return found


_note(
    Whose.CONTRACT,
    "kombu makes a queue on first use and cannot say that there is none. The law lets an engine declare this; the contract "
    "of brokerkit has no word for it",
    _laws("PUB-07 08 14 15 16 23 24, FAN-14, ACK-18, OBS-01"),
)
_note(
    Whose.CONTRACT,
    "as PUB-07: the dead queue is made by the first copy, so that dead-lettering is two calls, where the case stops a "
    "process before each of three",
    ["DLQ-04"],
)
_note(Whose.CONTRACT, "the highest priority of a queue is no setting of kombu's on Redis", ["PRI-05"])
_note(Whose.CONTRACT, "kombu does not look at `maxmemory-policy`; its documents ask the reader to", ["EVI-14"])
_note(
    Whose.CONTRACT,
    "`QoS.restore_visible` takes the timeout of the consumer that looks, here a longer one; kombu wants one "
    "`visibility_timeout` for all who share a database",
    _laws("VIS-11 18"),
    "KombuRedis",
)
_note(
    Whose.KOMBU,
    "as D1: where no lease can be prolonged, its holder is to be told of its end; kombu takes the late ack without a word",
    _laws("VIS-03 04 05 21 22, PRE-05"),
    "KombuRedis",
)
_note(Whose.KOMBU, "as L7: `basic_reject` by a former owner restores the new owner's message", ["VIS-07"], "KombuRedis")
_note(
    Whose.KOMBU,
    "restored messages are looked for only when a poll brings nothing (`MultiChannelPoller.get`), so what waits goes first",
    ["PRI-04"],
)
_note(
    Whose.KOMBU,
    "`restore_visible` reads the index alone: an entry of `unacked` without one is never looked at again",
    ["EVI-03"],
)
_note(Whose.KOMBU, "`basic_ack` does not look whether there was something to ack", ["EVI-05"], "KombuRedis")
_note(Whose.KOMBU, "of a list that was removed there is no trace, and nothing is told", ["EVI-07"])
_note(Whose.KOMBU, "kombu cannot tell an emptied database from a new one: what is lost is lost in silence", ["EVI-11"])
_note(
    Whose.KOMBU,
    "an ack is a MULTI (`_remove_from_indices`), whose commands a full Redis refuses to queue; a bare ZREM or HDEL it takes",
    ["EVI-13"],
)
_note(
    Whose.BRIDGE,
    "`fanout_prefix` is a thing of fanout exchanges; the bridge uses topic exchanges, which do not know it",
    ["FAN-02"],
)
_note(
    Whose.CONTRACT,
    "in `TopicExchange.key_to_pattern` a `*` needs a character and the dot before a `#` has to be there, where AMQP, and "
    "brokerkit, let both be empty",
    ["FAN-05"],
)
_note(
    Whose.KOMBU,
    "`queue_unbind` removes the row from the list that `get_table` made for it; the set in Redis stays as it is",
    _laws("FAN-12, PUB-19"),
    "KombuRedis",
)
_note(
    Whose.KOMBU,
    "`queue_delete` leaves its rows in the exchange's table, and the next publish makes the queue anew",
    ["FAN-12"],
    "KombuMemory",
)
_note(
    Whose.KOMBU,
    "a requeue publishes to the exchange again: every queue bound to the key gets a copy; and on Redis the copies have one "
    "delivery tag, so that the ack of one takes away the record of the other",
    ["FAN-15"],
)
_note(
    Whose.KOMBU,
    "`BaseKeyValueStoreBackend._store_result` reads, and writes if there was no SUCCESS: two steps, between which others "
    "write; when it then writes nothing it says nothing, and a FAILURE protects itself not at all",
    _laws("RES-12 13 14 15 21"),
)
_note(
    Whose.KOMBU,
    "as SQL: rows that a killed process had are never seen again",
    _laws("VIS-10, ACK-10, CON-03, FLT-22"),
    "KombuSQLite",
)
_note(
    Whose.KOMBU,
    "`virtual.QoS` has a hook for the interpreter's end that restores what was not acked, by the session that a thread of "
    "the consumer may be using at that moment",
    ["THR-11"],
    "KombuSQLite",
)
_note(
    Whose.KOMBU,
    "`memory.Channel.do_restore` is false: what a channel had when it was closed is thrown away. All these laws ask first "
    "whether a closed receiver's message comes back, so one fact counts many times",
    _laws("ACK-09 13, VIS-01 02 06 07 11 13 14 15 16 18 19 20 23, DLQ-07, CLK-01 02 03"),
    "KombuMemory",
)
_note(Whose.KOMBU, "as L3: what cannot be decoded is gone", _laws("POI-06 10"), "KombuRedis")
_note(
    Whose.KOMBU,
    "as L1: a message whose `BRPOP` is cut off between the server and the client is nowhere any more. Where none is lost, "
    "files stay open: closing a connection leaves its epoll (`MultiChannelPoller.poller`) to the garbage collector",
    _laws("FLT-12, CLN-05"),
    "KombuRedis",
)
_note(
    Whose.KOMBU,
    "as D1: no lease is renewed, so what somebody holds comes to others",
    _laws("FLT-10, CLK-01"),
    "KombuRedis",
)
_note(Whose.KOMBU, "as L4: a binding that is gone reads as nobody listening, for ever", ["EVI-10"], "KombuRedis")
_note(
    Whose.CONTRACT,
    "kombu's and Celery's calls take no deadline of their own: what ends them is the timeout of the socket, here 5 s",
    _laws("FLT-06 07, CLN-07, RES-23"),
)
_note(
    Whose.BRIDGE,
    "kombu asks that each process makes connections of its own, which Celery's worker sees to; the bridge does not look "
    "for forks",
    _laws("THR-03 04"),
)
_note(
    Whose.BRIDGE,
    "kombu separates its hosts by semicolons, and goes to the next one when it connects again by itself; the bridge hands on "
    "the URL as it is, and connects once",
    ["FLT-14"],
    "KombuRedis",
)
