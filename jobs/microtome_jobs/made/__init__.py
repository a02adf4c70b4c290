"""Slides made by arithmetic, whose tissue type is known everywhere."""
