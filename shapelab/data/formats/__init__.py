"""File formats: a header as it stands in the file, voxels, and errors that name the file."""
