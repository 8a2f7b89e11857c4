export async function play(stage) {
  let ann, bob, cid, chat;
  const gone = async () => {
    await stage.server("said good-bye");
  };
  const back = async client => {
    client.socket.connect();
    await client.connected();
    await stage.server("connect");
  };

  await stage.step("three come", async () => {
    ann = await stage.join("ann");
    bob = await stage.join("bob");
    cid = await stage.join("cid");
    await stage.server("connect", 3);
  });
  await stage.step("the client goes", async () => {
    ann.socket.disconnect();
    ann.finds("id", ann.socket.id);
    await gone();
  });
  await stage.step("going twice means nothing", async () => {
    ann.socket.disconnect();
    ann.finds("connected", ann.socket.connected);
  });
  await stage.step("and comes back as somebody new", () => back(ann));
  await stage.step("what it said before it went is heard", async () => {
    ann.socket.emit("here", "my last words");
    ann.socket.disconnect();
    await stage.server("here");
    await gone();
  });
  await stage.step("what it says meanwhile is sent when it is back", async () => {
    const answered = ann.ask("here", "kept");
    await back(ann);
    await answered;
    await stage.server("here");
  });
  await stage.step("the server puts it out", async () => {
    ann.socket.emit("put me out");
    await ann.disconnected();
    await stage.server("has put out");
    await gone();
  });
  await stage.step("it does not come back by itself", async () => {
    ann.finds("active", ann.socket.active);
    await back(ann);
  });
  await stage.step("another is put out", async () => {
    await ann.ask("put out", bob.socket.id);
    await bob.disconnected();
    await gone();
    await back(bob);
  });
  await stage.step("nobody is put out", async () => {
    await ann.ask("put out", "nobody");
  });
  await stage.step("put out when it is ready", async () => {
    bob.socket.once("ready?", ready => ready());
    bob.socket.emit("put me out when I am ready");
    await bob.disconnected();
    await gone();
    await back(bob);
  });
  await stage.step("put out from outside", async () => {
    await stage.get(`/put-out/${bob.socket.id}`);
    await bob.disconnected();
    await gone();
    await stage.get(`/put-out-by-server/${cid.socket.id}`);
    await cid.disconnected();
    await stage.server("said good-bye", 2);
  });
  await stage.step("one namespace is put out, the other stays", async () => {
    chat = await stage.join("ann's chat", { nsp: "/chat", beside: ann });
    await ann.ask("put out", chat.socket.id, "/chat");
    await chat.disconnected();
    await gone();
    await ann.ask("here", "still");
  });
  await stage.step("listeners that go within an event", async () => {
    ann.socket.once("gone", () => ann.socket.disconnect());
    await back(bob);
    bob.socket.disconnect();
    await stage.server("said good-bye", 2);
  });
}
