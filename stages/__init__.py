"""Runnable with `accelerate launch`; each loop is in full view."""
