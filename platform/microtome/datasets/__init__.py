"""Labelled images as published, with their classes, groups and splits."""
