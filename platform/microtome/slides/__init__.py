"""Slides: what they are, where they lie, how their pixels are read."""
