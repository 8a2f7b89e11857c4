export async function play(stage) {
  let ann;
  /** Emit a number of which nobody knows when it will be answered. */
  const say = (client, number, answers) => client.socket.emit("number", number, answer => {
    answers.push(answer);
    stage.changed();
  });

  await stage.step("one comes", async () => {
    ann = await stage.join("ann");
  });
  await stage.step("many events from the server", async () => {
    await ann.ask("numbers", 500);
    await ann.got("number", 500);
  });
  await stage.step("many events to the server", async () => {
    const answers = [];
    for (let number = 0; number < 100; number++) {
      say(ann, number, answers);
      // As long as a connection is polled, python-engineio takes no more than 16 at once.
      if (number % 10 === 9) await stage.until(() => answers.length > number, "ten answers more");
    }
    await stage.server("all");
    ann.finds("answers", answers.sort((one, two) => one - two));
  });
  await stage.step("many before it is connected", async () => {
    const bob = stage.client("bob");
    const answers = [];
    for (let number = 0; number < 10; number++) say(bob, number, answers);
    await bob.connected();
    await bob.ask("numbers", 1);
    await stage.until(() => answers.length === 10, "all answers");
    bob.finds("answers", answers.sort((one, two) => one - two));
  });
}
