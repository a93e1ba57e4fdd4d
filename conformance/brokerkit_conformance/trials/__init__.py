"""Trials: what `inside` does in a process of its own."""
