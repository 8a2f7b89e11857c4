export async function play(stage) {
  let ann, chat, open, bob;

  await stage.step("one page in three namespaces, and a page in one", async () => {
    ann = await stage.join("ann");
    chat = await stage.join("ann's chat", { nsp: "/chat", beside: ann });
    open = await stage.join("ann, open", { nsp: "/open", beside: ann });
    bob = await stage.join("bob's chat", { nsp: "/chat" });
    await stage.server("connect", 3);
    ann.finds("different ids", new Set([ann, chat, open, bob].map(client => client.socket.id)).size);
    ann.finds("namespaces", [ann, chat, open].map(client => client.socket.nsp));
    ann.finds("one manager", ann.socket.io === chat.socket.io);
  });
  await stage.step("a namespace that nobody serves", async () => {
    const lost = stage.client("lost", { nsp: "/nowhere", beside: ann });
    await lost.refused();
  });
  await stage.step("the same event means something else in each", async () => {
    await ann.ask("hello", "ann");
    await chat.ask("hello", "ann");
    await bob.ask("hello", "bob");
    await ann.ask("added", 1);
    await chat.ask("added", 1);
  });
  await stage.step("from one namespace into another", () => bob.ask("pass_on", "from the chat"));
  await stage.step("events that have no handler of their own", async () => {
    await ann.ask("unheard of", 1, { two: 2 });
    await ann.ask("nothing to say");
    await open.ask("elsewhere", "open", 2);
    await chat.ask("elsewhere", "chat");
    await ann.ask("elsewhere", "default");
  });
  await stage.step("what one namespace remembers", async () => {
    await ann.ask("remember", "default");
    await open.ask("remember", "open");
  });
  await stage.step("from outside, to one namespace each", async () => {
    await stage.get("/tell/default");
    await stage.get("/tell/chat");
    await stage.get("/tell/open");
  });
  await stage.step("leaving one namespace, not the page", async () => {
    await chat.leave();
    await ann.ask("hello", "again");
    await bob.ask("hello", "bob");
  });
  await stage.step("and back", async () => {
    chat.socket.connect();
    await chat.connected();
    await stage.server("connect");
    await chat.ask("hello", "ann");
  });
  await stage.step("the page goes", async () => {
    ann.socket.disconnect();
    await stage.server("disconnect", 1);
    chat.socket.disconnect();
    await stage.server("disconnect", 2);
    open.socket.disconnect();
  });
}
