"""The shared log in Redis: scripts, connections, and the payloads of its entries."""
