"""The unconfirmed messages of a channel: every tag closes what it is about, once, in any order."""

from brokerkit_rabbitmq.properties import encode_stored
from brokerkit_rabbitmq.window import Batch, Window
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CALM = settings(deadline=None, suppress_health_check=(HealthCheck.too_slow,))  # the machine may be busy


class NotStored(Exception):
    pass


def batch_of(count, key="q"):
    return Batch([(key, encode_stored(f"{place:032x}", {}), b"") for place in range(count)])


def written(*counts, exchange=""):
    window = Window()
    batches = []
    for count in counts:
        batches.append(batch_of(count))
        window.add(batches[-1], count, exchange)
    return window, batches


@CALM
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_confirms_in_any_order_close_each_message_once(counts, data):
    window, batches = written(*counts)
    total = sum(counts)
    open_tags = set(range(1, total + 1))
    refused = set()
    while open_tags:
        tag = data.draw(st.sampled_from(sorted(open_tags)))
        multiple, stored = data.draw(st.booleans()), data.draw(st.booleans())
        closed = {other for other in open_tags if other <= tag} if multiple else {tag}
        window.confirm(tag, None if stored else NotStored, multiple=multiple)
        window.confirm(tag, NotStored, multiple=multiple)  # once more: means nothing
        open_tags -= closed
        refused |= set() if stored else closed
        assert window.open == len(open_tags) == sum(batch.left for batch in batches) == window.open_to("")
        expected = iter(range(1, total + 1))
        for batch in batches:
            tags = [next(expected) for _ in batch.items]
            assert set(window.unconfirmed(batch)) == {place for place, tag in enumerate(tags) if tag in open_tags}
            assert set(batch.errors) == {place for place, tag in enumerate(tags) if tag in refused}


def test_one_batch_in_several_slices():
    window, batch = Window(), batch_of(5)
    window.add(batch, 2, "")
    window.confirm(2, None, multiple=True)
    window.add(batch, 3, "")
    assert (batch.written, batch.left, list(window.unconfirmed(batch))) == (5, 3, [2, 3, 4])
    window.confirm(4, NotStored, multiple=False)
    assert list(batch.errors) == [3]
    window.confirm(5, None, multiple=True)
    assert (batch.left, window.open) == (0, 0)


def test_what_comes_back_is_the_first_open_one_with_its_id_and_key():
    window, (first, second) = written(3, 3)
    returned = first.items[1][1]
    window.give_back("", "q", returned, NotStored("a"))
    window.give_back("", "q", returned, NotStored("b"))
    window.give_back("", "q", returned, NotStored("nobody's"))
    assert {place: str(error) for place, error in first.errors.items()} == {1: "a"}
    assert {place: str(error) for place, error in second.errors.items()} == {1: "b"}
    window.give_back("", "other", first.items[0][1], NotStored("c"))
    window.give_back("topic", "q", first.items[0][1], NotStored("d"))
    assert len(first.errors) == 1
    window.confirm(6, None, multiple=True)
    assert (first.left, second.left, len(first.errors), len(second.errors)) == (0, 0, 1, 1)


def test_what_is_confirmed_comes_back_no_more():
    window, (first, second) = written(2, 2)
    window.confirm(1, None, multiple=False)
    window.give_back("", "q", first.items[0][1], NotStored("x"))
    assert (first.errors, list(second.errors)) == ({}, [0])


def test_a_server_that_writes_the_properties_in_its_own_way_is_understood():
    window, (batch,) = written(3)
    window.give_back("", "q", encode_stored(f"{2:032x}", {"x": "added"}), NotStored("x"))
    assert list(batch.errors) == [2]


def test_an_exchange_is_proven_by_a_confirm():
    window, _ = written(1, exchange="topic")
    assert not window.proven
    window.confirm(1, None, multiple=False)
    assert window.proven == {"topic"}
