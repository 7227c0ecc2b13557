"""One module a paper: its tables, as functions that return a DataFrame."""
