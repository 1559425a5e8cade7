"""One thin module per command; they import click only until they run."""
