"""Planted defects: what the suite must notice. Each is one small change of the reference engine or the portable core."""
