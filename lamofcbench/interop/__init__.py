"""Other people's formats and tools."""
