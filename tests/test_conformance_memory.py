"""The laws, on the executable specification."""

from brokerkit_conformance import suite
from brokerkit_conformance.reference import MemoryHarness

TestConformance = suite(MemoryHarness)
