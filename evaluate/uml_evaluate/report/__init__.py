"""The report: every run of a folder on one HTML page, and its tables as files."""
