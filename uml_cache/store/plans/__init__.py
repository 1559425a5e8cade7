"""What a store is going to hold: its plan and layout, written before a sample is encoded."""
