"""One file a data set: its layout, its cases, its integers."""
