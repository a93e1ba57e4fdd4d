"""The laws, on SQLite."""

from brokerkit_conformance import suite
from brokerkit_sqlalchemy.conformance import SQLiteHarness

TestConformance = suite(SQLiteHarness)
