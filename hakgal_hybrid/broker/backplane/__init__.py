"""One log for several processes: what is sent to it, what is read of it, and what becomes of both. Pure."""
