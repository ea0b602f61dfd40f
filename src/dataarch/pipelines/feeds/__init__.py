"""Sources that dataarch knows by their columns."""
