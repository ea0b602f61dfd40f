"""What a record must be: it is rejected, or has typed values afterwards."""
