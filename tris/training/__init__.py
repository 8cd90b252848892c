"""What the visible loops of `stages` share."""
