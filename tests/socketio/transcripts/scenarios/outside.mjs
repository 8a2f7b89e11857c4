export async function play(stage) {
  let ann, bob, news;

  await stage.step("nobody is there to hear", () => stage.get("/emit"));
  await stage.step("two come, one to the news too", async () => {
    ann = await stage.join("ann");
    bob = await stage.join("bob");
    news = await stage.join("bob's news", { nsp: "/news", beside: bob });
  });
  await stage.step("to all", () => stage.get("/emit"));
  await stage.step("to one, past one", async () => {
    await stage.get("/to/1");
    await stage.get("/skip/0");
  });
  await stage.step("rooms", async () => {
    await stage.get("/room/red/0");
    await stage.get("/room/red/1");
    await stage.get("/room/blue/1");
    await stage.get("/module-room/blue/0");
    await stage.get("/participants/red");
    await stage.get("/close/red");
    await stage.get("/participants/red");
  });
  await stage.step("handlers that use the object", async () => {
    await ann.ask("publish", "extra!");
    news.finds("nsp", news.socket.nsp);
  });
  await stage.step("one less", async () => {
    await ann.leave();
    await stage.get("/emit");
  });
}
