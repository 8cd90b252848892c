"""Images and sentences: published files in, batches out."""
