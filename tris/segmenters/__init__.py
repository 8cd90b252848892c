"""Stage 2: networks that the pseudo-labels train."""
