"""Our own server: a gevent front on one thread, native threads for the host, one writer for all streams."""
