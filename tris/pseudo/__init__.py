"""From response maps to masks to learn from: PRMS, dense CRF, the label rule and the store."""
