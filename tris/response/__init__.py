"""Stage 1: text-to-image response maps."""
