const THINGS = ["nothing", "text", "empty text", "number", "float", "whole float", "big", "negative", "true", "false",
  "list", "empty list", "dict", "empty dict", "tuple", "tuple of one", "tuple of lists", "empty tuple", "list in tuple",
  "tuple in a list", "bytes", "no bytes", "bytes in a dict", "bytes in a tuple", "one byte in text",
  "placeholder", "dollar", "large", "large bytes", "key that is a number"];

class Point {
  constructor(x, y) {
    Object.assign(this, { x, y });
  }
}

const PUTS = {
  "nothing": [], "null": [null], "undefined": [undefined], "undefined within": [{ gone: undefined, list: [undefined] }],
  "text": ["Grüße, 世界 🎈 \u2028 \0 </script>"], "several": [1, "two", [3], { four: 4 }, null, false],
  "numbers": [0.1, 2.0, 2 ** 53, -0, 1e21, NaN, Infinity], "date": [new Date(0)],
  "a class": [new Point(1, 2)], "own toJSON": [{ toJSON: () => "as JSON" }],
  "buffer": [Buffer.from("buffer")], "array": [Uint8Array.of(0, 1, 254, 255)],
  "part of an array": [Uint8Array.of(1, 2, 3, 4).subarray(1, 3)], "array buffer": [Uint8Array.of(9).buffer],
  "no bytes": [new Uint8Array(0)],
  "bytes within": [{ name: "a.bin", data: Uint8Array.of(128), more: [Uint8Array.of(1), { x: Uint8Array.of(2) }] }],
  "bytes and text": [Uint8Array.of(1), "two", Uint8Array.of(3)],
  "placeholder": [{ _placeholder: true, num: 0 }], "dollar": [{ $binary: "YQ==", $$binary: 1, $: 2 }],
  "large": ["y".repeat(100_000)], "large bytes": [new Uint8Array(100_000).fill(7)],
};

export async function play(stage) {
  let ann, bob;

  await stage.step("two come", async () => {
    ann = await stage.join("ann");
    bob = await stage.join("bob");
  });
  for (const thing of THINGS) await stage.step(`get ${thing}`, () => ann.ask("get", thing));
  for (const [name, args] of Object.entries(PUTS)) await stage.step(`put ${name}`, () => ann.ask("put", ...args));
  await stage.step("what kind of bytes", async () => {
    const [bytes] = [await ann.socket.emitWithAck("put", Uint8Array.of(1, 2))].flat();
    ann.finds("length", bytes.byteLength);
  });
  await stage.step("unnamed events", async () => {
    ann.socket.send("a text", () => ann.finds("acknowledged", "send"));
    await ann.got("message");
    await ann.ask("message", { a: "dict" });
    await ann.ask("json", { a: "dict" });
    await ann.ask("message", Uint8Array.of(1));
  });
  await stage.step("to all, to all others", () => bob.ask("send all"));
  await stage.step("events of the tutorials", async () => {
    await ann.ask("my_event", { data: "I am connected!" });
    await ann.ask("my_event");
    await ann.ask("my_event", 1, [2], "three");
    await ann.ask("naïve event ☃", "ok");
  });
  await stage.step("what is sent later is what it was", async () => {
    const value = { list: [1] };
    const answered = ann.ask("put", value);
    value.list.push(2);
    await answered;
  });
}
