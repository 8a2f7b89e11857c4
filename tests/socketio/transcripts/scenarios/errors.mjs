export async function play(stage) {
  let ann, chat, other;

  await stage.step("a page in three namespaces", async () => {
    ann = await stage.join("ann");
    chat = await stage.join("ann's chat", { nsp: "/chat", beside: ann });
    other = await stage.join("ann elsewhere", { nsp: "/default", beside: ann });
  });
  await stage.step("each has its error handler, whose answer is the client's", async () => {
    await ann.ask("fail", 1, "two");
    await chat.ask("fail");
    await other.ask("fail");
  });
  await stage.step("what works is not touched, what does not is told", async () => {
    await ann.ask("divide", 1, 4);
    await ann.ask("divide", 1, 0);
  });
  await stage.step("without an acknowledgement", async () => {
    ann.socket.emit("fail");
    await ann.got("failed");
    await stage.server("on_error");
  });
  await stage.step("too few arguments, and too many", async () => {
    await ann.ask("too few");
    await ann.ask("too few", 1, 2);
    await ann.ask("too few", "just right");
  });
  await stage.step("the disconnect handler fails too", async () => {
    ann.socket.disconnect();
    await stage.server("on_error");
  });
}
