"""Codecs that are networks; their layers are CompressAI's."""
