"""Promises that depend on options."""

from __future__ import annotations

import pytest
from brokerkit_rabbitmq.promises import heartbeat_for, max_hold, transport_capabilities

from brokerkit.capabilities import is_missing


def promised(**options):
    return transport_capabilities(**{"queue_type": "quorum", "consumer_timeout": 1800.0} | options)


@pytest.mark.parametrize("lease", [2.0, 2.5, 5.0, 30.0, 1620.0, 31_536_000.0])
def test_the_server_gives_up_a_frozen_consumer_within_what_is_promised(lease):
    heartbeat = heartbeat_for(lease)
    assert 1 <= heartbeat <= 3600  # AMQP says it in 16 bits
    assert 3 * heartbeat - lease <= promised().redelivery.lease_end


def test_a_heartbeat_of_ones_own_is_promised_as_it_is():
    for heartbeat in (1, 10, 60):
        late = promised(heartbeat=heartbeat).redelivery.lease_end
        assert late >= 3 * heartbeat - promised().lease.min
    assert promised(heartbeat=1).redelivery == promised().redelivery


def test_a_delivery_is_let_go_before_the_server_takes_it_back():
    for timeout in (4.0, 1800.0):
        lease = promised(consumer_timeout=timeout).lease
        assert lease.max == lease.max_hold == max_hold(timeout) < timeout
    assert promised(consumer_timeout=None).lease.max_hold is None


def test_the_types_of_queues_promise_what_they_can():
    quorum, classic = promised(), promised(queue_type="classic")
    assert (quorum.attempts, classic.attempts) == ("exact", "flag")
    assert (is_missing(quorum.priority), is_missing(classic.priority)) == (True, False)
