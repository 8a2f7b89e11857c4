export async function play(stage) {
  let ann, bob;

  await stage.step("two come", async () => {
    ann = await stage.join("ann");
    bob = await stage.join("bob", { auth: { name: "bob" } });
    await stage.server("connect", 2);
  });
  await stage.step("echoes", async () => {
    ann.socket.emit("echo", { data: "hello" });
    await ann.got("reply");
    await bob.ask("tell_all", { data: "hello, all" });
  });
  await stage.step("rooms", async () => {
    await ann.ask("enter", { room: "red" });
    await bob.ask("enter", { room: "red" });
    await bob.ask("close room", { room: "red" });
  });
  await stage.step("HTTP knows nothing of the count", () => stage.get("/count", "ann"));
  await stage.step("a polite good-bye", async () => {
    ann.socket.once("reply", (reply, acknowledge) => acknowledge());
    ann.socket.emit("good_bye");
    await ann.disconnected();
    await stage.server("disconnect");
  });
}
