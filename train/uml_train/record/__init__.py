"""A run on disk: identity, records with checksums, how cells are kept and mended."""
