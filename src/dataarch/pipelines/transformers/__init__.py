"""What becomes of records: pure functions on one of them, or on many as an Arrow table."""
