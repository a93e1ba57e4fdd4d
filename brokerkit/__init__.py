"""brokerkit: one API for message brokers and result stores; a URL picks the engine."""
