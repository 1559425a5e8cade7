"""Features in and out: other people's files become sealed stores, and stores become such files."""
