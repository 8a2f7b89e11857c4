/**
 * `node drive.mjs SCENARIO BASE PACKAGES [CLIENT]` plays a scenario: with socket.io-client, or with the client in the
 * file CLIENT. Prints the transcript. The line "restart" asks whoever reads it for another server; any line that comes
 * back says that it is there.
 */

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { Stage } from "./stage.mjs";

const [scenario, base, packages, client] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${packages}/`));
const { io } = client ? await import(pathToFileURL(client)) : require("socket.io-client");
const options = client ? { EventSource: require("eventsource").EventSource } : {};

const input = createInterface({ input: process.stdin });
const write = line => process.stdout.write(`${line}\n`);
const restart = async () => {
  const back = new Promise(done => input.once("line", done));
  write("restart");
  await back;
};

const { play } = await import(`./scenarios/${scenario}.mjs`);
await play(new Stage(io, base, { options, write, restart }));
process.stdout.write("", () => process.exit());
