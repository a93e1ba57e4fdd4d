"""The laws of the nouns: ids that are unique and in order, topic patterns as in AMQP, names."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerkit.errors import InvalidName
from brokerkit.models import Message, check_name, new_id, pack_headers, sent_at, topic_matches, unpack_headers

NOW = 1_763_000_000.1239


def test_an_id_is_a_valid_uuid_of_version_7_and_carries_the_time_to_the_millisecond() -> None:
    for now in (0.0, 0.001, NOW, 4e9):
        made = new_id(now)
        assert len(made) == 32
        read = uuid.UUID(made)
        assert (read.version, read.variant, read.hex) == (7, uuid.RFC_4122, made)
        assert sent_at(made) == int(now * 1000) / 1000
    assert Message(id=new_id(NOW), body=b"").sent_at == 1_763_000_000.123


def test_ids_of_one_process_and_one_millisecond_are_unique_and_in_order() -> None:
    made = [new_id(NOW) for _ in range(300_000)]  # more than the low 18 bits of the counter hold
    assert made == sorted(set(made))


def test_later_ids_are_greater() -> None:
    assert new_id(NOW) < new_id(NOW + 0.002) < new_id(NOW + 1)


def test_ids_are_unique_over_threads() -> None:
    start = threading.Barrier(8)

    def make() -> list[str]:
        start.wait()
        return [new_id(NOW) for _ in range(10_000)]

    with ThreadPoolExecutor(8) as pool:
        lists = [future.result() for future in [pool.submit(make) for _ in range(8)]]
    assert len({made for one in lists for made in one}) == 80_000
    assert all(one == sorted(one) for one in lists)


FORKING = """
import os
from brokerkit.models import new_id

ahead = [new_id(1.0) for _ in range(10)]
child = os.fork()
made = [*ahead * (child != 0), *(new_id(1.0) for _ in range(1000))]
if child:
    assert os.waitpid(child, 0)[1] == 0  # one writes after the other
print("".join(f"{child == 0} {one}\\n" for one in made), end="", flush=True)
"""


def test_ids_are_unique_after_a_fork() -> None:
    # in a process of its own, as this one may have threads, which do not go with fork
    lines = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    made = [line.split() for line in lines if line]
    assert len(made) == len({id_ for _, id_ in made}) == 2010
    tails = [{id_[-11:] for who, id_ in made if who == child} for child in ("True", "False")]
    assert [len(tail) for tail in tails] == [1, 1]
    assert tails[0] != tails[1]  # what is random of a process is drawn anew


TOPICS = [
    # pattern, routing key, does it match
    ("", "", True),
    ("", "a", False),
    ("a", "", False),
    ("a", "a", True),
    ("a", "b", False),
    ("a", "A", False),
    ("a", "a.b", False),
    ("a.b", "a", False),
    ("a.b", "a.b", True),
    ("*", "", False),
    ("*", "a", True),
    ("*", "a.b", False),
    ("*.*", "a", False),
    ("*.*", "a.b", True),
    ("a.*", "a", False),
    ("a.*", "a.b", True),
    ("a.*", "a.b.c", False),
    ("*.b", "a.b", True),
    ("*.b", "b", False),
    ("#", "", True),
    ("#", "a", True),
    ("#", "a.b.c.d", True),
    ("#.#", "", True),
    ("#.#", "a", True),
    ("#.*", "", False),
    ("#.*", "a", True),
    ("*.#", "a", True),
    ("*.#", "", False),
    ("#.*.#", "a.b", True),
    ("#.*.*", "a", False),
    ("a.#", "a", True),
    ("a.#", "a.b.c", True),
    ("a.#", "b", False),
    ("a.#", "ab", False),
    ("#.b", "b", True),
    ("#.b", "a.a.b", True),
    ("#.b", "b.a", False),
    ("a.#.b", "a.b", True),
    ("a.#.b", "a.x.y.b", True),
    ("a.#.b", "a.x.y", False),
    ("a.*.#.b", "a.b", False),
    ("a.*.#.b", "a.x.b", True),
    ("#.a.#.a.#", "x.a.y.a.z", True),
    ("#.a.#.a.#", "x.a.y.z", False),
    # an empty word is a word
    (".", ".", True),
    ("*", ".", False),
    ("*.*", ".", True),
    ("a.*", "a.", True),
    ("a.", "a.", True),
    ("a.", "a", False),
    ("a.*.b", "a..b", True),
    ("a.#.b", "a..b", True),
    ("a.b", "a..b", False),
    ("#", "..", True),
    # only whole words are special, and nothing else is
    ("a*", "ab", False),
    ("a*", "a*", True),
    ("#a", "a", False),
    ("#a", "#a", True),
    ("a?", "ab", False),
    ("[a]", "a", False),
    ("*", "*", True),
    ("x", "*", False),
    ("a%", "ab", False),
    ("grün.*", "grün.blau", True),
]


@pytest.mark.parametrize(("pattern", "key", "matches"), TOPICS)
def test_topic_patterns_match_as_in_amqp(pattern: str, key: str, *, matches: bool) -> None:
    assert topic_matches(pattern, key) is matches


def slow_match(pattern: list[str], words: list[str]) -> bool:
    """The rule as the specification words it, by trying everything."""
    if not pattern:
        return not words
    first, *rest = pattern
    if first == "#":
        return any(slow_match(rest, words[taken:]) for taken in range(len(words) + 1))
    return bool(words) and first in ("*", words[0]) and slow_match(rest, words[1:])


PATTERN_WORDS = st.lists(st.sampled_from(["a", "b", "", "*", "#", "#"]), max_size=7)
KEY_WORDS = st.lists(st.sampled_from(["a", "b", ""]), max_size=7)


@given(PATTERN_WORDS, KEY_WORDS)
def test_topic_patterns_match_like_the_slow_reference(pattern: list[str], words: list[str]) -> None:
    # one empty word cannot be told from none: both are the empty text, which is no word
    pattern, words = ([] if one == [""] else one for one in (pattern, words))
    assert topic_matches(".".join(pattern), ".".join(words)) is slow_match(pattern, words)


def test_a_pattern_made_to_be_slow_is_not() -> None:
    # by trying everything this takes longer than the universe has lasted; the suite's time limit is the judge
    assert not topic_matches("#.a." * 60 + "b", "a." * 200 + "c")


@pytest.mark.parametrize("name", ["a", "a b", "Ünï-çødé", "a.b/c:d*e#f", "x" * 10, "é" * 5, "'; DROP TABLE x; --"])
def test_a_good_name_passes(name: str) -> None:
    check_name(name, what="queue", max_bytes=30)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("", "non-empty text"),
        (None, "non-empty text"),
        (5, "non-empty text"),
        (b"a", "non-empty text"),
        ("x" * 31, "has 31 bytes; at most 30"),
        ("é" * 16, "has 32 bytes; at most 30"),
        ("\ud800", "lone surrogate"),
        ("a\n", "control or unprintable"),
        ("a\x00", "control or unprintable"),
        ("a\x7f", "control or unprintable"),
        ("a\u200b", "control or unprintable"),
        ("a\u202e", "control or unprintable"),
    ],
)
def test_a_bad_name_is_refused_with_its_kind_and_the_reason(name: object, hint: str) -> None:
    with pytest.raises(InvalidName, match=f"^topic name .*{hint}"):
        check_name(name, what="topic", max_bytes=30)


def test_the_refusal_of_a_long_name_is_short() -> None:
    with pytest.raises(InvalidName) as caught:
        check_name("x" * 10**6, what="queue", max_bytes=255)
    assert len(str(caught.value)) < 200


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_headers_are_packed_and_come_back_equal(headers: dict[str, str]) -> None:
    packed = pack_headers(headers)
    assert (packed is None) == (not headers)
    assert unpack_headers(packed) == headers


def test_headers_that_were_unpacked_cannot_be_changed_for_others() -> None:
    for packed in (None, pack_headers({"a": "1"})):
        with pytest.raises(TypeError):
            unpack_headers(packed)["a"] = "2"  # type: ignore[index]


def test_a_message_tells_its_topic_and_routing_key() -> None:
    sent = Message(id=new_id(NOW), body=b"")
    assert (sent.topic, sent.routing_key) == (None, "")
    published = Message(id=new_id(NOW), body=b"", headers={"bk-topic": "t", "bk-routing-key": "a.b"})
    assert (published.topic, published.routing_key) == ("t", "a.b")
    with pytest.raises(TypeError):
        sent.headers["a"] = "1"  # type: ignore[index] # the empty headers are shared by all
