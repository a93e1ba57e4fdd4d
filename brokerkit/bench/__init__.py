"""The benchmark: brokerkit beside the raw driver and a peer, interleaved in one run; see `contract` for what a plugin brings."""
