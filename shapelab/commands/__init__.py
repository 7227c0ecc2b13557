"""The command line: `main`, one file a command, and under `files` what commands do with files of one's own."""
