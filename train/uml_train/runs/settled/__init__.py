"""What is settled before a cell is trained: settings resolved, cells named, a run opened again."""
