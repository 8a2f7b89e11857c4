import { useCallback, useEffect, useMemo, useReducer } from "react";
import { API } from "./backend.js";
import { createSocket } from "./socket.js";
import { BACKEND, initialState, reduce } from "./state.js";

/** Keep a socket connected while the component lives; return what it told, and what can be asked of it. */
export function useDashboard(apiKey) {
  const [state, dispatch] = useReducer(reduce, initialState);
  const socket = useMemo(() => createSocket(API, apiKey), [apiKey]);

  useEffect(() => {
    const tell = (type) => (data) => dispatch({ type, data });
    const log = (direction) => (name, ...args) =>
      dispatch({ type: "log", data: { direction, name, args, at: new Date() } });

    let connectedAt = 0;
    const ready = () => dispatch({ type: "ready", data: performance.now() - connectedAt });
    const listeners = {
      connect: () => {
        dispatch({ type: "connect", data: socket.id });
        connectedAt = performance.now();
        socket.off("initial_data", ready); // an earlier connection may have ended before its answer came
        socket.once("initial_data", ready);
        socket.emit("request_initial_data", {});
        socket.emit("governor_status_request", {});
      },
      disconnect: tell("disconnect"),
      connect_error: tell("connect_error"),
      ...Object.fromEntries(Object.keys(BACKEND).map((name) => [name, tell(name)])),
    };
    const incoming = log("in");
    const outgoing = log("out");

    Object.entries(listeners).forEach(([name, listener]) => socket.on(name, listener));
    socket.onAny(incoming);
    socket.onAnyOutgoing(outgoing);
    dispatch({ type: "connecting" });
    socket.connect();
    return () => {
      Object.entries(listeners).forEach(([name, listener]) => socket.off(name, listener));
      socket.off("initial_data", ready);
      socket.offAny(incoming);
      socket.offAnyOutgoing(outgoing);
      socket.disconnect();
    };
  }, [socket]);

  const connect = useCallback(() => {
    dispatch({ type: "connecting" });
    socket.connect();
  }, [socket]);

  const disconnect = useCallback(() => socket.disconnect(), [socket]);

  const control = useCallback(
    (action) => {
      if (!socket.connected) return;
      dispatch({ type: "control", data: action });
      socket.emit("governor_control", { action, apiKey });
    },
    [socket, apiKey],
  );

  const refreshGovernor = useCallback(() => socket.emit("governor_status_request", {}), [socket]);

  const ask = useCallback(
    (query) => {
      if (!socket.connected) return;
      dispatch({ type: "ask", data: query });
      socket.emit("reasoning_request", { query });
    },
    [socket],
  );

  const clearLog = useCallback(() => dispatch({ type: "clear" }), []);

  return { state, connect, disconnect, control, refreshGovernor, ask, clearLog };
}
