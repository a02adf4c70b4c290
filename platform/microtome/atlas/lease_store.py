"""Where leases lie."""

from __future__ import annotations

from microtome.atlas.objects import Objects, objects

LeaseStore = Objects


def lease_store(uri: str) -> LeaseStore:
    """The store of an atlas's leases."""
    return objects(uri, "_lease", "the lease")
