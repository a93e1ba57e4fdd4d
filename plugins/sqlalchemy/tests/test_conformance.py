"""The laws, on SQLite."""

from brokerkit_conformance import suite
from harness import SQLiteHarness

TestConformance = suite(SQLiteHarness)
