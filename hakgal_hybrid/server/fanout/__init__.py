"""The one loop that writes to every stream."""
