"""From features to class logits: one file per family, named after it."""
