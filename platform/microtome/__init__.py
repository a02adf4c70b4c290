"""Microtome: find tissue that looks alike in archives of whole-slide images.

    slides → tiles → models → atlas → search

Each name is a subpackage and a step of the data flow; `engine` runs the first four on Ray.
"""

__version__ = "0.1.0"
