"""Makes the archive: data sources, the driver, and the scripts that train the miniatures."""
