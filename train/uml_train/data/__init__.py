"""From stores to the rows that models see: selection, parts, draws, normalisation, batches."""
