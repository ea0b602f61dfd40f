"""What we remember: dogpile.cache regions on Redis or Valkey that are never wrong after a commit."""
