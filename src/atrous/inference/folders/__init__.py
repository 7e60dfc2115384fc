"""Files and folders in, labels as files out."""
