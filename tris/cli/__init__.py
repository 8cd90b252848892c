"""The `tris` command."""
