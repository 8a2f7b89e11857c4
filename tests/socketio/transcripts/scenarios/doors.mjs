export async function play(stage) {
  await stage.step("what the handler is told", async () => {
    const auths = [undefined, {}, { token: "secret" }, { list: [1, null, "ä"], deep: { er: true } }];
    for (const [index, auth] of auths.entries()) {
      await stage.join(`guest ${index}`, { auth });
      await stage.server("connect", index + 1);
    }
  });
  await stage.step("auth may be a function", async () => {
    let times = 0;
    const client = await stage.join("guest with a function", { auth: tell => tell({ times: ++times }) });
    await client.leave();
    const back = new Promise(done => client.socket.once("connect", done));
    client.socket.connect();
    await back;
  });
  await stage.step("query and headers", async () => {
    const options = { query: { asked: "a question & more" }, extraHeaders: { "X-Asked": "too" } };
    const client = await stage.join("guest with a query", options);
    await client.ask("asked");
    const plain = await stage.join("the same elsewhere", { nsp: "/plain", beside: client });
    await stage.server("connect", 2);
    plain.finds("namespace", plain.socket.nsp);
  });
  const reasons = ["none", "text", "text and data", "two data", "zeros", "zero", "null", "list", "number", "empty",
    "only data", "nested"];
  for (const reason of reasons) {
    await stage.step(`refused: ${reason}`, async () => {
      const client = stage.client(reason, { auth: { refuse: reason } });
      await client.refused();
      await stage.server("connect");
    });
  }
  await stage.step("refused by returning false", async () => {
    const client = stage.client("denied", { auth: { deny: true } });
    await client.refused();
    await stage.server("connect");
  });
  await stage.step("who was refused may try again, with something better", async () => {
    const client = stage.client("insistent", { auth: { refuse: "text" } });
    await client.refused();
    client.finds("id", client.socket.id);
    client.socket.auth = { token: "better" };
    client.socket.connect();
    await client.connected();
    await client.ask("asked");
  });
  await stage.step("one namespace refuses, another does not", async () => {
    const denied = stage.client("denied here", { auth: { deny: true } });
    await denied.refused();
    const plain = await stage.join("welcome there", { nsp: "/plain", beside: denied });
    plain.finds("connected", [denied.socket.connected, plain.socket.connected]);
  });
  let ann;
  await stage.step("what the handler emits", async () => {
    ann = await stage.join("ann", { nsp: "/welcome", auth: { name: "ann" } });
    await ann.got("message");
    await ann.ask("again");
  });
  await stage.step("to the next one, and about it", async () => {
    const bob = await stage.join("bob", { nsp: "/welcome" });
    await bob.got("message");
    await ann.got("newcomer");
  });
}
