"""Features in other people's formats and tools."""
