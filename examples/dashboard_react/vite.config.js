import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The whole migration of this frontend: the name it imports leads to another file.
const client = fileURLToPath(new URL("../../hakgal_hybrid/web/static/client/client.js", import.meta.url));

export default defineConfig(({ mode }) => {
  const hybrid = mode === "hybrid" || process.env.TRANSPORT === "hybrid";
  return {
    plugins: [react()],
    resolve: { alias: hybrid ? { "socket.io-client": client } : {} },
    build: { outDir: hybrid ? "dist-hybrid" : "dist" },
  };
});
