"""Quantisers: arrays to levels and back, no bitstreams."""
