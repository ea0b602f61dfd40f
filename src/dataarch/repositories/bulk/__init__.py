"""Many rows at once, at the speed of COPY: each row is written, found to be there already, or refused with a reason."""
