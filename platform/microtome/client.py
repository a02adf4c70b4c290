"""The HTTP client of a Microtome server; it needs nothing of the library but its errors."""
