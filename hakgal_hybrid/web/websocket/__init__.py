"""The log over a WebSocket, for the few clients that need one."""
