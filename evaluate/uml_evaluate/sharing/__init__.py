"""Runs and heads handed on, with cards made from their records; `uml push` and `uml pull` of every kind."""
