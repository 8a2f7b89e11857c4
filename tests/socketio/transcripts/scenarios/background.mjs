export async function play(stage) {
  let ann, bob;

  await stage.step("two come", async () => {
    ann = await stage.join("ann");
    bob = await stage.join("bob");
  });
  await stage.step("a count-down for one", async () => {
    ann.socket.emit("count down", 5, false);
    await ann.got("message");
    await stage.server("counted");
  });
  await stage.step("a count-down for all", async () => {
    bob.socket.emit("count down", 3, true);
    await Promise.all([ann.got("message"), bob.got("message")]);
    await stage.server("counted");
  });
  await stage.step("the first in a namespace starts a thread", async () => {
    const live = await stage.join("ann live", { nsp: "/live", beside: ann });
    live.socket.emit("go");
    await live.got("generated", 5);
    await stage.server("generated");
  });
  await stage.step("the second does not", async () => {
    await stage.join("bob live", { nsp: "/live", beside: bob });
    await stage.server("connect");
  });
  await stage.step("a question, answered in several ways", async () => {
    let times = 0;
    for (const values of [[], [42], ["several", { values: true }], [null], [[1, 2]]]) {
      ann.socket.once("question", (question, answer) => answer(...values));
      ann.socket.emit("ask me", 5);
      await stage.server("answered", ++times);
    }
  });
  await stage.step("a question that stays unanswered", async () => {
    bob.socket.emit("ask me", 0.2);
    await bob.got("question");
    await stage.server("unanswered");
    await bob.ask("ask nobody");
    await stage.server("unanswered", 2);
  });
  await stage.step("one that leaves owes no answer", async () => {
    bob.socket.on("question", () => bob.socket.disconnect());
    bob.socket.emit("ask me", 0.3);
    await stage.server("unanswered");
  });
  await stage.step("a ping", async () => {
    await ann.ask("my_ping");
    await ann.got("my_pong");
  });
}
