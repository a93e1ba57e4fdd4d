"""The demonstration: 10,000 orders, four workers, one killed, one frozen, and an account of every message."""
