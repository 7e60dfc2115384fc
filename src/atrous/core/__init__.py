"""What every other folder may use: errors, records, label spaces, seeds, files. Numpy at most, never torch."""
