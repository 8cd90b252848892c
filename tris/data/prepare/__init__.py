"""One file per published data set; all write the same index."""
