"""The atlas: what is remembered."""
