"""What people look at: W&B, overlays, the report."""
