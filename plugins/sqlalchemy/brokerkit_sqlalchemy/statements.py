"""Every SQL text, by dialect: fixed, so that the driver keeps them prepared. Pure: nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass, fields
from string import Template
from typing import Final

__all__ = ["DELAYED", "LEASED", "READY", "SQLITE", "Statements", "with_prefix"]

READY: Final = 0
LEASED: Final = 1
DELAYED: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """The SQL of one dialect, each with its parameters and → its columns. `@` stands for the table prefix."""

    # -- queues
    find_queue: str
    "vhost, name, now → id, expires, message_ttl, max_length, max_priority"
    add_queue: str
    "vhost, name, expires, message_ttl, max_length, max_priority, expires_at"
    use_queue: str
    "now, id"
    drop_queue: str
    "vhost, name"
    drop_unused_queues: str
    "now"
    drop_bindings: str
    dropped_queues: str
    "→ id"
    delete_messages: str
    "queue_id, limit"
    delete_queue: str
    "id"
    # -- sending
    send_one: str
    "id, state, priority, due, now, ttl, headers, body, vhost, name, now, priority"
    insert: str
    "queue_id, id, state, priority, due, expires_at, headers, body"
    count_messages: str
    "queue_id → count"
    find_message: str
    "queue_id, id → 1"
    drop_oldest: str
    "queue_id, limit"
    count_dropped: str
    "dropped, queue_id"
    # -- looking
    depth: str
    "queue_id, now, queue_id → state and count, what is due as ready"
    purge_ready: str
    "queue_id, limit"
    purge_delayed: str
    "queue_id, limit"
    # -- topics
    bind: str
    "queue_id, vhost, kind, scope, topic, patterns, pattern"
    unbind: str
    "queue_id, kind, scope, topic, pattern"
    find_bound: str
    "queue_id → bound, count of its bindings"
    note_bound: str
    "bound, queue_id"
    disagreeing: str
    "topic, vhost, the two other kinds, now, topic, kind, scope, not patterns, now → name, vhost, kind, scope, patterns"
    drop_orphans: str
    "kind, scope, topic"
    hearing: str
    "kind, scope, topic, now → id, name, message_ttl, max_length, pattern"
    # -- claiming and settling
    probe: str
    "vhost, now, names… → name, id, expires, expires_at, dropped, ready, due; `names` is filled by `probe_for`"
    ripen: str
    "queue_id, now, limit"
    claim: str
    "queue_id, limit → seq, id, body, headers, priority, attempt, claim, expires_at"
    lease: str
    "due, seq"
    reset_dropped: str
    "queue_id"
    ack: str
    "seq, claim, id"
    extend: str
    "due, seq, claim, id"
    release: str
    "state, due, attempts given back, seq, claim, id"
    # -- results
    put: str
    "vhost, key, value, final, expires_at, now"
    put_if_absent: str
    "vhost, key, value, final, expires_at, now"
    get: str
    "vhost, keys… → key, value, final, expires_at; `keys` is filled by `get_for`"
    delete: str
    "vhost, key"
    forget_expired: str
    "remembered until, limit"
    # -- ourselves
    read_version: str
    "→ value"
    write_version: str
    "value"
    read_clock: str
    "→ value"
    write_clock: str
    "value, the value to replace"


# what several statements share; they stand in the texts as $name
_PARTS: Final = {
    "ready": str(READY),
    "leased": str(LEASED),
    "delayed": str(DELAYED),
    "live": "(q.expires_at IS NULL OR q.expires_at > ?)",
    "insert": "INSERT INTO @messages (claim, queue_id, id, state, priority, due, expires_at, headers, body)",
    # four bytes from 2^30 up, so that a claim does not change the size of the row
    "first_claim": "(random() & 0x3fffffff) | 0x40000000",
    # the first copy still waits: this one is a repetition after an answer that never came
    "once": "ON CONFLICT (queue_id, id) DO NOTHING",
    "binding": "q.name, q.vhost, b.kind, b.scope, b.patterns",
    "bound": "FROM @bindings AS b JOIN @queues AS q ON q.id = b.queue_id",
    "put": "INSERT INTO @results (vhost, key, value, final, expires_at) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (vhost, key) DO UPDATE "
    "SET value = excluded.value, final = excluded.final, expires_at = excluded.expires_at",
}

SQLITE: Final = Statements(
    find_queue="SELECT q.id, q.expires, q.message_ttl, q.max_length, q.max_priority FROM @queues AS q "
    "WHERE q.vhost = ? AND q.name = ? AND $live",
    add_queue="INSERT INTO @queues (vhost, name, expires, message_ttl, max_length, max_priority, expires_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)",
    use_queue="UPDATE @queues SET expires_at = ? + expires WHERE id = ?",
    drop_queue="UPDATE @queues SET name = NULL WHERE vhost = ? AND name = ?",
    drop_unused_queues="UPDATE @queues SET name = NULL WHERE expires_at <= ? AND name IS NOT NULL",
    drop_bindings="DELETE FROM @bindings WHERE queue_id IN (SELECT id FROM @queues WHERE name IS NULL)",
    dropped_queues="SELECT id FROM @queues WHERE name IS NULL",
    delete_messages="DELETE FROM @messages WHERE seq IN (SELECT seq FROM @messages WHERE queue_id = ? LIMIT ?)",
    delete_queue="DELETE FROM @queues WHERE id = ?",
    send_one="$insert SELECT $first_claim, q.id, ?, ?, ?, ?, ? + coalesce(?, q.message_ttl), ?, ? FROM @queues AS q "
    "WHERE q.vhost = ? AND q.name = ? AND $live AND q.max_length IS NULL AND q.max_priority >= ? $once",
    insert="$insert VALUES ($first_claim, ?, ?, ?, ?, ?, ?, ?, ?) $once",
    count_messages="SELECT count(*) FROM @messages WHERE queue_id = ?",
    find_message="SELECT 1 FROM @messages WHERE queue_id = ? AND id = ?",
    drop_oldest="DELETE FROM @messages WHERE seq IN "
    "(SELECT seq FROM @messages WHERE queue_id = ? AND state <> $leased ORDER BY seq LIMIT ?)",
    count_dropped="UPDATE @queues SET dropped = dropped + ? WHERE id = ?",
    depth="SELECT $ready, count(*) FROM @messages WHERE queue_id = ? AND state = $ready UNION ALL "
    "SELECT CASE WHEN due <= ? THEN $ready ELSE state END AS kind, count(*) FROM @messages "
    "WHERE queue_id = ? AND state <> $ready GROUP BY kind",
    purge_ready="DELETE FROM @messages WHERE seq IN "
    "(SELECT seq FROM @messages WHERE queue_id = ? AND state = $ready LIMIT ?)",
    purge_delayed="DELETE FROM @messages WHERE seq IN (SELECT seq FROM @messages "
    "WHERE queue_id = ? AND state <> $ready AND state = $delayed LIMIT ?)",
    bind="INSERT INTO @bindings (queue_id, vhost, kind, scope, topic, patterns, pattern) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO NOTHING",
    unbind="DELETE FROM @bindings WHERE queue_id = ? AND kind = ? AND scope = ? AND topic = ? AND pattern = ?",
    find_bound="SELECT q.bound, (SELECT count(*) FROM @bindings AS b WHERE b.queue_id = q.id) "
    "FROM @queues AS q WHERE q.id = ?",
    note_bound="UPDATE @queues SET bound = ? WHERE id = ?",
    disagreeing="SELECT $binding $bound WHERE b.topic = ? AND b.vhost = ? AND b.kind IN (?, ?) AND $live UNION ALL "
    "SELECT $binding $bound WHERE b.topic = ? AND b.kind = ? AND b.scope = ? AND b.patterns = ? AND $live LIMIT 1",
    drop_orphans="DELETE FROM @bindings WHERE kind = ? AND scope = ? AND topic = ? "
    "AND NOT EXISTS (SELECT 1 FROM @queues AS q WHERE q.id = queue_id)",
    hearing="SELECT q.id, q.name, q.message_ttl, q.max_length, b.pattern $bound "
    "WHERE b.kind = ? AND b.scope = ? AND b.topic = ? AND $live",
    probe="SELECT q.name, q.id, q.expires, q.expires_at, q.dropped, "
    "EXISTS (SELECT 1 FROM @messages AS m WHERE m.queue_id = q.id AND m.state = $ready), "
    "(SELECT m.due FROM @messages AS m WHERE m.queue_id = q.id AND m.state <> $ready ORDER BY m.due LIMIT 1) "
    "FROM @queues AS q WHERE q.vhost = ? AND $live AND q.name IN (names)",
    ripen="UPDATE @messages SET state = $ready WHERE seq IN "
    "(SELECT seq FROM @messages WHERE queue_id = ? AND state <> $ready AND due <= ? ORDER BY due LIMIT ?)",
    claim="SELECT seq, id, body, headers, priority, attempt, claim, expires_at FROM @messages "
    "WHERE queue_id = ? AND state = $ready ORDER BY priority DESC, seq LIMIT ?",
    lease="UPDATE @messages SET state = $leased, due = ?, attempt = attempt + 1, claim = claim + 1 WHERE seq = ?",
    reset_dropped="UPDATE @queues SET dropped = 0 WHERE id = ?",
    ack="DELETE FROM @messages WHERE seq = ? AND claim = ? AND id = ? AND state = $leased",
    extend="UPDATE @messages SET due = ? WHERE seq = ? AND claim = ? AND id = ? AND state = $leased",
    release="UPDATE @messages SET state = ?, due = ?, attempt = attempt - ? "
    "WHERE seq = ? AND claim = ? AND id = ? AND state = $leased",
    put="$put WHERE @results.final = 0 OR @results.expires_at <= ?",
    put_if_absent="$put WHERE @results.expires_at <= ?",
    get="SELECT key, value, final, expires_at FROM @results WHERE vhost = ? AND key IN (keys)",
    delete="DELETE FROM @results WHERE vhost = ? AND key = ?",
    forget_expired="DELETE FROM @results WHERE id IN (SELECT id FROM @results WHERE expires_at <= ? LIMIT ?)",
    read_version="SELECT value FROM @meta WHERE name = 'layout'",
    write_version="INSERT INTO @meta (name, value) VALUES ('layout', ?) ON CONFLICT DO NOTHING",
    read_clock="SELECT value FROM @meta WHERE name = 'clock'",
    write_clock="INSERT INTO @meta (name, value) VALUES ('clock', ?) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value = ?",
)


def with_prefix(statements: Statements, prefix: str) -> Statements:
    """Return the statements for the tables of one prefix."""
    texts = {f.name: getattr(statements, f.name) for f in fields(Statements)}
    return Statements(**{name: Template(text).substitute(_PARTS).replace("@", prefix) for name, text in texts.items()})
