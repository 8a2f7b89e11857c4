/** What a socket offers besides events: the API of socket.io-client itself, over the app "acks". */
export async function play(stage) {
  let ann;
  const seen = [];

  await stage.step("not before it is told to", async () => {
    ann = stage.client("ann", { autoConnect: false });
    ann.finds("state", [ann.socket.connected, ann.socket.active, ann.socket.id]);
    ann.finds("chaining", ann.socket.connect() === ann.socket);
    await ann.connected();
    ann.finds("chaining", [
      ann.socket.on("x", () => 0) === ann.socket, ann.socket.off("x") === ann.socket,
      ann.socket.emit("silent") === ann.socket, ann.socket.send("x") === ann.socket,
      ann.socket.compress(true) === ann.socket, ann.socket.timeout(5000) === ann.socket]);
    await stage.server("silent");
  });
  await stage.step("listeners", async () => {
    const { socket } = ann, listener = () => seen.push("off");
    socket.on("question", () => seen.push("first"));
    socket.on("question", () => seen.push("second"));
    socket.once("question", () => seen.push("once"));
    socket.on("question", listener);
    socket.off("question", listener);
    ann.finds("listeners", [socket.listeners("question").length, socket.hasListeners("question"),
      socket.hasListeners("other")]);
    await ann.ask("ask me", 1);
    await ann.got("question");
    await ann.ask("ask me", 2);
    await ann.got("question", 2);
    socket.removeAllListeners("question");
    await ann.ask("ask me", 3);
    await ann.got("question", 3);
    ann.finds("seen", seen.splice(0));
  });
  await stage.step("listeners for any event, and for what goes out", async () => {
    const { socket } = ann;
    const any = (...args) => seen.push(["any", ...args.slice(0, 2)]);
    const early = event => seen.push(["early", event]), out = (...args) => seen.push(["out", ...args.slice(0, 2)]);
    socket.onAny(any).prependAny(early).onAnyOutgoing(out);
    await ann.ask("ask me", 1);
    await ann.got("question");
    socket.offAny(any).offAnyOutgoing(out);
    await ann.ask("ask me", 2);
    await ann.got("question", 2);
    socket.offAny(early);
    ann.finds("seen", seen.splice(0).filter(([, event]) => event !== "_barrier"));
    ann.finds("any", [socket.listenersAny().length, socket.listenersAnyOutgoing().length]);
  });
  await stage.step("reserved names", async () => {
    for (const name of ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]) {
      try {
        ann.socket.emit(name);
        ann.finds(name, "may be emitted");
      } catch (error) {
        ann.finds(name, error.message);
      }
    }
  });
  await stage.step("what is said before it is connected", async () => {
    const { socket } = ann;
    socket.disconnect();
    await stage.server("disconnect");
    socket.emit("silent", "buffered");
    ann.finds("buffer", [socket.sendBuffer.length, socket.connected, socket.disconnected]);
    socket.open();
    await stage.server("silent");
    ann.finds("buffer", socket.sendBuffer.length);
  });
  await stage.step("default time limits", async () => {
    const bob = await stage.join("bob", { ackTimeout: 1500 });
    await bob.socket.emitWithAck("no such event").catch(error => bob.finds("rejection", error.message));
    bob.finds("answer", await bob.socket.emitWithAck("answer", "text"));
    bob.socket.close();
    await stage.server("disconnect");
  });
  await stage.step("the manager", async () => {
    const { io } = ann.socket;
    ann.finds("settings", [io.reconnection(), io.reconnectionAttempts() === Infinity, io.reconnectionDelay(),
      io.reconnectionDelayMax(), io.randomizationFactor(), io.timeout()]);
    ann.finds("a socket is made once", io.socket("/") === ann.socket);
  });
}
