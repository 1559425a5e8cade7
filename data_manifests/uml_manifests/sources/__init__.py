"""Where samples come from: folders, tables, arrow files, tars, pickles."""
