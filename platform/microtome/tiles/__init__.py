"""Tiles: where to look on a slide, and cutting it at one resolution."""
