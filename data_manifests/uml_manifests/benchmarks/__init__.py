"""Data sets known by name (data_sets/*.toml), and how their folders are read (layouts/)."""
