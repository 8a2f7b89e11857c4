/**
 * `node client.mjs URL PACKAGES TRANSPORTS` connects socket.io-client, unmodified, to two namespaces, and prints what it
 * sees, a line of JSON each. A line of input has it close its Engine.IO; at the end of the input it ends.
 */

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, packages, transports] = process.argv.slice(2);
const { Manager } = createRequire(pathToFileURL(`${packages}/`))("socket.io-client");
const write = seen => process.stdout.write(`${JSON.stringify(seen)}\n`);

const manager = new Manager(url, { transports: transports.split(","), reconnectionDelay: 50, reconnectionDelayMax: 200 });
for (const namespace of ["/", "/news"]) {
  const socket = manager.socket(namespace, { auth: { who: "ann" } });
  socket.on("connect", () => write({ namespace, connect: socket.id, recovered: socket.recovered }));
  socket.on("disconnect", reason => write({ namespace, disconnect: reason }));
  socket.on("number", (number, ...rest) => {
    if (typeof rest.at(-1) === "function") {
      rest.pop()(number);
    }
    write({ namespace, number, rest });
  });
}
process.stdin.on("end", () => process.exit()).on("data", () => manager.engine.close());
