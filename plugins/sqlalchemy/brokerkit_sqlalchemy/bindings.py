"""The bindings of a queue, which it has written down once more, so that the loss of one is seen and made good.

A binding is a row of its own, by which publishers find the queue. If somebody removes that row, publishes leave the queue
out, and succeed. So the queue's own row has the list of its bindings, and whoever receives compares the two at times. A
binding that stands in the list twice was found gone, and bound again, by somebody who could not tell the receiver.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from brokerkit_sqlalchemy.client import Cursor
from brokerkit_sqlalchemy.statements import Statements

__all__ = ["Bound", "bind", "have_gone", "restore", "unbind"]

_FIELDS: Final = 5


class Bound(NamedTuple):
    """One binding, as the queue has it."""

    kind: str
    scope: str
    topic: str
    patterns: int
    pattern: str


def bind(cursor: Cursor, sql: Statements, queue_id: int, vhost: str, binding: Bound) -> None:
    """Bind a queue, and write it down with the queue."""
    inserted = _insert(cursor, sql, queue_id, vhost, binding)
    known, _ = _read(cursor, sql, queue_id)
    if inserted or binding not in known:
        _note(cursor, sql, queue_id, [*known, binding])


def unbind(cursor: Cursor, sql: Statements, queue_id: int, binding: Bound) -> None:
    """Undo one `bind`."""
    cursor.execute(sql.unbind, (queue_id, binding.kind, binding.scope, binding.topic, binding.pattern))
    known, _ = _read(cursor, sql, queue_id)
    _note(cursor, sql, queue_id, [each for each in known if each._replace(patterns=binding.patterns) != binding])


def have_gone(cursor: Cursor, sql: Statements, queue_id: int) -> bool:
    """Tell whether a queue has fewer bindings than were written down with it."""
    known, there = _read(cursor, sql, queue_id)
    return there < len(known)


def restore(cursor: Cursor, sql: Statements, queue_id: int, vhost: str) -> list[Bound]:
    """Bind a queue anew where a binding of it is gone, and return these bindings, each once."""
    known, _ = _read(cursor, sql, queue_id)
    once = dict.fromkeys(known)
    gone = [each for each in once if _insert(cursor, sql, queue_id, vhost, each) or known.count(each) > 1]
    _note(cursor, sql, queue_id, [*once])
    return gone


def _insert(cursor: Cursor, sql: Statements, queue_id: int, vhost: str, binding: Bound) -> bool:
    return cursor.execute(sql.bind, (queue_id, vhost, *binding)).rowcount > 0


def _note(cursor: Cursor, sql: Statements, queue_id: int, bound: list[Bound]) -> None:
    cursor.execute(sql.note_bound, (json.dumps(bound) if bound else None, queue_id))


def _read(cursor: Cursor, sql: Statements, queue_id: int) -> tuple[list[Bound], int]:
    """Return what was written down, as far as it can be read, and how many bindings there are."""
    row = cursor.execute(sql.find_bound, (queue_id,)).fetchone()
    if row is None or row[0] is None:
        return [], row[1] if row else 0
    try:
        listed = json.loads(row[0])
    except (ValueError, RecursionError):
        listed = []
    listed = listed if isinstance(listed, list) else []
    return [Bound(*each) for each in listed if _is_whole(each)], row[1]


def _is_whole(each: object) -> bool:
    if not isinstance(each, list) or len(each) != _FIELDS:
        return False
    kind, scope, topic, patterns, pattern = each
    return isinstance(patterns, int) and all(isinstance(text, str) for text in (kind, scope, topic, pattern))
