"""The demo's rendered world: coloured shapes that can be seen, read about and heard, never in pairs."""
