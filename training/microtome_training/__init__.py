"""Fit an embedding model to labelled tissue with Ray Train."""
