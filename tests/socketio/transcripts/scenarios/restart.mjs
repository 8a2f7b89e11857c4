/** The server is killed, and another one is there. */
export async function play(stage) {
  let ann, chat;
  const options = { reconnectionDelay: 20, reconnectionDelayMax: 100 };

  await stage.step("one comes", async () => {
    ann = await stage.join("ann", options);
    chat = await stage.join("ann's chat", { nsp: "/chat", beside: ann });
    await stage.server("connect", 2);
  });
  await stage.step("the server is killed", async () => {
    const over = [ann.disconnected(), chat.disconnected()];
    const back = stage.restart();
    await Promise.all(over);
    ann.finds("reconnection wanted", ann.socket.active);
    ann.socket.emit("here", "kept");
    await back;
    stage.forget();
    await ann.connected();
    await chat.connected();
    await stage.server("here");
    await stage.server("connect", 2);
  });
}
