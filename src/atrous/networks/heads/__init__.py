"""From features to class logits: one file a family, named as the family."""
