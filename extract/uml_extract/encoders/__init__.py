"""The encoders that come with the project, one module a family; the registry finds them by entry point."""
