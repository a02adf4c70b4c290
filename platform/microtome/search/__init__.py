"""Search: what looks alike."""
