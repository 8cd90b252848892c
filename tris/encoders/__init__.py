"""Thin doors to the encoders of other packages."""
