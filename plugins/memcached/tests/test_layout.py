"""The layout: keys that never meet, times that memcached understands, and a ring that moves little."""

import itertools

import pytest
from brokerkit_memcached.layout import FINAL, OPEN, Ring, exptime_of, item_key, pack, slices, unpack

NOW = 1_800_000_000.25
DAY = 86_400


def test_a_plain_id_stands_in_the_key_as_it_is():
    assert item_key("bk:", "0192f0c1-x") == b"bk:result:0192f0c1-x"


@pytest.mark.parametrize("odd", ["a b", "é", "a\x00", "a\nb", "x" * 241, "#a", "x" * 4000, "\x7f", "a\r\nflush_all"])
def test_an_odd_or_long_id_is_hashed_into_a_key_that_memcached_takes(odd):
    key = item_key("bk:", odd)
    assert key.startswith(b"bk:result:#")
    assert len(key) <= 250
    assert all(0x21 <= byte < 0x7F for byte in key)


def test_the_longest_plain_id_just_fits():
    assert len(item_key("bk:", "x" * 240)) == 250
    assert item_key("bk:", "x" * 240).endswith(b"xx")


def test_no_two_pairs_of_prefix_and_id_share_a_key():
    prefixes = ["b", "bk:", "bk:r", "bk:result:", "bk:result:#", "bk:result:result:", "r", "result:"]
    ids = [
        "a",
        "#",
        "#a",
        "result:a",
        "result:",
        "result:result:a",
        "esult:a",
        ":a",
        "result:#a",
        "t:result:a",
        "é",
        "e",
    ]
    ids += [item_key("", each).decode() for each in ids] + [
        item_key("", each).decode().removeprefix("result:") for each in ids
    ]
    keys = {}
    for pair in itertools.product(prefixes, dict.fromkeys(ids)):
        keys.setdefault(item_key(*pair), []).append(pair)
    assert [pairs for pairs in keys.values() if len(pairs) > 1] == []


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("ends_at", [None, NOW, 0.001])
@pytest.mark.parametrize("record", [b"", b"x", bytes(range(256))])
def test_a_value_comes_back_as_it_was_packed(final, ends_at, record):
    value, was_final, ended = unpack(FINAL if final else OPEN, pack(record, ends_at))
    assert (value, was_final) == (record, final)
    assert ended == ends_at or abs(ended - ends_at) < 0.002


@pytest.mark.parametrize(
    ("flags", "value"), [(0, b"foreign value"), (1, b""), (FINAL, b"short"), (2**32 - 1, b"x" * 20)]
)
def test_what_others_wrote_is_returned_as_it_is_and_open(flags, value):
    assert unpack(flags, value) == (value, False, None)


@pytest.mark.parametrize(
    ("ttl", "exptime"),
    [
        (None, 0),
        (0.001, 3),
        (1, 3),
        (1.5, 4),
        (30 * DAY - 2, 30 * DAY),
        (30 * DAY - 1, int(NOW) + 1 + 30 * DAY + 1),
        (30 * DAY, int(NOW) + 1 + 30 * DAY + 2),
        (400 * DAY, int(NOW) + 1 + 400 * DAY + 2),
        (100_000 * DAY, 0),
    ],
)
def test_what_is_beyond_thirty_days_is_a_moment_and_what_is_beyond_2038_is_for_ever(ttl, exptime):
    assert exptime_of(ttl, NOW) == exptime


def test_nothing_expires_before_its_time_for_the_sake_of_rounding():
    for ttl in (0.001, 0.5, 1.0, 59.999, 2_592_000.0, 2_592_001.5, 40 * DAY + 0.3):
        told = exptime_of(ttl, NOW)
        assert (told if told <= 30 * DAY else told - NOW) >= ttl + 2 - 0.001


def test_what_is_asked_at_once_is_bounded_and_complete():
    keys = [b"k%d" % n * 10 for n in range(3000)]
    parts = list(slices(keys))
    assert [key for part in parts for key in part] == keys
    assert len(parts) > 1
    assert max(sum(len(key) + 1 for key in part) for part in parts) <= 33_000
    assert list(slices([])) == []


# -- the ring ------------------------------------------------------------------------------------------------------------

KEYS = [b"bk:result:%d" % n for n in range(4000)]


def owners(*names):
    ring = Ring(names)
    return [names[ring.owner(key)] for key in KEYS]


def test_each_server_has_its_share():
    for names in (("a:1", "b:1"), ("a:1", "b:1", "c:1", "d:1")):
        found = owners(*names)
        shares = [found.count(name) * len(names) / len(KEYS) for name in names]
        assert all(0.6 < share < 1.5 for share in shares)


def test_the_order_in_which_servers_are_named_changes_nothing():
    assert owners("a:1", "b:1", "c:1") == owners("c:1", "a:1", "b:1")


def test_one_server_more_takes_its_share_and_moves_nothing_else():
    before, after = owners("a:1", "b:1", "c:1"), owners("a:1", "b:1", "c:1", "d:1")
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert {new for _, new in moved} == {"d:1"}
    assert 0.1 < len(moved) / len(KEYS) < 0.45


def test_who_has_a_key_is_the_same_for_everybody_for_ever():
    ring = Ring(("127.0.0.1:11211", "127.0.0.1:11212"))
    assert "".join(str(ring.owner(key)) for key in KEYS[:16]) == "0101100010110101"
