"""Counts per expression, and the arithmetic on them."""
