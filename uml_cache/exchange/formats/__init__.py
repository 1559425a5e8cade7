"""Other people's feature files, a module for each format."""
