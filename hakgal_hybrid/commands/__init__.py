"""What clients send, what the host's handlers do with it, and what serves the clients of an app."""
