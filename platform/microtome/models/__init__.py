"""Models: what a tile means."""
