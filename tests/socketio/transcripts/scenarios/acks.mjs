export async function play(stage) {
  let ann, bob;
  const kinds = ["nothing", "false", "zero", "text", "list", "dict", "two", "one in a tuple", "empty",
    "pair of lists", "empty list"];

  await stage.step("two come", async () => {
    ann = await stage.join("ann");
    bob = await stage.join("bob");
  });
  for (const kind of kinds) {
    await stage.step(`answer: ${kind}`, () => ann.ask("answer", kind));
  }
  await stage.step("a promise of an answer", async () => {
    for (const kind of ["nothing", "text", "two"]) {
      ann.finds(kind, await ann.socket.emitWithAck("answer", kind));
      ann.finds(`${kind}, in time`, await ann.socket.timeout(5000).emitWithAck("answer", kind));
    }
  });
  await stage.step("with a time limit, the error comes first", async () => {
    await new Promise(done => ann.socket.timeout(5000).emit("answer", "two", (...args) => {
      ann.finds("arguments", args);
      done();
    }));
  });
  await stage.step("no answer in time", async () => {
    await new Promise(done => ann.socket.timeout(50).emit("no such event", (...args) => {
      ann.finds("arguments", args);
      ann.finds("is an error", args[0] instanceof Error);
      done();
    }));
    await ann.socket.timeout(50).emitWithAck("no such event").catch(error => ann.finds("rejection", error.message));
  });
  await stage.step("no answer wanted", async () => {
    ann.socket.emit("silent", 1, "two");
    await stage.server("silent");
  });
  await stage.step("the server asks, and is answered", async () => {
    let times = 0;
    for (const values of [[], ["yes"], [1, { two: 2 }, [3]], [null], [Uint8Array.of(1, 2)]]) {
      ann.socket.once("question", (...args) => args.at(-1)(...values));
      await ann.ask("ask me", "how many?");
      await stage.server("acknowledged", ++times);
    }
  });
  await stage.step("a question without words, and one with several", async () => {
    ann.socket.once("question", answer => answer("nothing asked"));
    await ann.ask("ask me");
    await stage.server("acknowledged", 1);
    ann.socket.once("question", (one, two, answer) => answer(one, two));
    await ann.ask("ask me", 1, 2);
    await stage.server("acknowledged", 2);
  });
  await stage.step("an answer counts once", async () => {
    ann.socket.once("question", (...args) => {
      args.at(-1)("first");
      args.at(-1)("second");
    });
    await ann.ask("ask me", "twice?");
    await stage.server("acknowledged", 1);
    ann.socket.once("question", (...args) => args.at(-1)("third"));
    await ann.ask("ask me", "and now?");
    await stage.server("acknowledged", 2);
  });
  await stage.step("answers in another order than questions", async () => {
    const answers = [];
    ann.socket.on("question", (number, answer) => answers.push(() => answer(number * 10)));
    await ann.ask("ask twice");
    await ann.got("question", 2);
    ann.socket.off("question");
    answers[1]();
    await stage.server("acknowledged second");
    answers[0]();
    await stage.server("acknowledged first");
  });
  await stage.step("another is asked", async () => {
    bob.socket.once("question", (text, answer) => answer(`bob heard "${text}"`));
    await ann.ask("ask other", bob.socket.id);
    await stage.server("acknowledged", 1);
  });
  await stage.step("all are asked", async () => {
    let answer, other;
    ann.socket.once("question", (text, reply) => answer = () => reply("ann answers"));
    bob.socket.once("question", (text, reply) => other = () => reply("bob answers"));
    await ann.ask("ask all");
    await Promise.all([ann.got("question"), bob.got("question")]);
    answer();
    await stage.server("acknowledged", 1);
    other();
    await stage.server("acknowledged", 2);
  });
  await stage.step("a message is acknowledged, and a question from outside", async () => {
    ann.socket.once("message", (text, answer) => answer("got it"));
    await ann.ask("send me");
    await stage.server("acknowledged", 1);
  });
  await stage.step("a callback may emit", async () => {
    ann.socket.once("question", (text, answer) => answer("then this"));
    await ann.ask("ask, then answer");
    await ann.got("thanks");
  });
  await stage.step("who serves whom", () => ann.ask("whoami", 1, [2]));
  await stage.step("asked before it is connected", async () => {
    ann.socket.disconnect();
    await stage.server("disconnect");
    const answered = ann.ask("answer", "text");
    ann.socket.connect();
    await answered;
  });
  await stage.step("answers that come no more", async () => {
    const results = [];
    ann.socket.emit("no such event", (...args) => results.push(["callback", ...args]));
    const promise = ann.socket.emitWithAck("no such event").catch(error => results.push(["rejected", error.message]));
    const timed = new Promise(done => ann.socket.timeout(5000).emit("no such event", error => {
      results.push(["timed", error.message]);
      done();
    }));
    ann.socket.disconnect();
    await Promise.all([promise, timed]);
    ann.finds("results", results);
    await stage.server("disconnect");
  });
}
