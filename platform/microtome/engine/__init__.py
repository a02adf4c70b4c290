"""The engine: the only place where the library meets Ray."""
