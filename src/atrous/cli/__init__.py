"""The command line: one file a command, and what they share. Printing and exit codes live here alone."""
