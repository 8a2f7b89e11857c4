export async function play(stage) {
  let ann, bob, careful, overridden;

  await stage.step("two come", async () => {
    ann = await stage.join("ann", { auth: { name: "ann" } });
    bob = await stage.join("bob");
    await stage.server("connect", 2);
  });
  await stage.step("rooms and what is kept for a client", async () => {
    await ann.ask("look");
    await ann.ask("look");
    await bob.ask("look");
    await ann.ask("say", "in the lobby");
    await ann.ask("step_out");
    await bob.ask("say", "without ann");
    await bob.ask("close");
    await bob.ask("say", "to nobody");
    await bob.ask("look");
  });
  await stage.step("functions work in methods", () => ann.ask("use_functions"));
  await stage.step("events that have no method", async () => {
    await ann.ask("no such event", 1);
    await ann.ask("unregistered");
  });
  await stage.step("a question, and a call from a thread", async () => {
    bob.socket.on("question", (text, answer) => answer(`about "${text}"`));
    await ann.ask("ask", bob.socket.id);
    await stage.server("acknowledged");
    await stage.get(`/calls/${bob.socket.id}`);
    await stage.server("called");
  });
  await stage.step("a method that fails is not acknowledged", async () => {
    await ann.socket.timeout(200).emitWithAck("fail").catch(error => ann.finds("rejection", error.message));
  });
  await stage.step("a class with an error method", async () => {
    careful = await stage.join("careful", { nsp: "/careful" });
    await careful.ask("fail", 1, 2);
    await careful.ask("shared");
  });
  await stage.step("a class that dispatches itself", async () => {
    overridden = await stage.join("overridden", { nsp: "/overridden" });
    await overridden.ask("whatever", 1, 2);
    await stage.server("triggered", 2);
  });
  await stage.step("one is sent away, one goes", async () => {
    await ann.ask("kick", bob.socket.id);
    await bob.disconnected();
    await stage.server("disconnect", 1);
    ann.socket.disconnect();
    await stage.server("disconnect", 2);
    careful.socket.disconnect();
    await stage.server("disconnect", 3);
    overridden.socket.disconnect();
    await stage.server("triggered");
  });
}
