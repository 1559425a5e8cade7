"""Stores on disk: their plan and layout, how a task is committed, what is recorded, found and checked."""
