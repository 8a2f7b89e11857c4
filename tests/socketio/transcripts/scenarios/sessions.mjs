export async function play(stage) {
  let ann, tab, bob;
  const as = visitor => ({ extraHeaders: stage.cookies(visitor) });

  await stage.step("a stranger is refused", async () => {
    const eve = stage.client("eve");
    await eve.refused();
    await stage.server("connect");
  });
  await stage.step("two log in and connect", async () => {
    await stage.get("/login?user=ann", "ann");
    await stage.get("/login?user=bob", "bob");
    ann = await stage.join("ann", as("ann"));
    bob = await stage.join("bob", as("bob"));
  });
  await stage.step("what handlers change, later handlers see", async () => {
    await ann.ask("count");
    await ann.ask("count");
    await ann.ask("set", "colour", "red");
    await ann.ask("session");
    await bob.ask("session");
  });
  await stage.step("and HTTP?", () => stage.get("/session", "ann"));
  await stage.step("what HTTP changes", async () => {
    await stage.get("/set?colour=blue&size=7", "ann");
    await ann.ask("session");
  });
  await stage.step("a second tab", async () => {
    tab = await stage.join("ann's tab", as("ann"));
    await tab.ask("count");
    await tab.ask("session");
    await ann.ask("session");
  });
  await stage.step("a logout", async () => {
    await stage.get("/logout", "ann");
    await ann.ask("session");
    await stage.get("/session", "ann");
  });
  await stage.step("a session is cleared", async () => {
    await bob.ask("forget");
    await bob.ask("count");
    await bob.ask("session");
  });
  await stage.step("what is left at the end", async () => {
    await ann.leave();
    await stage.get("/session", "ann");
  });
  await stage.step("who comes back starts anew", async () => {
    bob.socket.disconnect();
    await stage.server("disconnect");
    bob.socket.connect();
    await bob.connected();
    await bob.ask("session");
  });
}
