"""`python -m brokerkit.cli`: the same as the command `brokerkit`."""

from brokerkit.cli import main

main()
