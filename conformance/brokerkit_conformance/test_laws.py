"""What `pytest --pyargs brokerkit_conformance --brokerkit=module:Class` collects."""

from brokerkit_conformance.pytest_suite import suite_of_option

TestConformance = suite_of_option()
