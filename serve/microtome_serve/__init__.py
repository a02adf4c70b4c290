"""Answers over HTTP: Ray Serve in front of an atlas."""
