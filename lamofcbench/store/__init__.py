"""Stores: writing, reading and verifying them. The one place that knows Zarr."""
