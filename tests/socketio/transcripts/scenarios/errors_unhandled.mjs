export async function play(stage) {
  let ann;
  const unanswered = async (event, ...args) => {
    await ann.socket.timeout(800).emitWithAck(event, ...args).catch(error => ann.finds(event, error.message));
  };

  await stage.step("one comes", async () => {
    ann = await stage.join("ann");
  });
  await stage.step("a handler fails: no answer, and all goes on", async () => {
    await unanswered("fail");
    await unanswered("emit, then fail");
    await ann.ask("fine");
  });
  await stage.step("wrong arguments are the same", async () => {
    await unanswered("one argument");
    await unanswered("one argument", 1, 2);
    await ann.ask("one argument", "right");
  });
  await stage.step("an event that nobody handles", async () => {
    await unanswered("no such event");
    await ann.ask("fine");
  });
}
