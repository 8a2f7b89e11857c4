export async function play(stage) {
  let ann, bob, cid;

  await stage.step("three come, one after the other", async () => {
    ann = await stage.join("ann");
    bob = await stage.join("bob");
    cid = await stage.join("cid");
    await stage.server("connect", 3);
  });
  await stage.step("two join a room", async () => {
    await ann.ask("join", "red");
    await bob.ask("join", "red");
  });
  await stage.step("what is said in the room stays there", async () => {
    await ann.ask("say", "red", "hello");
    await cid.ask("say", "red", "from outside");
    await ann.ask("say to others", "red", "you all");
    await cid.ask("say to others", "nowhere", "nobody hears");
  });
  await stage.step("an answer, a shout, a whisper", async () => {
    await ann.ask("answer", "to you alone");
    await bob.ask("shout", "to all", true);
    await bob.ask("shout", "to all others", false);
    await cid.ask("whisper", bob.socket.id, "psst");
    await cid.ask("whisper", "nobody", "psst");
  });
  await stage.step("past one, past two", async () => {
    await ann.ask("shout past", "not bob", bob.socket.id);
    await ann.ask("shout past", "neither bob nor cid", [bob.socket.id, cid.socket.id]);
  });
  await stage.step("several rooms at once, each hears once", async () => {
    await bob.ask("join", "blue");
    await cid.ask("join", "blue");
    await ann.ask("say", ["red", "blue"], "to both");
    await ann.ask("send there", ["red", cid.socket.id], "to a room and a client");
  });
  await stage.step("rooms need not be text", async () => {
    await ann.ask("join", 7);
    await ann.ask("say", 7, "seven");
    await ann.ask("say", "7", "not the number");
    await ann.ask("rooms");
  });
  await stage.step("joining and leaving twice", async () => {
    await ann.ask("join", "red");
    await ann.ask("leave", "red");
    await ann.ask("leave", "red");
    await ann.ask("say", "red", "can you hear me?");
  });
  await stage.step("others bring one in, and throw one out", async () => {
    await bob.ask("bring", ann.socket.id, "red");
    await bob.ask("say", "red", "welcome");
    await bob.ask("throw out", ann.socket.id, "red");
    await bob.ask("say", "red", "good riddance");
    await bob.ask("intrude", ann.socket.id);
  });
  await stage.step("a room is closed", async () => {
    await bob.ask("close", "blue");
    await bob.ask("say", "blue", "is anybody there?");
    await cid.ask("rooms");
  });
  await stage.step("who goes is in its rooms while it goes", async () => {
    await ann.ask("join", "red");
    await bob.got("joined");
    await bob.leave();
  });
  await stage.step("and in none when it comes back", async () => {
    bob.socket.connect();
    await bob.connected();
    await bob.ask("rooms");
    await ann.ask("say", "red", "he is not here");
  });
}
