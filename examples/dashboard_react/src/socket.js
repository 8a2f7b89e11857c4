import { io } from "socket.io-client";

/** A socket that is not connected yet. */
export function createSocket(url, apiKey) {
  return io(url, {
    path: "/socket.io",
    transports: ["websocket", "polling"],
    reconnection: true,
    reconnectionAttempts: Infinity,
    reconnectionDelay: 500,
    reconnectionDelayMax: 5000,
    timeout: 20000,
    autoConnect: false,
    auth: { apiKey },
    extraHeaders: apiKey ? { "X-API-Key": apiKey } : {},
  });
}
