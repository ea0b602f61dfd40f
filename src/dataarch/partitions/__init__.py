"""Monthly partitions: which there are, and how to make the months that rows need."""
